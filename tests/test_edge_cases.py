"""The edge cases of the contract, one test for each row of its table; warnings are errors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import DTYPES

import fastlse

inf, nan = np.inf, np.nan

# Lengths for both kernels, with and without a tail, in one block and in several.
LENGTHS = [1, 2, 10, 64, 65, 300, 5000, 70_000]


def row(n, dtype, **at):
    """A row of n numbers, with others at the places first, middle and last."""
    x = np.random.default_rng(n).standard_normal(n).astype(dtype)
    for place, value in at.items():
        x[{"first": 0, "middle": n // 2, "last": n - 1}[place]] = value
    return x


def in_every_form(x):
    """A row alone, as one of few, as one of many, and as a column of many."""
    few = np.tile(np.zeros_like(x), (3, 1))
    few[1] = x
    yield x[None], 1, 0
    yield few, 1, 1
    if x.size <= 300:
        many = np.tile(np.zeros_like(x), (70, 1))
        many[67] = x
        yield many, 1, 67
        yield np.ascontiguousarray(many.T), 0, 67


def logsumexp_in_every_form(x):
    results = [fastlse.logsumexp(x), fastlse.logsumexp(x, n_threads=1)]
    for array, axis, place in in_every_form(x):
        results.append(fastlse.logsumexp(array, axis=axis)[place])
    return np.array(results)


def rows_in_every_form(function, x):
    results = [function(x)]
    for array, axis, place in in_every_form(x):
        results.append(function(array, axis=axis).take(place, axis=1 - axis))
    return np.array(results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
class TestSpecialValues:
    def test_logsumexp_of_nan(self, backend, dtype, n):
        for place in ("first", "middle", "last"):
            assert np.isnan(logsumexp_in_every_form(row(n, dtype, **{place: nan}))).all()
        mixed = row(n, dtype, first=inf, last=nan)
        assert np.isnan(logsumexp_in_every_form(mixed)).all()
        mixed = row(n, dtype, first=nan, last=inf if n > 1 else nan)
        assert np.isnan(logsumexp_in_every_form(mixed)).all()
        for place in {0, n // 3, n - 1}:
            nothing_else = np.full(n, -inf, dtype)
            nothing_else[place] = nan
            assert np.isnan(logsumexp_in_every_form(nothing_else)).all()

    def test_logsumexp_of_infinity(self, backend, dtype, n):
        for place in ("first", "middle", "last"):
            assert (logsumexp_in_every_form(row(n, dtype, **{place: inf})) == inf).all()
        assert (logsumexp_in_every_form(row(n, dtype, first=-inf, last=inf)) == inf).all()
        assert (logsumexp_in_every_form(np.full(n, inf, dtype)) == inf).all()

    def test_logsumexp_of_minus_infinity(self, backend, dtype, n):
        assert (logsumexp_in_every_form(np.full(n, -inf, dtype)) == -inf).all()
        lse, sign = fastlse.logsumexp(np.full((2, n), -inf, dtype), axis=1, return_sign=True)
        assert_array_equal(lse, [-inf, -inf])
        assert_array_equal(sign, [0, 0])

    def test_softmax_of_no_number(self, backend, dtype, n):
        for x in (
            np.full(n, -inf, dtype),
            row(n, dtype, middle=inf),
            row(n, dtype, last=nan),
            row(n, dtype, first=inf, last=nan),
            np.full(n, inf, dtype),
        ):
            assert np.isnan(rows_in_every_form(fastlse.softmax, x)).all()
            assert np.isnan(rows_in_every_form(fastlse.log_softmax, x)).all()
            lse, softmax = fastlse.logsumexp_and_softmax(x)
            assert_array_equal(lse, fastlse.logsumexp(x))
            assert np.isnan(softmax).all()

    def test_where_all_false(self, backend, dtype, n):
        x = row(n, dtype, middle=nan)
        for array, axis, place in in_every_form(x):
            where = np.zeros(array.shape, bool)
            assert fastlse.logsumexp(array, axis=axis, where=where)[place] == -inf
            softmax = fastlse.softmax(array, axis=axis, where=where)
            assert_array_equal(softmax, np.zeros_like(array))
            assert not np.signbit(softmax).any()
            log_softmax = fastlse.log_softmax(array, axis=axis, where=where)
            assert_array_equal(log_softmax, np.full_like(array, -inf))
        assert fastlse.logsumexp(x, where=False) == -inf
        assert_array_equal(fastlse.softmax(x, where=False), np.zeros_like(x))
        lse, sign = fastlse.logsumexp(x, where=False, return_sign=True)
        assert (lse, sign) == (-inf, 0)

    def test_where_leaves_out_what_is_no_number(self, backend, dtype, n):
        x = np.concatenate([row(n, dtype), np.array([nan, inf, -inf], dtype)])
        for array, axis, place in in_every_form(x):
            where = np.moveaxis(np.ones(array.shape, bool), axis, -1)
            where[..., -3:] = False
            where = np.moveaxis(where, -1, axis)
            lse = fastlse.logsumexp(array, axis=axis, where=where)[place]
            assert lse == fastlse.logsumexp(x[:n], n_threads=1)
            softmax = fastlse.softmax(array, axis=axis, where=where).take(place, axis=1 - axis)
            assert_array_equal(softmax[n:], [0, 0, 0])
            assert softmax[:n].sum() == pytest.approx(1, rel=1e-5)
            logs = fastlse.log_softmax(array, axis=axis, where=where).take(place, axis=1 - axis)
            assert_array_equal(logs[n:], [-inf, -inf, -inf])
            assert np.isfinite(logs[:n]).all()

    def test_gradient_of_a_row_without_any_class(self, backend, dtype, n):
        x = np.full(n, -inf, dtype)
        for array, axis, place in in_every_form(x):
            target = np.zeros(array.shape[1 - axis], np.int64)
            for smoothing in (0.0, 0.25):
                loss, grad = fastlse.cross_entropy_and_grad(
                    array, target, axis=axis, reduction="none", label_smoothing=smoothing
                )
                assert np.isnan(loss[place])
                assert_array_equal(grad.take(place, axis=1 - axis), np.zeros(n))
                assert np.isfinite(np.delete(loss, place)).all()

    def test_loss_of_no_number(self, backend, dtype, n):
        for special in (nan, inf):
            x = row(n, dtype, middle=special)
            for array, axis, place in in_every_form(x):
                target = np.zeros(array.shape[1 - axis], np.int64)
                loss, grad = fastlse.cross_entropy_and_grad(
                    array, target, axis=axis, reduction="none"
                )
                assert np.isnan(loss[place])
                assert np.isnan(grad.take(place, axis=1 - axis)).all()
                assert np.isfinite(np.delete(loss, place)).all()

    def test_ignored_rows_hold_anything(self, backend, dtype, n):
        for special in (nan, inf, -inf):
            for array, axis, place in in_every_form(np.full(n, special, dtype)):
                n_rows = array.shape[1 - axis]
                ignored = np.zeros(n_rows, np.int64)
                ignored[place] = -100
                weightless = np.ones(n_rows)
                weightless[place] = 0
                zeros = np.zeros(n_rows, np.int64)
                for target, sample_weight in [(ignored, None), (zeros, weightless)]:
                    for reduction in ("none", "sum"):
                        loss, grad = fastlse.cross_entropy_and_grad(
                            array,
                            target,
                            axis=axis,
                            sample_weight=sample_weight,
                            reduction=reduction,
                            label_smoothing=0.1,
                        )
                        of_row = grad.take(place, axis=1 - axis)
                        assert_array_equal(of_row, np.zeros(n))
                        assert not np.signbit(of_row).any()
                        assert np.isfinite(loss).all()
                        if reduction == "none":
                            assert loss[place] == 0
                            assert not np.signbit(loss[place])


class TestFactors:
    @pytest.mark.parametrize("special", [nan, inf, -inf])
    def test_zero_drops_the_element(self, backend, special):
        assert fastlse.logsumexp([special, 1.0], b=[0, 1]) == 1
        assert fastlse.logsumexp([special, 1.0, special], b=[0, 2, 0]) == pytest.approx(
            1 + np.log(2)
        )
        assert fastlse.logsumexp([special, special], b=[0.0, 0.0]) == -inf
        lse, sign = fastlse.logsumexp([special, special], b=[0.0, -0.0], return_sign=True)
        assert (lse, sign) == (-inf, 0)

    def test_negative_sum(self, backend):
        assert np.isnan(fastlse.logsumexp([1.0, 2.0], b=[1, -1]))
        assert np.isnan(fastlse.logsumexp([1.0], b=-1.0))
        lse, sign = fastlse.logsumexp([1.0, 1.0], b=[1, -3], return_sign=True)
        assert (lse, sign) == (pytest.approx(1 + np.log(2)), -1)
        lse, sign = fastlse.logsumexp([inf, 0.0], b=[-1, 1], return_sign=True)
        assert (lse, sign) == (inf, -1)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [2, 10, 64, 100, 5000])
    def test_exact_cancellation(self, backend, dtype, n):
        for value in (0, 1, -700, 0.1):
            x = np.full(n, value, dtype)
            b = np.resize(np.array([1, -1], dtype), n)
            assert fastlse.logsumexp(x, b=b) == -inf
            lse, sign = fastlse.logsumexp(x, b=b, return_sign=True)
            assert (lse, sign) == (-inf, 0)

    def test_infinities_of_both_signs(self, backend):
        lse, sign = fastlse.logsumexp([inf, inf], b=[1, -1], return_sign=True)
        assert np.isnan(lse)
        assert np.isnan(sign)

    def test_nan(self, backend):
        assert np.isnan(fastlse.logsumexp([0.0, 1.0], b=[nan, 1]))
        assert np.isnan(fastlse.logsumexp([nan, 1.0], b=[1, 1]))
        lse, sign = fastlse.logsumexp([nan, 1.0], b=[1, 1], return_sign=True)
        assert np.isnan(lse)
        assert np.isnan(sign)

    def test_infinite_factor(self, backend):
        assert fastlse.logsumexp([0.0, 1.0], b=[inf, 1]) == inf


class TestZeroSize:
    @pytest.mark.parametrize("dtype", [*DTYPES, "float16", "int64"])
    def test_empty_axis(self, backend, dtype):
        expected = np.dtype("float64" if dtype == "int64" else dtype)
        for shape, axis in [((0,), 0), ((3, 0), 1), ((0, 3), 0), ((2, 0, 3), 1), ((0, 0), 0)]:
            x = np.zeros(shape, dtype)
            kept = tuple(n for i, n in enumerate(shape) if i != axis)
            lse = fastlse.logsumexp(x, axis=axis)
            assert_array_equal(lse, np.full(kept, -inf))
            assert lse.dtype == expected
            lse, sign = fastlse.logsumexp(x, axis=axis, return_sign=True)
            assert_array_equal(sign, np.zeros(kept))
            assert fastlse.logsumexp(x, axis=axis, b=np.ones(shape)).shape == kept
            for function in (fastlse.softmax, fastlse.log_softmax):
                result = function(x, axis=axis)
                assert result.shape == shape
                assert result.dtype == expected
            lse, softmax = fastlse.logsumexp_and_softmax(x, axis=axis)
            assert_array_equal(lse, np.full(kept, -inf))
            assert softmax.shape == shape
        assert fastlse.logsumexp(np.zeros((0, 5), dtype)) == -inf
        assert fastlse.logsumexp([]) == -inf

    def test_no_rows(self, backend):
        for shape, axis in [((0, 3), 1), ((3, 0), 0), ((0, 3, 2), 1)]:
            x = np.zeros(shape, np.float32)
            kept = tuple(n for i, n in enumerate(shape) if i != axis)
            assert fastlse.logsumexp(x, axis=axis).shape == kept
            assert fastlse.softmax(x, axis=axis).shape == shape
            assert fastlse.log_softmax(x, axis=axis).shape == shape
            assert fastlse.logsumexp(x, axis=axis, keepdims=True).size == 0

    def test_losses(self, backend):
        for dtype in DTYPES:
            logits = np.zeros((0, 3), dtype)
            target = np.zeros(0, np.int64)
            loss, grad = fastlse.cross_entropy_and_grad(logits, target)
            assert np.isnan(loss)
            assert loss.dtype == dtype
            assert grad.shape == (0, 3)
            assert grad.dtype == dtype
            assert np.isnan(fastlse.cross_entropy(logits, target))
            assert fastlse.cross_entropy(logits, target, reduction="sum") == 0
            assert fastlse.cross_entropy(logits, target, reduction="none").shape == (0,)
        loss, grad = fastlse.cross_entropy_and_grad(
            np.zeros((2, 0)), np.full(2, -100), reduction="none"
        )
        assert_array_equal(loss, [0, 0])
        assert grad.shape == (2, 0)


class TestLosses:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(3, 4), (70, 10), (2, 300)])
    def test_every_row_ignored(self, backend, dtype, shape):
        logits = np.full(shape, nan, dtype)
        ignored = np.full(shape[0], -100)
        weightless = {"sample_weight": np.zeros(shape[0])}
        zeros = np.zeros(shape[0], np.int64)
        for target, options in [(ignored, {}), (zeros, weightless)]:
            loss, grad = fastlse.cross_entropy_and_grad(logits, target, **options)
            assert np.isnan(loss)
            assert_array_equal(grad, np.zeros(shape))
            loss, grad = fastlse.cross_entropy_and_grad(logits, target, reduction="sum", **options)
            assert loss == 0
            assert_array_equal(grad, np.zeros(shape))
            assert np.isnan(fastlse.cross_entropy(logits, target, **options))
            assert fastlse.cross_entropy(logits, target, reduction="sum", **options) == 0

    def test_mean_divides_by_the_weights_of_the_kept_rows(self, backend):
        logits = np.log([[1.0, 3.0], [2.0, 2.0], [nan, 1.0]])
        target = [0, 1, -100]
        losses = np.log([4.0, 2.0])
        loss = fastlse.cross_entropy(logits, target)
        assert loss == pytest.approx(losses.mean(), rel=1e-15)
        loss = fastlse.cross_entropy(logits, target, [2.0, 5.0])
        assert loss == pytest.approx((2 * losses[0] + 5 * losses[1]) / 7, rel=1e-15)
        loss = fastlse.cross_entropy(logits, target, [2.0, 5.0], sample_weight=[3.0, 1.0, 9.0])
        assert loss == pytest.approx((6 * losses[0] + 5 * losses[1]) / 11, rel=1e-15)

    def test_out_of_range_target_writes_nothing(self, backend):
        for n_rows in (2, 70):
            for bad in (-1, 3, 10**12, -(2**63)):
                out = np.full((n_rows, 3), 7.0)
                target = np.zeros(n_rows, np.int64)
                target[-1] = bad
                with pytest.raises(IndexError, match=rf"got {bad} in row {n_rows - 1}$"):
                    fastlse.cross_entropy_and_grad(np.zeros((n_rows, 3)), target, out=out)
                assert_array_equal(out, np.full((n_rows, 3), 7.0))
                with pytest.raises(IndexError, match=rf"got {bad} in row {n_rows - 1}$"):
                    fastlse.cross_entropy(np.zeros((n_rows, 3)), target)

    def test_ignore_index_may_be_a_class(self, backend):
        loss = fastlse.cross_entropy(np.zeros((3, 4)), [1, 2, 1], ignore_index=1, reduction="none")
        assert_array_equal(loss == 0, [True, False, True])

    def test_target_of_minus_infinity(self, backend):
        logits = np.array([[-inf, 0.0, 1.0]])
        loss, grad = fastlse.cross_entropy_and_grad(logits, [0])
        assert loss == inf
        assert_array_equal(grad[0, 0], -1)
        loss, grad = fastlse.cross_entropy_and_grad(logits, [1])
        assert np.isfinite(loss)
        assert grad[0, 0] == 0

    def test_minus_infinity_under_a_great_weight(self, backend):
        for dtype, great in [("float32", 1e30), ("float64", 1e300)]:
            for n_rows in (1, 20):
                logits = np.tile(np.array([-inf, 0.0, 1.0], dtype), (n_rows, 1))
                options = {"sample_weight": np.full(n_rows, great), "reduction": "sum"}
                _, grad = fastlse.cross_entropy_and_grad(logits, np.ones(n_rows, int), **options)
                assert_array_equal(grad[:, 0], 0)
                assert (grad[:, 2] > great / 2).all()

    def test_one_class(self, backend):
        loss, grad = fastlse.cross_entropy_and_grad(np.array([[3.0], [-5.0]]), [0, 0])
        assert loss == 0
        assert not np.signbit(loss)
        assert_array_equal(grad, np.zeros((2, 1)))
        assert not np.signbit(grad).any()


def test_log_softmax_beside_infinity(backend):
    assert_array_equal(fastlse.log_softmax([inf, 1.0]), [nan, nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_numbers(backend, dtype):
    """Differences that overflow are -inf, and no warning."""
    largest = np.finfo(dtype).max
    x = np.array([largest, -largest, 0, largest], dtype)
    assert fastlse.logsumexp(x) == largest
    assert_array_equal(fastlse.softmax(x), [0.5, 0, 0, 0.5])
    logs = fastlse.log_softmax(x[:3])
    assert_array_equal(logs, [0, -inf, -largest])
    assert fastlse.cross_entropy(x[None, :3], [0]) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_smallest_numbers(backend, dtype):
    """Subnormal input is read as it is."""
    tiny = np.finfo(dtype).smallest_subnormal
    assert fastlse.logsumexp(np.array([tiny], dtype)) == tiny
    assert fastlse.logsumexp(np.array([3 * tiny, -np.inf], dtype)) == 3 * tiny
    # A sum of logarithms that is no more than its own maximum: exact.
    for n in (5, 100):
        x = np.full((12, n), -np.inf, dtype)
        x[:, 2] = -tiny
        assert_array_equal(fastlse.logsumexp(x, axis=1), np.full(12, -tiny))


@pytest.mark.parametrize("dtype", DTYPES)
def test_signed_zeros(backend, dtype):
    """A row whose only element is -0: the result is a zero, and softmax is 1."""
    x = np.array([-0.0], dtype)
    assert fastlse.logsumexp(x) == 0
    assert_array_equal(fastlse.softmax(x), [1])
    assert_array_equal(fastlse.log_softmax(x), [0])
