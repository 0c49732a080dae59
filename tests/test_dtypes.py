"""What each kind of input becomes: dtypes, scalars, masks, and objects that are no arrays."""

from __future__ import annotations

import decimal
import fractions

import numpy as np
import pandas as pd
import pytest
import scipy.special
from numpy.testing import assert_allclose, assert_array_equal

import fastlse

inf, nan = np.inf, np.nan
REDUCTIONS = [fastlse.logsumexp, fastlse.softmax, fastlse.log_softmax]
each_reduction = pytest.mark.parametrize("function", REDUCTIONS, ids=lambda f: f.__name__)


def random(shape=(4, 5), seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 3


@each_reduction
class TestReductions:
    def test_float16_is_computed_in_float32(self, backend, function):
        x = random((7, 300)).astype(np.float16)
        result = function(x, axis=1)
        assert result.dtype == np.float16
        assert_array_equal(result, function(x.astype(np.float32), axis=1).astype(np.float16))
        many = np.zeros(70_000, np.float16)  # more than float16 counts to
        assert_array_equal(
            function(many), np.asarray(function(many.astype(np.float32))).astype(np.float16)
        )

    @pytest.mark.parametrize(
        "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]
    )
    def test_integers_and_bools_become_float64(self, backend, function, dtype):
        x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (4, 5))
        result = function(x.astype(dtype), axis=1)
        assert result.dtype == np.float64
        assert_array_equal(result, function(x.astype(np.float64), axis=1))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_floats_keep_their_dtype(self, backend, function, dtype):
        assert function(random().astype(dtype), axis=1).dtype == dtype
        assert function(random().astype(dtype)).dtype == dtype

    def test_longdouble(self, backend, function):
        x = random().astype(np.longdouble)
        result = function(x, axis=1)
        assert result.dtype == np.longdouble
        expected = getattr(scipy.special, function.__name__)(x, axis=1)
        eps = float(np.finfo(np.longdouble).eps)
        assert_allclose(result, expected, rtol=100 * eps, atol=10 * eps)

    @pytest.mark.parametrize("dtype", ["complex64", "complex128", "clongdouble"])
    def test_complex(self, backend, function, dtype):
        x = (random() + 1j * random(seed=1)).astype(dtype)
        result = function(x, axis=1)
        assert result.dtype == dtype
        expected = getattr(scipy.special, function.__name__)(x, axis=1)
        # SciPy wraps phases with pi in float64, in clongdouble too.
        assert_allclose(result, expected, rtol=max(1e-16, 200 * np.finfo(dtype).eps))

    def test_lists_and_tuples(self, backend, function):
        expected = function(np.array([[1.0, 2.0], [3.0, 5.0]]), axis=0)
        assert_array_equal(function([[1, 2], [3, 5]], axis=0), expected)
        assert_array_equal(function(((1.0, 2), (3, 5.0)), axis=0), expected)
        assert_array_equal(function([np.array([1.0, 2.0]), [3, 5]], axis=0), expected)

    def test_scalars(self, backend, function):
        for value, dtype in [
            (2, np.float64),
            (2.0, np.float64),
            (True, np.float64),
            (np.float32(2), np.float32),
            (np.float16(2), np.float16),
            (np.int8(2), np.float64),
        ]:
            result = function(value)
            assert result.dtype == dtype
            assert result.shape == ()
            assert not isinstance(result, np.ndarray)

    def test_pandas(self, backend, function):
        frame = pd.DataFrame(random(), columns=list("abcde"))
        result = function(frame, axis=1)
        assert type(result) is np.ndarray
        assert_array_equal(result, function(frame.to_numpy(), axis=1))
        assert_array_equal(function(frame["b"]), function(frame["b"].to_numpy()))

    def test_subclasses(self, backend, function):
        class Subclass(np.ndarray):
            pass

        result = function(random().view(Subclass), axis=1)
        assert_array_equal(result, function(random(), axis=1))

    def test_array_protocols(self, backend, function):
        class HasArray:
            def __array__(self, dtype=None, copy=None):
                return random()

        assert_array_equal(function(HasArray(), axis=1), function(random(), axis=1))
        assert_array_equal(function(memoryview(random()), axis=1), function(random(), axis=1))

    @pytest.mark.parametrize("seed", range(3))
    def test_mask_is_honoured_as_where(self, backend, function, seed):
        x = random((6, 40), seed)
        mask = np.random.default_rng(seed).random(x.shape) < 0.3
        x[mask] = nan
        masked = np.ma.masked_array(x, mask)
        assert_array_equal(function(masked, axis=1), function(x, axis=1, where=~mask))
        assert_array_equal(function(masked, axis=0), function(x, axis=0, where=~mask))
        where = np.random.default_rng(9).random(x.shape) < 0.5
        assert_array_equal(
            function(masked, axis=1, where=where), function(x, axis=1, where=where & ~mask)
        )
        assert type(function(masked, axis=1)) is np.ndarray
        nothing_masked = np.ma.masked_array(random())
        assert_array_equal(function(nothing_masked, axis=1), function(random(), axis=1))
        all_masked = np.ma.masked_array(x, True)
        assert_array_equal(function(all_masked, axis=1), function(x, axis=1, where=False))

    def test_where_in_any_shape(self, backend, function):
        x = random((6, 40))
        row = np.arange(40) % 3 > 0
        column = np.arange(6)[:, None] % 2 > 0
        for where in (row, column, row[::-1], row.tolist(), column & row, True, False, [True]):
            full = np.broadcast_to(np.array(where), x.shape).copy()
            assert_array_equal(function(x, axis=1, where=where), function(x, axis=1, where=full))
        unmasked = np.ma.masked_array(row, mask=np.arange(40) < 5)
        expected = function(x, axis=1, where=row & (np.arange(40) >= 5))
        assert_array_equal(function(x, axis=1, where=unmasked), expected)

    def test_no_array(self, backend, function):
        with pytest.warns(PendingDeprecationWarning):
            matrix = np.matrix([[1.0, 2.0]])
        for bad in (
            matrix,
            None,
            "text",
            b"bytes",
            ["a", "b"],
            [[1, 2], [3]],
            {"a": 1},
            {1, 2},
            object(),
            [None, 1.0],
            len,
            np.array(["a"]),
            np.array(["2020-01-01"], "datetime64[D]"),
            np.array([1], "timedelta64[s]"),
            np.zeros(2, [("a", float)]),
            (i for i in range(3)),
        ):
            with pytest.raises(TypeError, match=r"\b(a|x)\b must be an array"):
                function(bad)


class TestFactors:
    def test_promotion(self, backend):
        x = random().astype(np.float32)
        for b, dtype in [
            (np.ones((4, 5), np.float32), np.float32),
            (np.ones((4, 5), np.float64), np.float64),
            (np.ones((4, 5), np.float16), np.float32),
            (np.ones((4, 5), np.int8), np.float32),
            (np.ones((4, 5), np.int64), np.float64),
            (np.ones((4, 5), bool), np.float32),
            (np.float64(1), np.float64),
            ([1.0] * 5, np.float64),
            (np.ones(5, np.complex64), np.complex64),
            (np.ones(5, np.longdouble), np.longdouble),
        ]:
            assert fastlse.logsumexp(x, axis=1, b=b).dtype == dtype
        assert fastlse.logsumexp(x.astype(np.float64), axis=1, b=np.float32(2)).dtype == np.float64
        assert fastlse.logsumexp(x.astype(np.float16), axis=1, b=np.float32(2)).dtype == np.float32

    def test_python_scalars_are_weak(self, backend):
        for dtype in (np.float16, np.float32, np.float64):
            x = random().astype(dtype)
            for b in (2, 2.0, True):
                assert fastlse.logsumexp(x, axis=1, b=b).dtype == dtype
            assert fastlse.logsumexp(x, axis=1, b=2j).dtype == np.result_type(dtype, 1j)
        assert fastlse.logsumexp(np.arange(3), b=2).dtype == np.float64

    def test_mask_of_b(self, backend):
        x, b = random((3, 4)), np.ma.masked_array(np.full((3, 4), 2.0), mask=np.eye(3, 4) > 0)
        expected = fastlse.logsumexp(x, axis=1, b=2.0, where=np.eye(3, 4) == 0)
        assert_array_equal(fastlse.logsumexp(x, axis=1, b=b), expected)

    def test_no_array(self, backend):
        for bad in ("text", object(), [[1], [2, 3]], [None]):
            with pytest.raises(TypeError, match=r"\bb\b must be an array"):
                fastlse.logsumexp([1.0, 2.0], b=bad)


class TestObjects:
    def test_logsumexp_rejects_them_as_scipy_does(self, backend):
        x = np.array([fractions.Fraction(1), decimal.Decimal(2)], object)
        for function in (fastlse.logsumexp, fastlse.log_softmax, fastlse.logsumexp_and_softmax):
            with pytest.raises(TypeError, match="got ndarray of shape"):
                function(x)


class TestLosses:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool", ">f4"])
    def test_logits(self, backend, dtype):
        logits = (random() > 0 if dtype == "bool" else random()).astype(dtype)
        target = [0, 1, 2, 4]
        loss, grad = fastlse.cross_entropy_and_grad(logits, target)
        expected = np.dtype("float64" if dtype in ("int32", "bool") else dtype).newbyteorder("=")
        assert loss.dtype == expected
        assert grad.dtype == expected
        computed = np.float32 if dtype == "float16" else expected
        reference = fastlse.cross_entropy_and_grad(logits.astype(computed), target)
        assert loss == reference[0].astype(expected)
        assert_array_equal(grad, reference[1].astype(expected))
        losses = fastlse.cross_entropy(logits, target, reduction="none")
        assert losses.dtype == expected

    def test_longdouble(self, backend):
        logits = random().astype(np.longdouble)
        loss, grad = fastlse.cross_entropy_and_grad(logits, [0, 1, 2, 4], reduction="none")
        assert loss.dtype == grad.dtype == np.longdouble
        expected = -scipy.special.log_softmax(logits, axis=1)[np.arange(4), [0, 1, 2, 4]]
        assert_allclose(loss, expected, rtol=1e-17)

    @pytest.mark.parametrize(
        "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"]
    )
    def test_target(self, backend, dtype):
        logits, target = random(), np.array([0, 1, 2, 4])
        expected = fastlse.cross_entropy(logits, target)
        assert fastlse.cross_entropy(logits, target.astype(dtype)) == expected
        wide = np.zeros((4, 3), dtype)
        wide[:, 1] = target
        assert fastlse.cross_entropy(logits, wide[:, 1]) == expected

    def test_target_that_wraps_around(self, backend):
        """What does not fit into int64 must not become a class, nor the ignored one."""
        logits = random()
        for bad in (2**64 - 1, 2**63, 2**64 - 100):
            target = np.array([0, 1, 2, bad], np.uint64)
            for ignore_index in (-100, -1):
                with pytest.raises(IndexError, match=f"got {bad} in row 3"):
                    fastlse.cross_entropy(logits, target, ignore_index=ignore_index)

    def test_lists_and_pandas(self, backend):
        logits, target = random(), np.array([0, 1, 2, 4])
        expected = fastlse.cross_entropy(logits, target)
        assert fastlse.cross_entropy(logits.tolist(), target.tolist()) == expected
        assert fastlse.cross_entropy(pd.DataFrame(logits), pd.Series(target)) == expected

    def test_weights_of_any_dtype(self, backend):
        logits, target = random(), [0, 1, 2, 4]
        weight, sample_weight = np.array([1, 2, 3, 4, 5]), np.array([2, 0, 1, 3])
        expected = fastlse.cross_entropy_and_grad(
            logits, target, weight * 1.0, sample_weight=sample_weight * 1.0
        )
        for dtype in (int, np.uint8, np.float32, np.float16, ">f8"):
            loss, grad = fastlse.cross_entropy_and_grad(
                logits, target, weight.astype(dtype), sample_weight=sample_weight.astype(dtype)
            )
            assert loss == expected[0]
            assert_array_equal(grad, expected[1])
        loss, _ = fastlse.cross_entropy_and_grad(
            logits, target, weight.tolist(), sample_weight=sample_weight.tolist()
        )
        assert loss == expected[0]

    def test_masked_logits_are_classes_that_cannot_be(self, backend):
        logits, target = random(), [0, 1, 2, 3]
        mask = np.eye(4, 5, 1) > 0
        masked = np.ma.masked_array(logits, mask)
        expected = fastlse.cross_entropy_and_grad(np.where(mask, -inf, logits), target)
        loss, grad = fastlse.cross_entropy_and_grad(masked, target)
        assert np.isfinite(loss)
        assert loss == expected[0]
        assert_array_equal(grad, expected[1])
        assert_array_equal(grad[mask], np.zeros(4))

    def test_masked_targets_are_ignored(self, backend):
        target = np.ma.masked_array([0, 99, 2, 4], mask=[False, True, False, False])
        expected = fastlse.cross_entropy(random(), [0, -100, 2, 4])
        assert fastlse.cross_entropy(random(), target) == expected

    def test_no_array(self, backend):
        for name in ("logits", "target", "weight", "sample_weight"):
            for bad in ("text", object(), [[1], [2, 3]], [None] * 4, {1: 2}, 1j * np.ones(4)):
                arguments = {"logits": random(), "target": [0, 1, 2, 4], name: bad}
                with pytest.raises(TypeError, match=rf"\b{name}\b must be an"):
                    fastlse.cross_entropy(**arguments)
