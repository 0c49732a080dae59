"""LogSumExpState: parts reduced apart and merged in any order give what the whole gives."""

from __future__ import annotations

import functools
import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from operations import assert_same_bits
from reference import (
    DTYPES,
    KINDS,
    assert_flushed_within,
    assert_lse_within,
    assert_within,
    exact,
    exact_loss,
    factor,
    make_rows,
    needs_longdouble,
    ulp,
)
from subprocesses import run

import fastlse
from fastlse import LogSumExpState, state

inf, nan = np.inf, np.nan
EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "class_parallel.py"


def parts_of(x, n_parts, axis=1):
    """States of pieces of the rows, some of them empty."""
    return [LogSumExpState.from_array(part, axis) for part in np.array_split(x, n_parts, axis)]


def merged(states):
    return functools.reduce(LogSumExpState.merge, states)


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_result_of_merged_parts(backend, kind, dtype):
    for n in (1, 2, 10, 100, 5000):
        x = make_rows(kind, 20, n, dtype)
        whole = exact(x)
        for n_parts in (1, 2, 7):
            for axis, values in ((1, x), (0, np.ascontiguousarray(x.T))):
                result = merged(parts_of(values, n_parts, axis)).result()
                assert result.dtype == dtype
                assert_state_within(result, whole, x, factor(backend))


def assert_state_within(result, whole, x, times):
    log_sum = (whole.lse - whole.row_max).astype(np.float64)
    larger = np.maximum(ulp(whole.lse, x.dtype), ulp(log_sum, x.dtype))
    # the weighted mean of |x - max| over the others
    others = np.exp(x.astype(np.longdouble) - whole.row_max[:, None])
    others[np.arange(len(x)), x.argmax(axis=1)] = 0
    with np.errstate(all="ignore"):
        distance = np.where(others > 0, whole.row_max[:, None] - x, 0)
        gap = (others * distance).sum(axis=1) / others.sum(axis=1)
    gap = np.where(np.isfinite(gap), gap, 0).astype(np.float64)
    allowed = times * (state.STATE_ULP * larger + 0.5 * gap * ulp(log_sum, x.dtype))
    assert_within(result, whole.lse, allowed / ulp(whole.lse, x.dtype))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_part_is_as_accurate_as_logsumexp(backend, dtype):
    """Also where the maximum and the logarithm cancel."""
    for kind in KINDS:
        for n in (1, 3, 10, 300):
            x = make_rows(kind, 40, n, dtype)
            result = LogSumExpState.from_array(x, axis=1).result()
            assert_lse_within(result, exact(x), factor(backend))


@needs_longdouble
@pytest.mark.parametrize("step", [1e-6, 1e-3, 0.3, 0.7, 5.0])
@pytest.mark.parametrize("start", [0.0, -3.0, 1000.0])
def test_many_merges_with_rising_maxima(step, start):
    """Every merge rescales the sum; were it rounded each time, the errors would add up."""
    x = start + step * np.arange(1000)
    states = LogSumExpState.empty(axis=0)
    for value in x:
        states = states.update([value])
    falling = merged(LogSumExpState.from_array([value]) for value in x[::-1])
    for result in (states.result(), falling.result()):
        assert_state_within(np.array([result]), exact(x[None]), x[None], 1)


@needs_longdouble
def test_many_merges_below_one_maximum():
    """A sum without its low part would err a little, and to the same side, at every merge."""
    x = np.full(3000, -0.1)
    x[0] = 0
    result = merged(LogSumExpState.from_array([value]) for value in x).result()
    assert_state_within(np.array([result]), exact(x[None]), x[None], 1)


@needs_longdouble
def test_deep_parts(backend):
    """What the smaller part adds is right down to the smallest subnormal number."""
    for distance in (30.0, 500.0, 650.0, 709.0, 720.0, 740.0):
        x = np.array([[0.0, -distance, -distance - 0.5, -distance - 0.25]])
        result = merged(parts_of(x, 2)).result()
        assert_state_within(result, exact(x), x, factor(backend))
        assert result > 0
    huge = np.full((1, 100_000), -720.0)
    result = merged([LogSumExpState.from_array(y, 1) for y in (huge, np.zeros((1, 1)))]).result()
    assert result == pytest.approx(float(np.exp(np.longdouble(-720)) * 100_000), rel=1e-12)


SPECIAL = st.one_of(
    st.floats(-50, 50), st.sampled_from([inf, -inf, 0.0, nan, -750.0, 1e300, -1e300])
)


@given(data=st.data())
@np.errstate(invalid="ignore")
def test_merging_is_associative_and_commutative(data):
    shape = (3,)
    arrays = [
        data.draw(hnp.arrays(np.float64, (*shape, data.draw(st.integers(0, 4))), elements=SPECIAL))
        for _ in range(3)
    ]
    a, b, c = (LogSumExpState.from_array(x, axis=1) for x in arrays)
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    other = c.merge(a).merge(b)
    for result in (right, other):
        assert_array_equal(result.max, left.max)
        np.testing.assert_allclose(result.rest, left.rest, rtol=1e-15, atol=1e-320)
        size = np.maximum(np.abs(left.result()), 1 + np.abs(left.max))
        ok = np.abs(result.result() - left.result()) <= 1e-15 * size
        assert np.all(ok | (result.result() == left.result()) | np.isnan(left.result()))
    assert a.merge(b).max.tolist() == pytest.approx(b.merge(a).max.tolist(), nan_ok=True)
    whole = fastlse.logsumexp(np.concatenate(arrays, axis=1), axis=1)
    assert_array_equal(np.isnan(left.result()), np.isnan(whole))
    assert_array_equal(np.isinf(left.result()), np.isinf(whole))
    np.testing.assert_allclose(left.result(), whole, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number(backend, dtype):
    def of(*values):
        return LogSumExpState.from_array(np.array(values, dtype))

    nothing, plain, empty = of(-inf), of(1, 2), LogSumExpState.empty(dtype=dtype)
    assert nothing.result() == empty.result() == of().result() == -inf
    assert (nothing.max, nothing.sum, nothing.rest) == (-inf, 0, 0)
    assert nothing == empty == of() == of(-inf, -inf) == nothing.merge(empty)
    for left, right in ((nothing, plain), (plain, empty)):
        assert left.merge(right) == plain
        assert right.merge(left) == plain
    for special in (of(inf), of(inf, 1, inf), of(nan), of(1, nan, inf), of(-inf, nan)):
        for other in (plain, nothing, empty, special):
            for result in (special.merge(other).result(), other.merge(special).result()):
                assert_array_equal(result, special.result())
    for other in (of(inf), plain, nothing):
        assert np.isnan(of(nan).merge(other).result())
        assert np.isnan(other.merge(of(nan)).result())
    assert of(inf).result() == inf
    assert np.isnan(of(nan, inf).result())


def test_masked_elements_and_where_are_left_out(backend):
    x = np.array([[0.0, nan, 1.0], [2.0, inf, 3.0]])
    where = np.array([True, False, True])
    expected = LogSumExpState.from_array(x[:, ::2], axis=1)
    assert LogSumExpState.from_array(x, 1, where=where) == expected
    assert LogSumExpState.from_array(np.ma.masked_invalid(x), 1) == expected
    assert LogSumExpState.empty(2, axis=1).update(x, where=where) == expected
    assert LogSumExpState.from_array(x, 1, where=False) == LogSumExpState.empty(2)


def test_axes_and_shapes(backend):
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for axis in (None, 0, 1, -1, (0, 2), (1, 0), ()):
        made = LogSumExpState.from_array(x, axis)
        expected = fastlse.logsumexp(x, axis)
        assert made.shape == np.shape(expected)
        np.testing.assert_allclose(made.result(), expected, rtol=1e-15)
        twice = made.update(x)
        np.testing.assert_allclose(twice.result(), expected + np.log(2), rtol=1e-14)
    assert LogSumExpState.from_array(3.0).shape == ()
    assert LogSumExpState.from_array(3.0).result() == 3
    batch = LogSumExpState.from_array(x, 2)
    one = LogSumExpState.from_array(x[0, 0])
    for result in (batch.merge(one), one.merge(batch)):
        assert result.shape == (3, 4)
        assert result.result()[0, 0] == pytest.approx(one.result() + np.log(2))
    assert LogSumExpState.empty((0, 3)).result().shape == (0, 3)
    assert LogSumExpState.from_array(np.ones((0, 3)), 1).result().shape == (0,)
    assert_array_equal(LogSumExpState.from_array(np.ones((3, 0)), 1).result(), [-inf] * 3)


def test_dtypes(backend):
    for dtype, other, expected in (
        ("float16", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("int8", "float32", "float64"),
        (">f4", "float32", "float32"),
    ):
        a = LogSumExpState.from_array(np.array([1, 2], dtype))
        b = LogSumExpState.from_array(np.array([3], other))
        result = a.merge(b).result()
        assert result.dtype == expected
        assert result == pytest.approx(np.log(np.exp([1.0, 2, 3]).sum()), rel=1e-3)
    wide = LogSumExpState.from_array(np.array([0, 1], np.longdouble)).result()
    assert wide.dtype == np.longdouble


def test_threads_and_layouts_do_not_change_it(compiled_backend, threads_for_small_problems):
    x = np.random.default_rng(0).standard_normal((300, 70))
    expected = LogSumExpState.from_array(x, 1, n_threads=1)
    for n_threads in (2, 5):
        assert LogSumExpState.from_array(x, 1, n_threads=n_threads) == expected
    assert LogSumExpState.from_array(np.asfortranarray(x), 1) == expected
    assert LogSumExpState.from_array(np.repeat(x, 2, axis=1)[:, ::2], 1) == expected
    long = np.random.default_rng(1).standard_normal(200_000)
    assert LogSumExpState.from_array(long, n_threads=3) == LogSumExpState.from_array(long)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("values", [(0.0, -0.0, 1.0), (0.0, -0.0, -inf), (0.0, 1.0, nan, inf)])
def test_the_same_alone_and_among_others(compiled_backend, dtype, n, values):
    """Ties, zeros of either sign and what is no number, in every order."""
    x = np.array(list(itertools.product(values, repeat=n)), dtype)
    x = np.tile(x, (-(-130 // len(x)), 1))  # side by side from 64 rows on
    together = LogSumExpState.from_array(x, 1).states
    alone = np.stack([LogSumExpState.from_array(row).states for row in x], axis=1)
    assert_same_bits(together, alone)


def test_frozen_and_pickled(backend):
    made = LogSumExpState.from_array(np.eye(3), axis=1)
    before = made.result()
    made.update(np.ones((3, 2)))
    made.merge(made)
    assert_array_equal(made.result(), before)
    with pytest.raises(AttributeError):
        made.axis = 0
    with pytest.raises(ValueError, match="read-only"):
        made.max[0] = 7
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(made, protocol))
        assert again == made
        assert (again.dtype, again.axis) == (made.dtype, 1)
        assert not again.states.flags.writeable
    assert made != LogSumExpState.from_array(np.eye(3, dtype=np.float32), axis=1)
    assert made != LogSumExpState.from_array(np.eye(4), axis=1)
    assert made != 3
    assert LogSumExpState.from_array([nan]) == LogSumExpState.from_array([nan])
    with pytest.raises(TypeError, match="unhashable"):
        hash(made)
    assert "max=array([1., 1., 1.])" in repr(made)


class TestShards:
    """Classes split over several states: each shard's part of the loss and of the gradient."""

    @needs_longdouble
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("kind", ["random", "confident", "wide", "tied", "with -inf"])
    def test_loss_and_gradient(self, backend, kind, dtype):
        times = factor(backend)
        for n in (2, 10, 300, 5000):
            x = make_rows(kind, 20, n, dtype)
            target = np.where(np.arange(20) % 2, x.argmax(axis=1), np.arange(20) % n)
            rows = exact_loss(x, target)
            whole = merged(parts_of(x, 3))
            loss = whole.cross_entropy(x[np.arange(20), target])
            assert loss.dtype == dtype
            assert_within(
                loss, rows.loss, times * (fastlse.losses.CROSS_ENTROPY_ULP + rows.loss_gap)
            )
            first = 0
            for shard in np.array_split(x, 3, axis=1):
                stop = first + shard.shape[1]
                bound = times * (state.STATE_GRADIENT_ULP + rows.grad_gap[:, first:stop])
                grad = whole.cross_entropy_grad(shard, target - first)
                there = rows.grad[:, first:stop]
                assert grad.dtype == dtype
                assert_flushed_within(grad, there, bound)
                first = stop

    @needs_longdouble
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_softmax(self, backend, dtype):
        for kind in ("random", "confident", "wide"):
            x = make_rows(kind, 20, 70, dtype)
            rows = exact(x)
            whole = merged(parts_of(x, 3))
            bound = factor(backend) * (state.STATE_SOFTMAX_ULP + rows.softmax_gap)
            columns = slice(10, 60)
            result = whole.softmax(x[:, columns])
            assert_flushed_within(result, rows.softmax[:, columns], bound[:, columns])
            turned = LogSumExpState.from_array(x.T, 0).softmax(
                np.ascontiguousarray(x[:, columns].T)
            )
            assert_flushed_within(turned.T, rows.softmax[:, columns], bound[:, columns])
        several = LogSumExpState.from_array(np.ones((2, 3, 4), dtype), (0, 2))
        np.testing.assert_allclose(several.softmax(np.ones((2, 3, 1), dtype)), 1 / 8)

    def test_rows_that_do_not_count(self, backend):
        """Sample weight 0 gives zeros whatever the row holds; -inf alone gives a zero gradient."""
        x = np.array([[nan, 1.0], [inf, 0.0], [-inf, -inf], [1.0, 2.0], [nan, 0.0]])
        whole = LogSumExpState.from_array(x, axis=1)
        weight = np.array([0.0, 0.0, 1.0, 0.5, 1.0])
        grad = whole.cross_entropy_grad(x, [0, 1, 0, 1, 0], sample_weight=weight)
        assert_array_equal(grad[:3], np.zeros((3, 2)))
        _, expected = fastlse.cross_entropy_and_grad(x[3:4], [1], reduction="none")
        np.testing.assert_allclose(grad[3:4], 0.5 * expected, rtol=1e-15)
        assert np.isnan(grad[4]).all()
        loss = whole.cross_entropy([0.0, 0.0, -inf, 2.0, 1.0])
        assert_array_equal(np.isnan(loss), [True, True, True, False, True])
        assert LogSumExpState.from_array([1.0, 2.0]).cross_entropy(-inf) == inf
        assert np.isnan(LogSumExpState.from_array([-inf]).softmax([-inf, -inf])).all()

    def test_out_and_threads(self, backend, threads_for_small_problems):
        x = np.random.default_rng(0).standard_normal((200, 50))
        whole = LogSumExpState.from_array(x, axis=1)
        target = np.arange(200) % 60
        expected = whole.cross_entropy_grad(x, target, n_threads=1)
        assert_same_bits((whole.cross_entropy_grad(x, target, n_threads=5),), (expected,))
        for given_x in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, 0)[::2]):
            strided = given_x.copy(order="K")
            out = np.empty_like(strided)
            assert whole.cross_entropy_grad(given_x, target, out=out) is out
            assert_same_bits((out,), (expected,))
            assert whole.cross_entropy_grad(strided, target, out=strided) is strided
            assert_same_bits((strided,), (expected,))
        softmax = whole.softmax(x)
        overlapping = np.zeros((201, 50))
        overlapping[:200] = x
        whole.softmax(overlapping[:200], out=overlapping[1:])
        assert_same_bits((overlapping[1:],), (softmax,))

    def test_one_row(self, backend):
        whole = LogSumExpState.from_array([0.0, 1.0, 2.0])
        np.testing.assert_allclose(whole.softmax([2.0]), fastlse.softmax([0.0, 1.0, 2.0])[2:])
        grad = whole.cross_entropy_grad([1.0, 2.0], 1)
        _, expected = fastlse.cross_entropy_and_grad([0.0, 1.0, 2.0], 2)
        np.testing.assert_allclose(grad, expected[1:], rtol=1e-14)
        assert whole.softmax(2.0) == pytest.approx(grad[1] + 1)

    @pytest.mark.skipif(not EXAMPLE.is_file(), reason="the tests are not beside the examples")
    def test_two_processes(self):
        code = f"import runpy; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
        process = run(code, timeout=60)
        assert "loss of two processes" in process.stdout


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.merge(3), TypeError, "other must be a LogSumExpState, got 3"),
        (
            lambda s: s.merge(LogSumExpState.empty((3,))),
            ValueError,
            r"other must have a shape that broadcasts with \(2,\), got shape \(3,\)",
        ),
        (lambda s: s.update(np.ones((3, 5))), ValueError, "broadcasts with"),
        (lambda s: LogSumExpState.from_array(["a"]), TypeError, "x must be an array of numbers"),
        (lambda s: LogSumExpState.from_array([1j]), TypeError, "x must be an array of real"),
        (lambda s: LogSumExpState.empty(3, int), TypeError, "dtype must be a floating dtype"),
        (lambda s: LogSumExpState.from_array([1.0], 1), np.exceptions.AxisError, "axis"),
        (lambda s: s.softmax(np.ones((3, 4))), ValueError, r"x must have the state's shape \(2,\)"),
        (lambda s: s.softmax(np.ones((2, 4)), out=np.ones(3)), ValueError, "out must have shape"),
        (lambda s: s.cross_entropy(np.ones(3)), ValueError, "target_logit must be broadcastable"),
        (lambda s: s.cross_entropy_grad(np.ones((2, 3)), [0.0, 1]), TypeError, "target must be"),
        (lambda s: s.cross_entropy_grad(np.ones((2, 3)), [0]), ValueError, r"target must have"),
        (
            lambda s: s.cross_entropy_grad(np.ones((2, 3)), [0, 1], sample_weight=[1.0]),
            ValueError,
            r"sample_weight must have shape \(2,\)",
        ),
        (
            lambda s: LogSumExpState.empty(axis=(0, 1)).cross_entropy_grad(np.ones((2, 3)), 0),
            ValueError,
            "logits must have one class axis",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(LogSumExpState.from_array(np.ones((2, 3)), axis=1))
