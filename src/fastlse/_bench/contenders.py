"""Who computes a case: each library in its own idiom, at its best, on the case's threads.

A contender is a function of a case and its inputs; it returns the calls that it has, by operation.
Whoever takes an output array is given one, as fastlse is.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import fastlse
from fastlse._bench.cases import OURS, YARDSTICK, Case
from fastlse._bench.inputs import Inputs
from fastlse._bench.timing import Call

Calls = Mapping[str, Call]
Contender = Callable[[Case, Inputs], Calls]


class SkippedError(Exception):
    """A contender cannot run a case; the message says why."""


def library(name: str) -> Any:
    """Import an optional library."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise SkippedError(f"{name.partition('.')[0]} is not installed") from None


def prepare(
    contender: str, case: Case, inputs: Inputs, contenders: Mapping[str, Contender]
) -> Call:
    """The call by which a contender computes a case."""
    call = contenders[contender](case, inputs).get(case.operation)
    if call is None:
        raise SkippedError(f"{contender} has no {case.operation}")
    return call


def limit_threads(n_threads: int) -> None:
    """Let every library use so many threads; call it before the first of them is imported.

    Some read their environment once: a process cannot time one thread and then two.
    """
    for variable in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NPROC",  # JAX
        "TF_NUM_INTRAOP_THREADS",
    ):
        os.environ[variable] = str(n_threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool that lives on beside the clock
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no banner in the tables
    fastlse.set_num_threads(n_threads)


def ours(case: Case, inputs: Inputs) -> Calls:
    """fastlse, with `out` unless the case is the plain call."""
    x, axis, target = inputs.x, inputs.axis, inputs.target
    if case.option == "":  # as a user writes it: without a dictionary of keywords to unpack
        return {
            "logsumexp": lambda: fastlse.logsumexp(x, axis=axis),
            "softmax": lambda: fastlse.softmax(x, axis=axis),
            "log_softmax": lambda: fastlse.log_softmax(x, axis=axis),
            "cross_entropy_and_grad": lambda: fastlse.cross_entropy_and_grad(x, target),
        }
    out: Any = inputs.row_out if case.operation == "logsumexp" else inputs.out
    options = {"out": out, **_option(case, inputs)}
    target = options.pop("target", target)
    if inputs.threads != fastlse.get_num_threads():
        options["n_threads"] = inputs.threads
    return {
        "logsumexp": lambda: fastlse.logsumexp(x, axis=axis, **options),
        "softmax": lambda: fastlse.softmax(x, axis=axis, **options),
        "log_softmax": lambda: fastlse.log_softmax(x, axis=axis, **options),
        "cross_entropy_and_grad": lambda: fastlse.cross_entropy_and_grad(
            x, target, axis=axis, **options
        ),
    }


def _option(case: Case, inputs: Inputs) -> dict[str, Any]:
    """The keyword that a case adds to a call with `out`."""
    n_rows, n = case.shape
    rng = np.random.default_rng(1)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "out": dict,
        "b": lambda: {"b": rng.uniform(0.5, 2, inputs.x.shape).astype(case.dtype)},
        "where": lambda: {"where": rng.random(inputs.x.shape) < 0.9},
        "keepdims": lambda: {
            "keepdims": True,
            "out": np.expand_dims(inputs.row_out, inputs.axis),
        },
        "return_sign": lambda: {"return_sign": True},
        "weight": lambda: {"weight": rng.uniform(0.5, 2, n).astype(case.dtype)},
        "sample_weight": lambda: {"sample_weight": rng.uniform(0.5, 2, n_rows).astype(case.dtype)},
        "ignore_index": lambda: {"ignore_index": int(inputs.target[0])},
        "label_smoothing": lambda: {"label_smoothing": 0.1},
        "z_loss": lambda: {"z_loss": 1e-3},
        "softcap": lambda: {"softcap": 30.0},
        "probabilities": lambda: {"target": rng.dirichlet(np.ones(n), n_rows).astype(case.dtype)},
        "reduction": lambda: {"reduction": "none"},
    }
    return makers[case.option]()


def yardstick(case: Case, inputs: Inputs) -> Calls:
    """A NumPy reduction of the same rows, whatever the operation."""
    x, axis = inputs.x, inputs.axis
    return {case.operation: lambda: np.add.reduce(x, axis=axis)}


def numpy_formulas(case: Case, inputs: Inputs) -> Calls:
    """The formulas that subtract the maximum, in place in `out`."""
    x, axis, target, out = inputs.x, inputs.axis, inputs.target, inputs.out
    n_rows = case.shape[0]
    at_target = (np.arange(n_rows), target) if axis == 1 else (target, np.arange(n_rows))

    def logsumexp() -> object:
        row_max = x.max(axis=axis, keepdims=True)
        exponentials = np.subtract(x, row_max, out=out)
        np.exp(exponentials, out=exponentials)
        return np.log(exponentials.sum(axis=axis)) + row_max.squeeze(axis)

    def softmax() -> object:
        np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        np.exp(out, out=out)
        return np.divide(out, out.sum(axis=axis, keepdims=True), out=out)

    def log_softmax() -> object:
        shifted = np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        return np.subtract(out, np.log(np.exp(shifted).sum(axis=axis, keepdims=True)), out=out)

    def cross_entropy_and_grad() -> object:
        np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        target_logits = out[at_target]
        np.exp(out, out=out)
        sums = out.sum(axis=axis, keepdims=True)
        loss = (np.log(sums.squeeze(axis)) - target_logits).mean()
        np.divide(out, sums * n_rows, out=out)
        out[at_target] -= 1 / n_rows
        return loss, out

    return {
        "logsumexp": logsumexp,
        "softmax": softmax,
        "log_softmax": log_softmax,
        "cross_entropy_and_grad": cross_entropy_and_grad,
    }


def scipy(_case: Case, inputs: Inputs) -> Calls:
    """scipy.special's functions, which take no `out`."""
    special = library("scipy.special")
    x, axis = inputs.x, inputs.axis
    return {
        "logsumexp": lambda: special.logsumexp(x, axis=axis),
        "softmax": lambda: special.softmax(x, axis=axis),
        "log_softmax": lambda: special.log_softmax(x, axis=axis),
    }


def sklearn(case: Case, inputs: Inputs) -> Calls:
    """scikit-learn's softmax, and the loss behind its LogisticRegression.

    The loss and its gradient are those of each row, where the others give the mean's.
    """
    _check_axis(inputs, "scikit-learn")
    softmax = library("sklearn.utils.extmath").softmax
    loss = library("sklearn._loss").HalfMultinomialLoss(n_classes=case.shape[1])
    x, out, row_out, n_threads = inputs.x, inputs.out, inputs.row_out, inputs.threads
    target = inputs.target.astype(case.dtype)
    return {
        "softmax": lambda: softmax(x),
        "cross_entropy_and_grad": lambda: loss.loss_gradient(
            target, x, loss_out=row_out, gradient_out=out, n_threads=n_threads
        ),
    }


def numba(_case: Case, inputs: Inputs) -> Calls:
    """Loops compiled by numba."""
    package = library("numba")
    _check_axis(inputs, "numba")
    from fastlse._bench.loops import compiled_loops

    package.set_num_threads(inputs.threads)
    loops = compiled_loops(inputs.threads > 1)
    x, out, row_out, target = inputs.x, inputs.out, inputs.row_out, inputs.target
    return {
        "logsumexp": lambda: loops["logsumexp"](x, row_out),
        "softmax": lambda: loops["softmax"](x, out),
        "log_softmax": lambda: loops["log_softmax"](x, out),
        "cross_entropy_and_grad": lambda: loops["cross_entropy_and_grad"](x, target, out, row_out),
    }


def _check_axis(inputs: Inputs, contender: str) -> None:
    if inputs.axis != 1:
        raise SkippedError(f"{contender} takes the elements of a row along axis 1 only")


def _in(module: str, name: str) -> Contender:
    """A contender of a module that is read when it is used."""

    def contender(case: Case, inputs: Inputs) -> Calls:
        function: Contender = getattr(importlib.import_module(module), name)
        return function(case, inputs)

    return contender


_FRAMEWORKS = "fastlse._bench.frameworks"
CONTENDERS: dict[str, Contender] = {
    OURS: ours,
    YARDSTICK: yardstick,
    "NumPy": numpy_formulas,
    "SciPy": scipy,
    "scikit-learn": sklearn,
    "PyTorch": _in(_FRAMEWORKS, "torch_eager"),
    "torch.compile": _in(_FRAMEWORKS, "torch_compiled"),
    "JAX": _in(_FRAMEWORKS, "jax"),
    "ONNX Runtime": _in(_FRAMEWORKS, "onnxruntime"),
    "numba": numba,
    "TensorFlow": _in(_FRAMEWORKS, "tensorflow"),
}
