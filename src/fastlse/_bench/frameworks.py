"""The contenders that bring arrays of their own: they are made before the clock runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastlse._bench.contenders import Calls, library

if TYPE_CHECKING:
    from fastlse._bench.cases import Case
    from fastlse._bench.inputs import Inputs
    from fastlse._bench.timing import Call


def torch_eager(_case: Case, inputs: Inputs) -> Calls:
    """PyTorch's functions under inference mode, and autograd for the gradient."""
    torch = library("torch")
    torch.set_num_threads(inputs.threads)
    axis = inputs.axis
    x, out, row_out = map(torch.from_numpy, (inputs.x, inputs.out, inputs.row_out))
    calls: dict[str, Call] = {
        "logsumexp": lambda: torch.logsumexp(x, axis, out=row_out),
        "softmax": lambda: torch.softmax(x, axis, out=out),
        "log_softmax": lambda: torch.log_softmax(x, axis, out=out),
    }
    inference = {name: torch.inference_mode()(call) for name, call in calls.items()}
    return inference | {"cross_entropy_and_grad": _torch_loss(torch, inputs, lambda f: f)}


def torch_compiled(_case: Case, inputs: Inputs) -> Calls:
    """The same through torch.compile, which needs a C++ compiler and takes some seconds a case."""
    torch = library("torch")
    torch.set_num_threads(inputs.threads)
    torch.compiler.reset()  # otherwise the shapes before make this one a dynamic one, and slower
    x, axis = torch.from_numpy(inputs.x), inputs.axis

    def compiled(function: Callable[..., Any]) -> Any:
        return torch.compile(function, fullgraph=True, dynamic=False)

    functions = {
        "logsumexp": compiled(lambda x: torch.logsumexp(x, axis)),
        "softmax": compiled(lambda x: torch.softmax(x, axis)),
        "log_softmax": compiled(lambda x: torch.log_softmax(x, axis)),
    }
    calls = {name: _applied(function, x) for name, function in functions.items()}
    inference = {name: torch.no_grad()(call) for name, call in calls.items()}
    return inference | {"cross_entropy_and_grad": _torch_loss(torch, inputs, compiled)}


def _torch_loss(torch: Any, inputs: Inputs, wrapped: Callable[[Any], Any]) -> Call:
    logits = torch.from_numpy(inputs.x).requires_grad_()
    target = torch.from_numpy(inputs.target)
    if inputs.axis == 0:
        logits = logits.T
    cross_entropy = wrapped(torch.nn.functional.cross_entropy)

    def loss_and_gradient() -> object:
        loss = cross_entropy(logits, target)
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    return loss_and_gradient


def jax(_case: Case, inputs: Inputs) -> Calls:
    """JAX's functions under jit."""
    package = library("jax")
    package.config.update("jax_enable_x64", True)
    x, target = package.numpy.asarray(inputs.x), package.numpy.asarray(inputs.target)
    axis, n_rows = inputs.axis, inputs.target.size
    nn = package.nn

    def loss(x: Any, target: Any) -> Any:
        log_probabilities = nn.log_softmax(x, axis=axis)
        rows = package.numpy.arange(n_rows)
        at_target = (rows, target) if axis == 1 else (target, rows)
        return -log_probabilities[at_target].mean()

    def waited_for(function: Callable[..., Any], *arguments: Any) -> Call:
        compiled = package.jit(function)
        return lambda: package.block_until_ready(compiled(*arguments))

    return {
        "logsumexp": waited_for(lambda x: nn.logsumexp(x, axis=axis), x),
        "softmax": waited_for(lambda x: nn.softmax(x, axis=axis), x),
        "log_softmax": waited_for(lambda x: nn.log_softmax(x, axis=axis), x),
        "cross_entropy_and_grad": waited_for(package.value_and_grad(loss), x, target),
    }


_ONNX_NAMES = {"logsumexp": "ReduceLogSumExp", "softmax": "Softmax", "log_softmax": "LogSoftmax"}


def onnxruntime(case: Case, inputs: Inputs) -> Calls:
    """A model of one operator, bound to the arrays; gradients are for its training builds."""
    if case.operation not in _ONNX_NAMES:
        return {}
    runtime, onnx = library("onnxruntime"), library("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = inputs.threads
    options.log_severity_level = 3
    model = _onnx_model(onnx, case, inputs.axis).SerializeToString()
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    out = inputs.row_out if case.operation == "logsumexp" else inputs.out
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", runtime.OrtValue.ortvalue_from_numpy(inputs.x))
    binding.bind_output("y", "cpu", 0, case.dtype, out.shape, out.ctypes.data)

    def run() -> object:
        session.run_with_iobinding(binding)
        return out

    return {case.operation: run}


def _onnx_model(onnx: Any, case: Case, axis: int) -> Any:
    helper = onnx.helper
    dtype = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}[case.dtype]
    shape = list(case.shape if axis == 1 else case.shape[::-1])
    name = _ONNX_NAMES[case.operation]
    if case.operation == "logsumexp":
        node = helper.make_node(name, ["x", "axes"], ["y"], keepdims=0)
        constants = [helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [axis])]
        result_shape = [case.shape[0]]
    else:
        node, constants, result_shape = helper.make_node(name, ["x"], ["y"], axis=axis), [], shape
    graph = helper.make_graph(
        [node],
        "case",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, result_shape)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def tensorflow(_case: Case, inputs: Inputs) -> Calls:
    """TensorFlow's functions in graphs; the gradient by a tape."""
    package = library("tensorflow")
    package.get_logger().setLevel("ERROR")  # it warns of a function for each case
    x, target = package.constant(inputs.x), package.constant(inputs.target)
    axis = inputs.axis

    def cross_entropy_and_grad(x: Any) -> Any:
        with package.GradientTape() as tape:
            tape.watch(x)
            logits = x if axis == 1 else package.transpose(x)
            losses = package.nn.sparse_softmax_cross_entropy_with_logits(target, logits)
            loss = package.reduce_mean(losses)
        return loss, tape.gradient(loss, x)

    functions = {
        "logsumexp": lambda x: package.reduce_logsumexp(x, axis=axis),
        "softmax": lambda x: package.nn.softmax(x, axis=axis),
        "log_softmax": lambda x: package.nn.log_softmax(x, axis=axis),
        "cross_entropy_and_grad": cross_entropy_and_grad,
    }
    return {name: _applied(package.function(f), x) for name, f in functions.items()}


def _applied(function: Callable[[Any], object], x: Any) -> Call:
    return lambda: function(x)
