"""Losses of a linear layer: what the dense computation in float64 gives, without its memory."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from operations import assert_same_bits
from reference import DTYPES
from subprocesses import run

import fastlse
from fastlse import _linear, _linear_problem, linear_cross_entropy, linear_cross_entropy_and_grad
from fastlse.linear import LINEAR_GRADIENT_ERROR

# Relative to the largest entry: gradients are sums whose parts cancel.
TOLERANCE = {"float16": 3e-3, "float32": LINEAR_GRADIENT_ERROR, "float64": 1e-13}


def problem(n_rows, n_features, n_classes, dtype="float64", seed=0):
    """Features, weight, bias and targets, some of which are ignored."""
    rng = np.random.default_rng([seed, n_rows, n_features, n_classes])
    x = rng.standard_normal((n_rows, n_features)).astype(dtype)
    weight = rng.standard_normal((n_classes, n_features)) / max(1, n_features) ** 0.5
    target = rng.integers(n_classes, size=n_rows)
    target[rng.random(n_rows) < 0.2] = -100
    return x, weight.astype(dtype), rng.standard_normal(n_classes).astype(dtype), target


def dense(x, weight, target, linear_bias=None, weights=None, **options):
    """Loss and gradients from all logits, in float64."""
    x, weight = x.astype(float), weight.astype(float)
    logits = x @ weight.T
    if linear_bias is not None:
        logits = logits + linear_bias.astype(float)
    loss, grad = fastlse.cross_entropy_and_grad(logits, target, weights, **options)
    n_rows = grad.size // len(weight)
    flat, x = grad.reshape(n_rows, len(weight)), x.reshape(n_rows, weight.shape[1])
    bias_grad = None if linear_bias is None else flat.sum(axis=0)
    return loss, (grad @ weight, flat.T @ x, bias_grad)


def assert_near(result, expected, tolerance):
    """Arrays of one shape whose differences are small beside the largest entry."""
    assert np.shape(result) == np.shape(expected)
    largest = np.max(np.abs(expected), initial=1e-30)
    worst = np.max(np.abs(np.asarray(result, float) - expected), initial=0)
    assert worst <= tolerance * largest, f"{worst / largest:.2g} of the largest entry"


def assert_right(result, expected, dtype):
    tolerance = TOLERANCE[dtype]
    (loss, gradients), (expected_loss, expected_gradients) = result, expected
    assert np.asarray(loss).dtype == dtype
    assert_near(loss, expected_loss, tolerance)
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        if right is None:
            assert gradient is None
            continue
        assert gradient.dtype == dtype
        assert gradient.flags.c_contiguous
        assert_near(gradient, right, tolerance)


SHAPES = [(1, 1, 1), (7, 3, 2), (200, 20, 10), (150, 5, 70), (40, 90, 3), (129, 65, 300)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestAgainstTheDenseComputation:
    def test_plain(self, backend, shape, dtype):
        x, weight, bias, target = problem(*shape, dtype)
        target[0] = 0
        for linear_bias in (None, bias):
            expected = dense(x, weight, target, linear_bias)
            result = linear_cross_entropy_and_grad(x, weight, target, linear_bias=linear_bias)
            assert_right(result, expected, dtype)
            loss = linear_cross_entropy(x, weight, target, linear_bias=linear_bias)
            assert loss == result[0]

    @pytest.mark.parametrize("chunk_rows", [1, 7, 64, 10**9])
    def test_any_block(self, backend, shape, dtype, chunk_rows):
        """Blocks of every size, of neighbouring rows and of rows with gaps between them."""
        x, weight, bias, target = problem(*shape, dtype)
        for ignored in (target < -1000, target == -100, np.arange(len(x)) < len(x) // 3):
            target = np.where(ignored, -100, np.maximum(target, 0))
            expected = dense(x, weight, target, bias, reduction="sum")
            result = linear_cross_entropy_and_grad(
                x, weight, target, linear_bias=bias, reduction="sum", chunk_rows=chunk_rows
            )
            assert_right(result, expected, dtype)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_option(backend, data):
    shape = data.draw(st.tuples(st.integers(0, 40), st.integers(0, 70), st.integers(1, 90)))
    x, weight, bias, target = problem(*shape, seed=data.draw(st.integers(0, 99)))
    rng = np.random.default_rng(0)
    ignore_index = -100
    if data.draw(st.booleans()):
        target = rng.uniform(-0.2, 1, (shape[0], shape[2]))
    else:
        ignore_index = data.draw(st.sampled_from([-100, 0, shape[2] - 1]))
        target = np.where(target == -100, ignore_index, target)
    weights = data.draw(st.sampled_from([None, rng.uniform(0, 3, shape[2])]))
    options = {
        "linear_bias": data.draw(st.sampled_from([None, bias])),
        "sample_weight": data.draw(
            st.sampled_from([None, rng.uniform(0.1, 3, shape[0]) * (rng.random(shape[0]) > 0.2)])
        ),
        "ignore_index": ignore_index,
        "reduction": data.draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0])),
        "z_loss": data.draw(st.sampled_from([0.0, 0.1])),
        "softcap": data.draw(st.sampled_from([None, 1.5])),
    }
    chunk_rows = data.draw(st.sampled_from([None, 1, 8, 30]))
    expected = dense(x, weight, target, weights=weights, **options)
    options.update(weight=weights, chunk_rows=chunk_rows)
    result = linear_cross_entropy_and_grad(x, weight, target, **options)
    if np.isnan(expected[0]).any():
        assert np.isnan(result[0])
        result, expected = (0.0, result[1]), (0.0, expected[1])
    loss = linear_cross_entropy(x, weight, target, **options)
    assert_array_equal(loss, linear_cross_entropy_and_grad(x, weight, target, **options)[0])
    assert_near(result[0], expected[0], 1e-12)
    for gradient, right in zip(result[1], expected[1], strict=True):
        if right is None:
            assert gradient is None
        else:
            assert_near(gradient, right, 1e-12)


@pytest.mark.parametrize("seed", range(60))
def test_torch(seed):
    """Autograd through PyTorch's linear and cross_entropy."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    batch = tuple(rng.integers(1, 9, size=rng.integers(0, 4)))
    n_features, n_classes = int(rng.integers(1, 30)), int(rng.choice([2, 3, 10, 100]))
    x = rng.standard_normal((*batch, n_features))
    arrays = x, rng.standard_normal((n_classes, n_features)), rng.standard_normal(n_classes)
    target = rng.integers(n_classes, size=batch)
    options = {
        "reduction": str(rng.choice(["mean", "sum", "none"])),
        "label_smoothing": float(rng.choice([0, 0.2])),
        "weight": rng.uniform(0.1, 2, n_classes) if rng.random() < 0.5 else None,
    }
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    logits = torch.nn.functional.linear(*leaves).reshape(-1, n_classes)
    weight = None if options["weight"] is None else torch.tensor(options["weight"])
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(target.reshape(-1)), **{**options, "weight": weight}
    )
    expected.sum().backward()
    chunk_rows = int(rng.integers(1, 20))
    loss, gradients = linear_cross_entropy_and_grad(
        arrays[0], arrays[1], target, linear_bias=arrays[2], chunk_rows=chunk_rows, **options
    )
    shape = batch if options["reduction"] == "none" else ()
    assert_near(loss, expected.detach().numpy().reshape(shape), 1e-12)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        assert_near(gradient, leaf.grad.numpy(), 1e-12)


def test_float32_with_many_classes_is_accurate(backend):
    """Twice as good as promised, where plain float32 sums of 30522 numbers miss it."""
    x, weight, bias, target = problem(600, 48, 30522, "float32")
    expected = dense(x, weight, target, bias)
    result = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias)
    for gradient, right in zip(result[1], expected[1], strict=True):
        assert_near(gradient, right, LINEAR_GRADIENT_ERROR / 2)


def test_float32_with_many_rows_is_accurate(backend):
    x, weight, bias, target = problem(200_000, 20, 10, "float32")
    expected = dense(x, weight, target, bias)
    result = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias)
    assert_right(result, expected, "float32")
    for gradient, right in zip(result[1][1:], expected[1][1:], strict=True):
        assert_near(gradient, right, LINEAR_GRADIENT_ERROR / 2)


def test_many_blocks_add_up(backend):
    """Blocks are added in more than float32, which would lose a digit over thousands of them."""
    x, weight, bias, target = problem(20_000, 5, 3, "float32")
    expected = dense(x, weight, target, bias)
    result = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias, chunk_rows=4)
    for gradient, right in zip(result[1][1:], expected[1][1:], strict=True):
        assert_near(gradient, right, LINEAR_GRADIENT_ERROR / 10)


class TestClassProbabilities:
    def case(self, n_rows=60, n_features=7, n_classes=5, dtype="float64"):
        x, weight, bias, _ = problem(n_rows, n_features, n_classes, dtype)
        q = np.random.default_rng(1).random((n_rows, n_classes))
        return x, weight, bias, q.astype(dtype)

    @pytest.mark.parametrize("n_classes", [5, 70])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_any_layout_and_dtype(self, backend, dtype, n_classes):
        x, weight, bias, q = self.case(n_classes=n_classes, dtype=dtype)
        expected = dense(x, weight, q, bias, softcap=2.0)
        wide = np.zeros((60, 2 * n_classes), dtype)
        wide[:, ::2] = q
        for of_q in (q, np.asfortranarray(q), wide[:, ::2], q.astype(q.dtype.newbyteorder())):
            result = linear_cross_entropy_and_grad(
                x, weight, of_q, linear_bias=bias, softcap=2.0, chunk_rows=7
            )
            assert_right(result, expected, dtype)
        for other in ("float16", "float32", "float64"):
            expected = dense(x, weight, q.astype(other), bias)
            result = linear_cross_entropy_and_grad(
                x, weight, q.astype(other), linear_bias=bias, chunk_rows=7
            )
            assert_right(result, expected, dtype)

    def test_more_dimensions(self, backend):
        x, weight, _bias, q = self.case()
        expected = linear_cross_entropy_and_grad(x, weight, q, reduction="none", chunk_rows=7)
        for order in ("C", "F"):
            result = linear_cross_entropy_and_grad(
                x.reshape(3, 4, 5, 7).copy(order),
                weight,
                q.reshape(3, 4, 5, 5).copy(order),
                reduction="none",
                chunk_rows=7,
            )
            assert_near(result[0], expected[0].reshape(3, 4, 5), 1e-13)
            assert_near(result[1][0], expected[1][0].reshape(3, 4, 5, 7), 1e-13)
            assert_near(result[1][1], expected[1][1], 1e-13)
        one = linear_cross_entropy_and_grad(x[0], weight, q[0])
        assert_near(one[0], expected[0][0], 1e-13)
        assert_near(one[1][0], expected[1][0][0], 1e-13)

    def test_float16(self, backend):
        x, weight, bias, q = self.case(dtype="float16")
        expected = dense(x, weight, q, bias, z_loss=0.1)
        result = linear_cross_entropy_and_grad(x, weight, q, linear_bias=bias, z_loss=0.1)
        assert_right(result, expected, "float16")

    def test_rows_of_weight_zero_may_hold_anything(self, backend):
        x, weight, bias, q = self.case()
        sample_weight = (np.arange(60) % 3 > 0) * 1.5
        options = {"sample_weight": sample_weight, "linear_bias": bias, "chunk_rows": 7}
        expected = linear_cross_entropy_and_grad(x, weight, q, **options)
        x[::3], q[::3] = np.nan, np.inf
        loss, gradients = linear_cross_entropy_and_grad(x, weight, q, **options)
        assert_same_bits((loss, *gradients), (expected[0], *expected[1]))
        assert not gradients[0][::3].any()

    def test_are_read_by_blocks(self, backend):
        """Another dtype than the logits': converted a block at a time."""
        x, weight, _bias, q = self.case(20_000, 4, 50)
        q = q.astype(np.float32)
        tracemalloc.start()
        try:
            linear_cross_entropy(x, weight, q, chunk_rows=100)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < q.nbytes / 2

    def test_bad_ones(self, backend):
        x, weight, _bias, q = self.case()
        with pytest.raises(TypeError, match=r"logits' shape \(60, 5\), got.*shape \(60, 4\)"):
            linear_cross_entropy(x, weight, q[:, :4])
        with pytest.raises(ValueError, match="ignore_index must be negative"):
            linear_cross_entropy(x, weight, q, ignore_index=0)
        with pytest.raises(ValueError, match="softcap must be"):
            linear_cross_entropy(x, weight, q, softcap=0)
        with pytest.raises(ValueError, match="z_loss must be"):
            linear_cross_entropy(x, weight, q, z_loss=-1)


class TestIgnoredRows:
    @pytest.mark.parametrize("n_classes", [5, 100])
    @pytest.mark.parametrize("chunk_rows", [None, 1, 6, 30])
    def test_may_hold_anything(self, backend, n_classes, chunk_rows):
        x, weight, bias, target = problem(60, 8, n_classes)
        sample_weight = np.ones(60)
        sample_weight[::7] = 0
        target[10:40] = -100
        dropped = (target == -100) | (sample_weight == 0)
        expected = linear_cross_entropy_and_grad(
            x[~dropped], weight, target[~dropped], linear_bias=bias
        )
        x[dropped] = np.resize([np.nan, np.inf, -np.inf], (60, 8))[dropped]
        options = {"linear_bias": bias, "sample_weight": sample_weight, "chunk_rows": chunk_rows}
        loss, (grad_x, grad_weight, grad_bias) = linear_cross_entropy_and_grad(
            x, weight, target, **options
        )
        assert_near(loss, expected[0], 1e-13)
        assert_array_equal(grad_x[dropped], 0)
        assert_near(grad_x[~dropped], expected[1][0], 1e-13)
        assert_near(grad_weight, expected[1][1], 1e-13)
        assert_near(grad_bias, expected[1][2], 1e-13)
        losses = linear_cross_entropy(x, weight, target, reduction="none", **options)
        assert_array_equal(losses[dropped], 0)
        assert np.all(losses[~dropped] > 0)

    def test_all(self, backend):
        x, weight, bias, target = problem(9, 4, 3)
        x[:] = np.nan
        target[:] = -100
        for reduction in ("mean", "sum"):
            loss, gradients = linear_cross_entropy_and_grad(
                x, weight, target, linear_bias=bias, reduction=reduction
            )
            assert np.isnan(loss) if reduction == "mean" else loss == 0
            for gradient in gradients:
                assert not gradient.any()

    def test_are_not_computed(self, backend, monkeypatch):
        x, weight, _, target = problem(64, 4, 3)
        target[:] = 1
        target[:48] = -100
        rows = []
        block = _linear._block
        monkeypatch.setattr(_linear, "_block", lambda x, r, d: rows.append(r) or block(x, r, d))
        linear_cross_entropy(x, weight, target, chunk_rows=8)
        assert rows == [slice(48, 56), slice(56, 64)]


def test_kept_nan_reaches_everything(backend):
    x, weight, bias, target = problem(20, 4, 3)
    target[3], x[3, 0] = 1, np.nan
    loss, (grad_x, grad_weight, grad_bias) = linear_cross_entropy_and_grad(
        x, weight, target, linear_bias=bias
    )
    assert np.isnan(loss)
    assert np.isnan(grad_weight).all()
    assert np.isnan(grad_bias).all()
    assert_array_equal(np.isnan(grad_x).all(axis=1), np.arange(20) == 3)


class TestSparse:
    @pytest.mark.parametrize("kind", ["csr_array", "csr_matrix"])
    @pytest.mark.parametrize("chunk_rows", [None, 1, 11])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_is_its_dense_self(self, backend, kind, chunk_rows, dtype):
        sparse = pytest.importorskip("scipy.sparse")
        for shape in [(50, 30, 4), (50, 3, 70), (33, 200, 200)]:
            x, weight, bias, target = problem(*shape, dtype)
            x[np.random.default_rng(0).random(x.shape) < 0.8] = 0
            expected = dense(x, weight, target, bias)
            given = getattr(sparse, kind)(x)
            options = {"linear_bias": bias, "chunk_rows": chunk_rows}
            result = linear_cross_entropy_and_grad(given, weight, target, **options)
            assert_right(result, expected, dtype)
            assert all(type(gradient) is np.ndarray for gradient in result[1])
            assert linear_cross_entropy(given, weight, target, **options) == result[0]

    @pytest.mark.parametrize("dtype", ["int8", "bool", "float32"])
    def test_other_dtypes(self, backend, dtype):
        sparse = pytest.importorskip("scipy.sparse")
        _, weight, _, target = problem(30, 6, 5)
        x = np.random.default_rng(0).integers(0, 2, (30, 6)).astype(dtype)
        result = linear_cross_entropy_and_grad(sparse.csr_array(x), weight, target)
        assert_right(result, dense(x, weight, target), "float64")

    def test_other_formats(self, backend):
        sparse = pytest.importorskip("scipy.sparse")
        for kind in (sparse.csc_array, sparse.coo_matrix):
            with pytest.raises(TypeError, match=r"x must be an array or a CSR.*tocsr\(\)"):
                linear_cross_entropy(kind(np.eye(3)), np.eye(3), [0, 1, 2])

    def test_invalid_indices(self, backend):
        """SciPy itself would read beyond its arrays."""
        sparse = pytest.importorskip("scipy.sparse")
        for array, place, value in [("indices", 1, 10**6), ("indices", 0, -5), ("indptr", 2, 99)]:
            x = sparse.csr_array(np.eye(4))
            getattr(x, array)[place] = value
            with pytest.raises(ValueError, match="x must be a valid CSR matrix"):
                linear_cross_entropy(x, np.eye(4), [0, 1, 2, 3])

    def test_scipy_is_not_imported(self):
        run("""
            import sys, numpy, fastlse
            fastlse.linear_cross_entropy_and_grad(numpy.eye(3), numpy.eye(3), [0, 1, 2])
            assert "scipy" not in sys.modules
            """)


class TestLayouts:
    def layouts(self, x):
        yield np.asfortranarray(x)
        yield np.repeat(x, 2, axis=1)[:, ::2]
        yield np.pad(x, 3)[3:-3, 3:-3]
        yield x[::-1, ::-1].copy()[::-1, ::-1]
        yield np.repeat(x, 2, axis=0)[::2]
        yield x.astype(x.dtype.newbyteorder())
        unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        unaligned[...] = x
        yield unaligned
        read_only = x.copy()
        read_only.flags.writeable = False
        yield read_only
        yield x.tolist()

    @pytest.mark.parametrize("n_classes", [5, 80])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_x_and_weight(self, backend, n_classes, dtype):
        x, weight, bias, target = problem(50, 12, n_classes, dtype)
        expected = dense(x, weight, target, bias)
        for given_x in self.layouts(x):
            for given_weight in (weight, *self.layouts(weight)):
                result = linear_cross_entropy_and_grad(
                    given_x, given_weight, target, linear_bias=bias, chunk_rows=20
                )
                of = np.result_type(np.asarray(given_x), np.asarray(given_weight)).name
                assert_right(result, expected, of)

    def test_overlapping_rows(self, backend):
        """Windows of a series: rows nearer to each other than they are long."""
        series = np.random.default_rng(0).standard_normal(60)
        x = np.lib.stride_tricks.sliding_window_view(series, 12)
        _, weight, _, target = problem(len(x), 12, 4)
        result = linear_cross_entropy_and_grad(x, weight, target)
        assert_right(result, dense(x, weight, target), "float64")

    def test_more_dimensions(self, backend):
        x, weight, bias, target = problem(60, 7, 5)
        shaped = x.reshape(3, 4, 5, 7)
        options = {"linear_bias": bias, "reduction": "none"}
        expected = linear_cross_entropy_and_grad(x, weight, target, **options)
        for given_x in (
            shaped,
            np.asfortranarray(shaped),
            np.moveaxis(shaped, 0, 1).copy().swapaxes(0, 1),
        ):
            loss, gradients = linear_cross_entropy_and_grad(
                given_x, weight, target.reshape(3, 4, 5), **options
            )
            assert_near(loss, expected[0].reshape(3, 4, 5), 1e-14)
            assert_near(gradients[0], expected[1][0].reshape(3, 4, 5, 7), 1e-13)
            assert_near(gradients[1], expected[1][1], 1e-13)

    def test_one_row(self, backend):
        x, weight, bias, _ = problem(1, 7, 5)
        loss, (grad_x, grad_weight, _) = linear_cross_entropy_and_grad(
            x[0], weight, 2, linear_bias=bias
        )
        expected = dense(x, weight, np.array([2]), bias)
        assert np.shape(loss) == ()
        assert_near(loss, expected[0], 1e-14)
        assert_near(grad_x, expected[1][0][0], 1e-14)
        assert_near(grad_weight, expected[1][1], 1e-14)

    @pytest.mark.parametrize("shape", [(0, 3, 4), (5, 0, 4), (0, 0, 1)])
    def test_empty(self, backend, shape):
        x, weight, bias, target = problem(*shape)
        result = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias, reduction="sum")
        assert_right(result, dense(x, weight, target, bias, reduction="sum"), "float64")


class TestDtypes:
    @pytest.mark.parametrize(
        ("of_x", "of_weight", "of_bias", "of_result"),
        [
            ("float32", "float64", "float32", "float64"),
            ("float64", "float32", "float32", "float64"),
            ("float32", "float32", "float64", "float64"),
            ("float16", "float32", "float32", "float32"),
            ("float16", "float16", "float16", "float16"),
            ("uint8", "float32", "float32", "float32"),
            ("int64", "float32", "float32", "float64"),
            ("int64", "int64", "int64", "float64"),
            ("float64", "float64", "longdouble", "longdouble"),
        ],
    )
    def test_promotion(self, backend, of_x, of_weight, of_bias, of_result):
        x, weight, bias, target = problem(50, 6, 4)
        x, weight, bias = np.abs(x * 3).astype(of_x), (3 * weight).astype(of_weight), (bias * 3)
        bias = bias.astype(of_bias)
        loss, gradients = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias)
        expected = dense(x, weight, target, bias)
        assert {loss.dtype, *(gradient.dtype for gradient in gradients)} == {np.dtype(of_result)}
        tolerance = TOLERANCE.get(of_result, 1e-13)
        assert_near(loss, expected[0], tolerance)
        for gradient, right in zip(gradients, expected[1], strict=True):
            assert_near(gradient, right, tolerance)

    def test_float16_is_computed_in_float32(self, backend):
        x, weight, bias, target = problem(50, 6, 4, "float16")
        wider = [array.astype(np.float32) for array in (x, weight, bias)]
        result = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias)
        expected = linear_cross_entropy_and_grad(*wider[:2], target, linear_bias=wider[2])
        assert result[0] == np.float16(expected[0])
        for gradient, right in zip(result[1], expected[1], strict=True):
            assert_array_equal(gradient, right.astype(np.float16))

    def test_masked_entries_count_as_zero(self, backend):
        x, weight, bias, target = problem(30, 6, 4)
        arrays = [np.ma.masked_array(a, np.abs(a) < 0.3) for a in (x, weight, bias)]
        filled = [a.filled(0) for a in arrays]
        masked_target = np.ma.masked_array(np.maximum(target, 0), target == -100)
        result = linear_cross_entropy_and_grad(*arrays[:2], masked_target, linear_bias=arrays[2])
        assert_right(result, dense(*filled[:2], target, filled[2]), "float64")


class TestMemory:
    def peak(self, function, *arguments, **options):
        """The most that a call holds, its results and its scratch included."""
        function(*arguments, **options)
        _linear._kept_scratch.clear()
        tracemalloc.start()
        try:
            result = function(*arguments, **options)
            return tracemalloc.get_traced_memory()[1], result
        finally:
            tracemalloc.stop()

    def test_with_many_classes(self, backend):
        """Less than 64 MB beside inputs and gradients, where the logits take 244 MB."""
        x, weight, _, target = problem(2000, 8, 30522, "float32")
        peak, result = self.peak(linear_cross_entropy_and_grad, x, weight, target)
        limit = 64e6
        if backend == "numpy":
            limit *= 1.5  # its own blocks, in float64
        assert peak - sum(array.nbytes for array in result[1][:2]) < limit
        peak, _ = self.peak(linear_cross_entropy, x, weight, target)
        assert peak < limit

    @pytest.mark.parametrize("kind", ["float32", "float64", ">f4", "float16", "uint8"])
    def test_a_mapped_x_is_read_by_blocks(self, backend, tmp_path, kind):
        """Whatever its dtype, and with gaps between the rows that count."""
        shape = (200_000, 30)
        mapped = np.memmap(tmp_path / "x", kind, "w+", shape=shape)
        mapped[...] = np.random.default_rng(0).integers(0, 5, shape)
        mapped.flush()
        x = np.memmap(tmp_path / "x", kind, "r", shape=shape)
        weight = np.random.default_rng(1).standard_normal((5, 30)).astype(np.float32)
        target = np.arange(len(x)) % 5
        limit = 8e6 if backend != "numpy" else 16e6
        for n_ignored in (0, 60_000):
            target[:n_ignored:2] = -100
            rows = 8 * len(x)  # at most an index for each row
            peak, loss = self.peak(linear_cross_entropy, x, weight, target)
            assert peak < limit + 2 * rows
            given = linear_cross_entropy(np.array(x), weight, target)
            assert loss == given

    def test_without_the_gradient_of_x(self, backend):
        """Nobody pays for what nobody wants."""
        x, weight, bias, target = problem(100_000, 50, 3)
        options = fastlse._targets.as_options("mean", -100, 0.0)
        checked = _linear_problem.linear_problem(x, weight, target, bias, None, None, options, None)
        wanted = ("weight", "bias")
        peak, result = self.peak(_linear.loss_and_gradients, checked, wanted, None)
        assert peak < x.nbytes / 2
        loss, (grad_x, grad_weight, grad_bias) = result
        expected = linear_cross_entropy_and_grad(x, weight, target, linear_bias=bias)
        assert grad_x is None
        assert_same_bits((loss, grad_weight, grad_bias), (expected[0], *expected[1][1:]))


class TestScratch:
    """A call's scratch is kept for the next call."""

    def test_what_is_left_in_it_changes_nothing(self, backend):
        arguments = [problem(*shape, "float32") for shape in [(500, 9, 100), (300, 5, 70)]]
        fresh = []
        for x, weight, _, target in arguments:
            _linear._kept_scratch.clear()
            fresh.append(linear_cross_entropy_and_grad(x, weight, target))
        for (x, weight, _, target), expected in zip(arguments[::-1], fresh[::-1], strict=True):
            linear_cross_entropy(np.full_like(x, np.nan), weight, target)
            scratch = _linear._kept_scratch[0]
            result = linear_cross_entropy_and_grad(x, weight, target)
            assert _linear._kept_scratch[0] is scratch
            assert_same_bits((result[0], *result[1][:2]), (expected[0], *expected[1][:2]))
            assert not any(np.shares_memory(scratch, grad) for grad in result[1][:2])

    def test_calls_side_by_side_have_one_each(self, backend):
        x, weight, _, target = problem(2000, 20, 50)
        expected = linear_cross_entropy_and_grad(x, weight, target, chunk_rows=100)
        with ThreadPoolExecutor(8) as pool:
            calls = [
                pool.submit(linear_cross_entropy_and_grad, x, weight, target, chunk_rows=100)
                for _ in range(40)
            ]
            for call in calls:
                loss, gradients = call.result()
                assert_same_bits((loss, *gradients[:2]), (expected[0], *expected[1][:2]))
        assert len(_linear._kept_scratch) == 1

    def test_large_ones_are_not_kept(self, backend, monkeypatch):
        x, weight, _, target = problem(100, 3, 10)
        monkeypatch.setattr(_linear, "MOST_BYTES", 100 * 10 * 8 - 1)
        _linear._kept_scratch.clear()
        linear_cross_entropy(x, weight, target, chunk_rows=100)
        assert not _linear._kept_scratch
        linear_cross_entropy(x, weight, target, chunk_rows=99)
        assert len(_linear._kept_scratch) == 1


@pytest.mark.usefixtures("threads_for_small_problems")
def test_threads_change_no_bit(backend):
    for shape in [(3000, 12, 10), (300, 12, 500)]:
        x, weight, bias, target = problem(*shape, "float32")
        results = []
        for n_threads in (1, 2, 3):
            loss, gradients = linear_cross_entropy_and_grad(
                x, weight, target, linear_bias=bias, n_threads=n_threads
            )
            results.append((loss, *gradients))
        assert_same_bits(results[1], results[0])
        assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("function", [linear_cross_entropy, linear_cross_entropy_and_grad])
class TestBadInput:
    x, weight, bias, target = problem(6, 4, 3)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            (
                {"linear_weight": np.ones((3, 5))},
                ValueError,
                r"linear_weight must have shape \(n_classes, 4\).*\(6, 4\), got shape \(3, 5\)",
            ),
            (
                {"linear_weight": np.ones(4)},
                ValueError,
                r"linear_weight must have shape.*got shape \(4,\)",
            ),
            (
                {"linear_weight": "no"},
                TypeError,
                "linear_weight must be an array of real numbers, got the string 'no'",
            ),
            (
                {"linear_weight": np.ones((3, 4), complex)},
                TypeError,
                "linear_weight must be an array of real numbers",
            ),
            (
                {"linear_bias": np.ones(4)},
                ValueError,
                r"linear_bias must have shape \(3,\).*got shape \(4,\)",
            ),
            (
                {"linear_bias": 1.0},
                ValueError,
                r"linear_bias must have shape \(3,\).*got shape \(\)",
            ),
            ({"x": 1.0}, ValueError, "x must have an axis of features, got the scalar"),
            ({"x": np.ones((6, 4), complex)}, TypeError, "x must be an array of real numbers"),
            (
                {"chunk_rows": 0},
                ValueError,
                "chunk_rows must be an integer of at least 1 or None, got 0",
            ),
            (
                {"chunk_rows": -3},
                ValueError,
                "chunk_rows must be an integer of at least 1 or None, got -3",
            ),
            (
                {"chunk_rows": 2.0},
                TypeError,
                r"chunk_rows must be an integer of at least 1 or None, got 2\.0",
            ),
            ({"chunk_rows": float("nan")}, TypeError, "chunk_rows must be an integer.*got nan"),
            ({"chunk_rows": True}, TypeError, "chunk_rows must be an integer.*got True"),
            (
                {"target": [0, 1, 2]},
                ValueError,
                r"target must have the logits' shape less the class axis, \(6,\), got shape \(3,\)",
            ),
            (
                {"target": [0, 1, 2, 0, 3, 0]},
                IndexError,
                r"target must be in \[0, 3\).*got 3 in row 4",
            ),
            (
                {"weight": np.ones(4)},
                ValueError,
                r"weight must have shape \(3,\).*got shape \(4,\)",
            ),
            ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight must have shape \(6,\)"),
            (
                {"reduction": "max"},
                ValueError,
                "reduction must be 'mean', 'sum' or 'none', got 'max'",
            ),
            (
                {"label_smoothing": float("nan")},
                ValueError,
                "label_smoothing must be between 0 and 1, got nan",
            ),
            ({"ignore_index": 0.5}, TypeError, r"ignore_index must be an int, got 0\.5"),
            ({"n_threads": 0}, ValueError, "n_threads must be an integer of at least 1, got 0"),
            ({"axis": 0}, TypeError, "axis"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_is_named(self, backend, function, changes, error, message):
        arguments = {"x": self.x, "linear_weight": self.weight, "target": self.target, **changes}
        with pytest.raises(error, match=message):
            function(**arguments)

    def test_options_are_keywords(self, backend, function):
        with pytest.raises(TypeError, match="positional argument"):
            function(self.x, self.weight, self.target, self.bias)


def test_no_warnings_from_extreme_numbers(backend, recwarn):
    x, weight, _, target = problem(6, 4, 3, "float32")
    for value in (np.inf, np.nan, 3e38):
        x[2] = value
        linear_cross_entropy_and_grad(x, weight * 10, target)
    assert not recwarn.list


def test_block_sizes():
    """Blocks never exceed the memory allowed, and have the rows that BLAS needs."""
    rows = _linear_problem.as_chunk_rows
    for n_features, n_classes in [(1, 1), (64, 10), (384, 30522), (4096, 250_000), (10**6, 3)]:
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            for n_rows in (0, 1, 63, 1000, 10**9):
                x = np.broadcast_to(np.float32(0), (n_rows, n_features))
                chunk = rows(None, x, n_classes, dtype)
                row_bytes = (n_features + n_classes) * dtype.itemsize
                assert chunk >= 1
                assert chunk == 1 or chunk * row_bytes <= _linear_problem.MOST_BYTES
                assert chunk < n_rows + 16
    assert rows(None, np.empty((4096, 384)), 30522, np.dtype(np.float32)) == 464
