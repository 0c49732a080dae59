"""The binary loss of logits and its gradient: values, accuracy, options, layouts and edge cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from operations import assert_same_bits
from reference import DTYPES, assert_within, factor, longdouble, needs_longdouble, ulp

import fastlse
from fastlse import binary
from fastlse import binary_cross_entropy_with_logits as bce
from fastlse import binary_cross_entropy_with_logits_and_grad as bce_and_grad

LOSS, GRADIENT = binary.BINARY_CROSS_ENTROPY_ULP, binary.BINARY_GRADIENT_ULP

each_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Logit, loss and gradient of target 0 in float64, each right to an ulp.
TABLE = [
    (1e-4, 0.69319718180994527312, 0.50002499999997918056),
    (1e-3, 0.69364730555994014161, 0.50024999997916663741),
    (0.01, 0.69815968050786225696, 0.50249997916687494381),
    (0.1, 0.74439666007357085942, 0.52497918747894001257),
    (1.0, 1.31326168751822280889, 0.73105857863000478503),
    (10.0, 10.00004539889921773010, 0.99995460213129760962),
]


@np.errstate(all="ignore")
def exact(z, y, weight=None, pos_weight=None):
    """Each element's loss and the two terms of its gradient, in longdouble."""
    z, y = z.astype(longdouble), np.asarray(y).astype(longdouble)
    w = longdouble(1) if weight is None else np.asarray(weight).astype(longdouble)
    p = longdouble(1) if pos_weight is None else np.asarray(pos_weight).astype(longdouble)
    e = np.exp(-np.abs(z))
    log = np.log1p(e)
    against_one, against_zero = np.maximum(-z, 0) + log, np.maximum(z, 0) + log
    loss = w * (p * y * against_one + (1 - y) * against_zero)
    up = w * (1 - y) * np.where(z < 0, e, 1) / (1 + e)
    down = w * p * y * np.where(z < 0, 1, e) / (1 + e)
    return loss, up, down


def logits_of_every_size(dtype, n=40_000, seed=0):
    rng = np.random.default_rng(seed)
    deepest = 104 if dtype == "float32" else 746
    z = [
        rng.uniform(-3, 3, n),
        rng.uniform(-40, 40, n),
        rng.uniform(-deepest, deepest, n),
        np.linspace(-800, 800, 32_001),
    ]
    return np.concatenate(z).astype(dtype)


def problem(shape, dtype="float64", seed=0):
    """Logits, soft targets among hard ones, weights and weights of the positive."""
    rng = np.random.default_rng([seed, *shape])
    z = rng.standard_normal(shape) * 10 ** rng.uniform(-1, 1.5, shape)
    y = np.where(rng.random(shape) < 0.5, rng.random(shape), rng.random(shape) < 0.5)
    weight, pos_weight = rng.uniform(0, 2, shape), rng.uniform(0.1, 5, shape)
    return tuple(np.asarray(array).astype(dtype) for array in (z, y, weight, pos_weight))


class TestAccuracy:
    @pytest.mark.parametrize(("z", "expected_loss", "expected_grad"), TABLE)
    def test_the_reference_table(self, backend, z, expected_loss, expected_grad):
        """As exactly as the table has them, as a mean and as a row alike."""
        loss, grad = bce_and_grad(np.array([z]), np.array([0.0]))
        assert abs(loss - expected_loss) <= np.spacing(expected_loss)
        assert abs(grad[0] - expected_grad) <= np.spacing(expected_grad)
        losses, grads = bce_and_grad([z, 5.0], [0, 1], reduction="none")
        assert losses[0] == loss
        assert grads[0] == grad[0]

    def test_the_table_is_true(self):
        mp = pytest.importorskip("mpmath")
        with mp.workprec(300):
            for z, loss, grad in TABLE:
                assert abs(mp.log1p(mp.exp(mp.mpf(z))) - loss) < np.spacing(loss)
                assert abs(1 / (1 + mp.exp(-mp.mpf(z))) - grad) < np.spacing(grad)

    @each_dtype
    def test_where_the_naive_form_breaks(self, backend, dtype):
        loss, grad = bce_and_grad(np.array([10, 100, 1000], dtype), [0, 0, 0], reduction="none")
        assert_array_equal(loss[1:], np.array([100, 1000], dtype))
        assert_array_equal(grad[1:], np.array([1, 1], dtype))
        if dtype == "float32":
            assert loss[0] == np.float32(10.00004577636718750000)
            assert grad[0] == np.float32(0.99995458126068115234)

    @needs_longdouble
    @each_dtype
    @pytest.mark.parametrize("y", [0, 1])
    @pytest.mark.parametrize("reduction", ["none", "mean"])
    def test_hard_targets(self, backend, dtype, y, reduction):
        """Relative, over all logits, down to the smallest subnormal; a mean's divisor is free."""
        z = logits_of_every_size(dtype)
        target = np.full(z.shape, y, dtype)
        exact_loss, up, down = exact(z, target)
        divisor = 1 if reduction == "none" else z.size
        loss, grad = bce_and_grad(z, target, reduction=reduction)
        if reduction == "none":
            assert_within(loss, exact_loss, factor(backend) * LOSS)
            assert_array_equal(bce(z, target, reduction="none"), loss)
        else:
            assert_within(loss, exact_loss.mean(), factor(backend) * LOSS)
        assert_within(grad, (up - down) / divisor, factor(backend) * GRADIENT)

    @needs_longdouble
    @each_dtype
    @pytest.mark.parametrize("weights", ["", "weight", "pos_weight", "weight pos_weight"])
    def test_soft_targets_and_weights(self, backend, dtype, weights):
        """A loss to an ulp more for each option, a gradient relative to its larger term."""
        z = logits_of_every_size(dtype, 20_000)
        rng = np.random.default_rng(1)
        y = np.where(rng.random(z.shape) < 0.3, rng.random(z.shape) < 0.5, rng.random(z.shape))
        tiny = rng.random(z.shape) < 0.1
        y = np.where(tiny, 10 ** rng.uniform(-30, 0, z.shape), y).astype(dtype)
        options = {
            name: (10 ** rng.uniform(-4, 4, z.shape)).astype(dtype) for name in weights.split()
        }
        exact_loss, up, down = exact(z, y, **options)
        loss, grad = bce_and_grad(z, y, reduction="none", **options)
        more = 1 + len(options)
        assert_within(loss, exact_loss, factor(backend) * (LOSS + more))
        larger = np.maximum(up, down)
        in_ulp = np.abs(grad - (up - down)) / ulp(larger, dtype)
        assert in_ulp.max() <= factor(backend) * (GRADIENT + more)

    def test_mean_of_many(self, backend):
        """A mean over a million keeps its digits; a plain float32 sum would lose four."""
        z, y = np.float32(0.3), np.float32(1)
        loss = bce(np.broadcast_to(z, 10**6), np.broadcast_to(y, 10**6))
        assert loss == bce(z, y)


class TestOptions:
    @needs_longdouble
    @each_dtype
    def test_reductions(self, backend, dtype):
        z, y, weight, pos_weight = problem((31, 7), dtype)
        exact_loss, up, down = exact(z, y, weight, pos_weight)
        rtol = 20 * np.finfo(dtype).eps
        for reduction, total, divisor in [
            ("none", exact_loss, 1),
            ("sum", exact_loss.sum(), 1),
            ("mean", exact_loss.mean(), z.size),
        ]:
            options = {"pos_weight": pos_weight, "reduction": reduction}
            loss, grad = bce_and_grad(z, y, weight, **options)
            assert_allclose(loss, total.astype(dtype), rtol=rtol)
            slope, size = (up - down) / divisor, np.maximum(up, down).max() / divisor
            assert_allclose(grad, slope, rtol=rtol, atol=rtol * size)
            assert_array_equal(bce(z, y, weight, **options), loss)
            assert np.asarray(loss).dtype == dtype

    @needs_longdouble
    @pytest.mark.parametrize("options", list(itertools.product([0, 1], [0, 1], ["hard", "soft"])))
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_gradient_is_the_derivative(self, backend, options, reduction):
        """Differences of fourth order of the loss in longdouble."""
        z, y, weight, pos_weight = problem((9,), seed=3)
        z = np.clip(z, -20, 20)
        if options[2] == "hard":
            y = np.round(y)
        weight = weight if options[0] else None
        pos_weight = pos_weight if options[1] else None
        _, grad = bce_and_grad(z, y, weight, pos_weight=pos_weight, reduction=reduction)
        step = longdouble(2) ** -10

        def loss_at(steps):
            return exact(z.astype(longdouble) + steps * step, y, weight, pos_weight)[0]

        rise = 8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))
        slope = rise / (12 * step) / (z.size if reduction == "mean" else 1)
        assert_allclose(grad, slope.astype(float), rtol=1e-9, atol=1e-12)

    @each_dtype
    def test_weights_broadcast(self, backend, dtype):
        z, y, weight, pos_weight = problem((5, 4, 70), dtype)
        for shape in [(), (1,), (70,), (4, 1), (5, 1, 1), (5, 1, 70), (1, 4, 70)]:
            first = tuple(slice(0, n) for n in shape)
            corner = (0,) * (3 - len(shape))
            part = weight[corner][first], pos_weight[corner][first]
            full = tuple(np.broadcast_to(array, z.shape).copy() for array in part)
            expected = bce_and_grad(z, y, full[0], pos_weight=full[1], reduction="none")
            result = bce_and_grad(z, y, part[0], pos_weight=part[1], reduction="none")
            assert_same_bits(result, expected)
        assert bce(z, y, 2.0) == pytest.approx(2 * bce(z, y), rel=1e-6)

    def test_weight_of_one_and_none(self, backend):
        z, y, _, _ = problem((300,))
        ones = np.ones(300)
        expected = bce_and_grad(z, y, reduction="none")
        assert_same_bits(bce_and_grad(z, y, ones, pos_weight=ones, reduction="none"), expected)

    def test_weight_zero_leaves_out(self, backend):
        """Exact zeros, whatever the element holds; the mean still counts it, as PyTorch's."""
        z = np.array([np.nan, np.inf, -np.inf, 1.0])
        y = np.array([0, 0, np.nan, 1.0])
        weight = np.array([0, 0, 0, 1.0])
        loss, grad = bce_and_grad(z, y, weight, reduction="none")
        assert_array_equal(loss[:3], [0, 0, 0])
        assert_array_equal(grad[:3], [0, 0, 0])
        assert bce(z, y, weight) == loss[3] / 4

    def test_masked_elements_are_left_out(self, backend):
        z = np.ma.MaskedArray([np.nan, 1.0, 2.0, 3.0], [True, False, False, False])
        y = np.ma.MaskedArray([1.0, 1.0, np.nan, 0.0], [False, False, True, False])
        loss, grad = bce_and_grad(z, y)
        kept, kept_grad = bce_and_grad([1.0, 3.0], [1, 0])
        assert loss == kept
        assert_array_equal(grad, [0, kept_grad[0], 0, kept_grad[1]])
        weight = np.ma.MaskedArray([1.0, 5.0], [False, True])
        assert bce([1.0, 3.0], [1, 0], weight, reduction="sum") == bce(1.0, 1)
        everything = np.ma.MaskedArray([1.0, 2.0], True)
        loss, grad = bce_and_grad(everything, [0, 1])
        assert np.isnan(loss)
        assert_array_equal(grad, [0, 0])
        assert bce(everything, [0, 1], reduction="sum") == 0


class TestEdgeCases:
    @each_dtype
    @pytest.mark.parametrize("weighted", [False, True])
    def test_infinite_logits(self, backend, dtype, weighted):
        z = np.array([np.inf, -np.inf, np.inf, -np.inf], dtype)
        y = np.array([1, 0, 0, 1], dtype)
        options = {"weight": np.full(4, 2, dtype), "pos_weight": 3} if weighted else {}
        loss, grad = bce_and_grad(z, y, reduction="none", **options)
        assert_array_equal(loss, [0, 0, np.inf, np.inf])
        assert_array_equal(grad, [0, 0, 2, -6] if weighted else [0, 0, 1, -1])
        assert bce(z[:2], y[:2]) == 0
        assert bce(z, y) == np.inf

    @each_dtype
    def test_nan(self, backend, dtype):
        for z, y in [(np.nan, 0), (np.nan, 1), (1, np.nan), (np.inf, np.nan), (np.nan, 0.5)]:
            loss, grad = bce_and_grad(np.array([z, 0], dtype), np.array([y, 0], dtype))
            assert np.isnan(loss)
            assert_array_equal(np.isnan(grad), [True, False])

    @each_dtype
    def test_targets_outside_of_0_and_1(self, backend, dtype):
        """Taken as they are: softplus(z) - z y."""
        z, y = np.array([1.5, -2, 0.5], dtype), np.array([2, -1, -3], dtype)
        loss, grad = bce_and_grad(z, y, reduction="none")
        assert_allclose(loss, fastlse.softplus(z) - z * y, rtol=4e-6)
        assert_allclose(grad, fastlse.expit(z) - y, rtol=4e-6)

    @each_dtype
    def test_nothing(self, backend, dtype):
        for shape in [(0,), (3, 0)]:
            z = np.empty(shape, dtype)
            loss, grad = bce_and_grad(z, z)
            assert np.isnan(loss)
            assert grad.shape == shape
            assert bce(z, z, reduction="sum") == 0
            assert bce(z, z, reduction="none").shape == shape

    @each_dtype
    def test_scalars(self, backend, dtype):
        loss, grad = bce_and_grad(np.array(2, dtype), 1)
        rows = bce_and_grad(np.array([2], dtype), [1])
        assert type(loss) is type(grad) is np.dtype(dtype).type
        assert (loss, grad) == (rows[0], rows[1][0])
        assert bce(np.array(2, dtype), 1, reduction="none") == loss


class TestDtypes:
    @pytest.mark.parametrize("target", ["bool", "int8", "uint64", "float16", "float32", "float64"])
    @each_dtype
    def test_targets_of_any_dtype(self, backend, dtype, target):
        z = problem((50,), dtype)[0]
        y = np.arange(50) % 2
        expected = bce_and_grad(z, y.astype(dtype))
        assert_same_bits(bce_and_grad(z, y.astype(target)), expected)

    def test_float16_is_computed_in_float32(self, backend):
        z, y, weight, _ = problem((50,), "float16")
        loss, grad = bce_and_grad(z, y, weight)
        wide_loss, wide_grad = bce_and_grad(z.astype("float32"), y, weight)
        assert_same_bits((loss, grad), (np.float16(wide_loss), wide_grad.astype("float16")))
        assert_array_equal(bce_and_grad(z, y, weight, out=z)[1], grad)

    def test_integer_logits_become_float64(self, backend):
        loss, grad = bce_and_grad([3, -1], [1, 0])
        assert type(loss) is np.float64
        assert_same_bits((loss, grad), bce_and_grad([3.0, -1.0], [1.0, 0.0]))

    @needs_longdouble
    def test_longdouble_keeps_its_digits(self, backend):
        z, y, weight, pos_weight = (a.astype(longdouble) / 3 for a in problem((50,)))
        loss, grad = bce_and_grad(z, y, weight, pos_weight=pos_weight)
        exact_loss, up, down = exact(z, y, weight, pos_weight)
        rtol = 20 * np.finfo(longdouble).eps
        assert loss.dtype == grad.dtype == longdouble
        assert_allclose(loss, exact_loss.mean(), rtol=rtol)
        assert_allclose(grad, (up - down) / 50, rtol=rtol, atol=rtol)


def strided(x, kind):
    """The numbers of `x` in another layout."""
    if kind == "steps":
        return np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3]
    if kind == "backwards":
        return x[::-1, ::-1].copy()[::-1, ::-1]
    if kind == "swapped":
        return x.astype(x.dtype.newbyteorder())
    if kind == "unaligned":
        return np.frombuffer(bytearray(b"." + x.tobytes()), x.dtype, offset=1).reshape(x.shape)
    return np.asfortranarray(x) if kind == "Fortran" else x.copy()


KINDS = ["plain", "steps", "backwards", "swapped", "unaligned", "Fortran"]


@each_dtype
class TestLayouts:
    @pytest.mark.parametrize("shape", [(3, 5), (61, 37), (700, 101)])
    def test_any_layout(self, backend, dtype, shape):
        """Each operand in a layout of its own; each element has the bits of the plain copy's."""
        given = problem(shape, dtype)
        expected = bce_and_grad(*given[:3], pos_weight=given[3], reduction="none")
        for shift in range(len(KINDS)):
            kinds = [KINDS[(shift + i) % len(KINDS)] for i in range(5)]
            z, y, weight, pos_weight, out = map(strided, (*given, given[0]), kinds)
            result = bce_and_grad(z, y, weight, pos_weight=pos_weight, reduction="none")
            assert_same_bits(result, expected)
            if out.dtype.isnative:
                bce_and_grad(z, y, weight, pos_weight=pos_weight, reduction="none", out=out)
                assert_same_bits((out,), (expected[1],))

    def test_the_sum_of_views_and_of_their_copies(self, backend, dtype):
        given = problem((700, 101), dtype)[:2]
        expected = bce_and_grad(*given)
        for kind in ("steps", "backwards", "swapped", "unaligned"):
            assert_same_bits(bce_and_grad(*(strided(x, kind) for x in given)), expected)
        transposed = bce(given[0].T, given[1].T)
        assert transposed == pytest.approx(expected[0], rel=4 * float(np.finfo(dtype).eps))

    @pytest.mark.parametrize("kind", ["plain", "steps", "unaligned", "Fortran"])
    def test_in_place(self, backend, dtype, kind):
        given = problem((61, 37), dtype)
        for n_weights in (0, 1, 2):
            weights = [*given[2 : 2 + n_weights], None, None]
            z = strided(given[0], kind)
            options = {"weight": weights[0], "pos_weight": weights[1]}
            loss, grad = bce_and_grad(z.copy(order="K"), given[1], **options)
            result = bce_and_grad(z, given[1], **options, out=z)
            assert result[1] is z
            assert_same_bits(result, (loss, grad))

    @pytest.mark.parametrize("operand", [0, 1, 2])
    def test_overlaps(self, backend, dtype, operand):
        """With the logits in part, with the targets and with a weight: as if there were none."""
        for shift, n_operands in itertools.product((0, 1, 7, 600), range(2 + operand // 2, 4)):
            memory = problem((3000,), dtype)[0]
            arrays = [array.copy() for array in problem((2000,), dtype)[:n_operands]]
            arrays[operand] = memory[:2000]
            expected = bce_and_grad(*(array.copy() for array in arrays))
            out = memory[shift : shift + 2000]
            result = bce_and_grad(*arrays, out=out)
            assert result[1] is out
            assert_same_bits(result, expected)

    def test_number_of_threads(self, compiled_backend, dtype, threads_for_small_problems):
        z, y, weight, _ = problem((300_001,), dtype)
        for options in ({}, {"weight": weight}):
            alone = bce_and_grad(z, y, **options, n_threads=1)
            with fastlse.threads(3):
                assert_same_bits(bce_and_grad(z, y, **options), alone)
            for n_threads in (2, 7):
                result = bce_and_grad(z, y, **options, n_threads=n_threads)
                assert_same_bits(result, alone)

    def test_position_and_number_of_elements(self, backend, dtype):
        """And the short way of plain calls gives what the general way gives."""
        z, y, _, _ = problem((300,), dtype)
        losses, grads = bce_and_grad(z, y, reduction="none")
        for start, stop in [(0, 1), (3, 64), (5, 70), (31, 64), (33, 300), (299, 300)]:
            part = bce_and_grad(z[start:stop], y[start:stop], reduction="none")
            assert_same_bits(part, (losses[start:stop], grads[start:stop]))
            short = bce_and_grad(z[start:stop], y[start:stop])
            assert_same_bits(short, bce_and_grad(z[start:stop], y[start:stop], n_threads=1))


class TestArguments:
    def test_shapes(self, backend):
        z = np.zeros((3, 4))
        for shape in [(3,), (4,), (4, 3), (3, 1), ()]:
            with pytest.raises(ValueError, match=r"target must have the logits' shape \(3, 4\), g"):
                bce(z, np.zeros(shape))
        for name in ("weight", "pos_weight"):
            for shape in [(3,), (2, 3, 4), (4, 4)]:
                with pytest.raises(ValueError, match=rf"^{name} must be broadcastable to shape"):
                    bce(z, z, **{name: np.zeros(shape)})

    @pytest.mark.parametrize("name", ["logits", "target", "weight", "pos_weight"])
    @pytest.mark.parametrize("value", [[1j], np.array([1.0], object), "text", b"bytes"])
    def test_no_numbers(self, backend, name, value):
        arguments = {"logits": [1.0], "target": [1.0], name: value}
        with pytest.raises(TypeError, match=f"^{name} must be an array"):
            bce_and_grad(**arguments)

    def test_reduction(self, backend):
        for value in ("average", None, 1):
            with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got"):
                bce([1.0], [1.0], reduction=value)

    def test_threads(self, backend):
        with pytest.raises(ValueError, match="n_threads must be an integer of at least 1, got 0"):
            bce([1.0], [1.0], n_threads=0)

    def test_nothing_is_written_before_all_is_checked(self, backend):
        z = np.ones(3)
        for arguments in (
            {"target": np.zeros(4)},
            {"weight": np.zeros(2)},
            {"pos_weight": "text"},
            {"reduction": "all"},
            {"n_threads": -1},
        ):
            out = np.full(3, 7.0)
            with pytest.raises((TypeError, ValueError)):
                bce_and_grad(z, **{"target": z, **arguments}, out=out)
            assert_array_equal(out, [7, 7, 7])

    def test_rejected_out(self, backend):
        z = np.ones((3, 4))
        with pytest.raises(TypeError, match="out must have dtype float64, got dtype float32"):
            bce_and_grad(z, z, out=np.empty((3, 4), np.float32))
        with pytest.raises(ValueError, match=r"out must have shape \(3, 4\), got shape \(12,\)"):
            bce_and_grad(z, z, out=np.empty(12))
        out = np.zeros((3, 4))
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out must be writeable"):
            bce_and_grad(z, z, out=out)


def random_call(rng):
    """Arrays and options as both libraries take them."""
    shape = tuple(rng.integers(1, 9, size=rng.integers(0, 4)))
    z = rng.standard_normal(shape) * 10 ** rng.uniform(-2, 2.5)
    y = rng.random(shape) if rng.random() < 0.5 else (rng.random(shape) < 0.5) * 1.0
    options = {"reduction": str(rng.choice(["mean", "sum", "none"]))}
    for name in ("weight", "pos_weight"):
        kind = rng.integers(4)
        if kind:
            of = (shape, shape[1:], tuple(n if rng.random() < 0.5 else 1 for n in shape))[kind - 1]
            options[name] = np.asarray(rng.uniform(0.1, 5, of))
    return np.asarray(z), np.asarray(y), options


@pytest.mark.parametrize("seed", range(20))
def test_torch(backend, seed):
    """A thousand calls with random options, value and gradient, apart and in place."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    for _ in range(50):
        z, y, options = random_call(rng)
        given = torch.tensor(z, requires_grad=True)
        theirs = {k: torch.tensor(v) if k != "reduction" else v for k, v in options.items()}
        function = torch.nn.functional.binary_cross_entropy_with_logits
        expected = function(given, torch.tensor(y), **theirs)
        expected.sum().backward()
        # PyTorch's own p - y is as accurate as 1, and its softplus(z) - z y as z.
        rounding = {"rtol": 1e-9, "atol": 1e-13}
        loss, grad = bce_and_grad(z, y, **options)
        assert_allclose(loss, expected.detach().numpy(), **rounding)
        assert_allclose(grad, given.grad.numpy(), **rounding)
        assert_array_equal(bce(z, y, **options), loss)
        if z.ndim:
            in_place = bce_and_grad(z, y, **options, out=z)
            assert in_place[1] is z
            assert_same_bits(in_place, (loss, grad))
