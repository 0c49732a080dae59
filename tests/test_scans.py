"""logcumsumexp: every prefix's logsumexp, in every layout, within its bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from operations import assert_same_bits
from reference import DTYPES, KINDS, assert_within, exact, factor, make_rows, needs_longdouble, ulp

import fastlse
from fastlse import scans

inf, nan = np.inf, np.nan


def exact_prefixes(x, prefixes):
    """Exact logsumexp and maximum of some prefixes, one row for each row of x."""
    rows = [exact(x[:, : stop + 1]) for stop in prefixes]
    return np.stack([r.lse for r in rows], 1), np.stack([r.row_max for r in rows], 1)


def assert_scan_within(result, x, prefixes, times):
    """Within the bound, or 1 ulp of the maximum where it cancels with log(sum)."""
    lse, row_max = exact_prefixes(x, prefixes)
    bound = np.full(lse.shape, float(times * scans.LOGCUMSUMEXP_ULP))
    of_max = times * ulp(row_max, x.dtype) / ulp(lse, x.dtype)
    assert_within(result[:, prefixes], lse, np.where(row_max < 0, np.maximum(bound, of_max), bound))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix(backend, kind, dtype):
    for n in (1, 2, 10, 64, 100, 600, 1500):
        x = make_rows(kind, 21, n, dtype)
        if kind == "with -inf":
            x[:, 0] = -3  # the reference needs a finite maximum
        prefixes = range(n) if n <= 100 else [0, 1, n // 3, 511, 512, n - 1]
        for result in (
            fastlse.logcumsumexp(x, 1),
            fastlse.logcumsumexp(np.ascontiguousarray(x.T), 0).T,
        ):
            assert result.dtype == dtype
            assert_scan_within(result, x, list(prefixes), factor(backend))


@needs_longdouble
@pytest.mark.parametrize("step", [1e-6, 1e-3, 0.3, 20.0, 130.0, 700.0, -0.1, -1e-4])
def test_steadily_rising_and_falling(backend, step):
    """Every element a new maximum, which must not round the sum every time; and references left."""
    x = step * np.arange(5000.0)[None] - 1
    prefixes = [0, 1, 2, 100, 511, 512, 513, 4999]
    assert_scan_within(fastlse.logcumsumexp(x, 1), x, prefixes, factor(backend))
    saw = np.where(np.arange(5000) % 2, x, -x)
    assert_scan_within(fastlse.logcumsumexp(saw, 1), saw, prefixes, factor(backend))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
def test_confident_prefixes(backend, dtype):
    """A maximum of 0: nothing but what the others add, however little, in every order."""
    deepest = 85 if dtype == "float32" else 735
    for order in itertools.permutations([0.0, -deepest, -deepest / 3, -deepest - 0.5]):
        x = np.array([order], dtype)
        assert_scan_within(fastlse.logcumsumexp(x, 1), x, [0, 1, 2, 3], factor(backend))
    many = np.full((1, 3000), -deepest, dtype)
    many[0, -1] = 0
    assert_scan_within(fastlse.logcumsumexp(many, 1), many, [2998, 2999], factor(backend))


@needs_longdouble
def test_the_error_does_not_grow_with_the_length(backend):
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        x = rng.standard_normal((1, 1_000_000)).astype(dtype)
        result = fastlse.logcumsumexp(x, 1)
        assert_scan_within(result, x, [10_000, 100_000, 999_999], factor(backend))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 600, 70_000])
def test_what_is_no_number(backend, dtype, n):
    x = np.zeros((3, n), dtype)
    x[0, 2:] = [nan, *[1] * (n - 3)]
    x[1, 1:4] = [inf, 5, nan]
    x[2, :3] = -inf
    result = fastlse.logcumsumexp(x, 1)
    assert np.isfinite(result[0, :2]).all()
    assert np.isnan(result[0, 2:]).all()
    assert_array_equal(result[1, :3], [0, inf, inf])
    assert np.isnan(result[1, 3:]).all()
    assert_array_equal(result[2, :4], [-inf, -inf, -inf, 0])
    assert_array_equal(fastlse.logcumsumexp(np.full(n, -inf, dtype), 0), np.full(n, -inf))
    assert_array_equal(fastlse.logcumsumexp(np.full(n, inf, dtype), 0), np.full(n, inf))
    late = np.zeros(n, dtype)
    late[-1] = inf
    assert_array_equal(fastlse.logcumsumexp(late, 0)[-2:] == inf, [False, True])


def test_largest_numbers(backend):
    """References that are as far apart as numbers can be."""
    x = np.array([-1.7e308, -1e300, 0.0, 1e-300, 1e300, 1e300, 1.7e308, -1.7e308])
    result = fastlse.logcumsumexp(x, 0)
    expected = [-1.7e308, -1e300, 0, np.log(2), 1e300, 1e300, 1.7e308, 1.7e308]
    np.testing.assert_allclose(result, expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (40, 3), (5, 513), (4, 70_001), (3, 4, 5)])
def test_exclusive_and_reverse(backend, dtype, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for axis in range(len(shape)):
        plain = fastlse.logcumsumexp(x, axis)
        backwards = fastlse.logcumsumexp(x, axis, reverse=True)
        assert_same_bits(
            (np.flip(backwards, axis),), (fastlse.logcumsumexp(np.flip(x, axis), axis),)
        )
        for result, inclusive in (
            (fastlse.logcumsumexp(x, axis, exclusive=True), plain),
            (
                np.flip(fastlse.logcumsumexp(x, axis, exclusive=True, reverse=True), axis),
                np.flip(backwards, axis),
            ),
        ):
            moved = np.moveaxis(result, axis, -1)
            assert_array_equal(moved[..., 0], np.full(moved.shape[:-1], -inf))
            assert_same_bits((moved[..., 1:],), (np.moveaxis(inclusive, axis, -1)[..., :-1],))


def layouts(x):
    """The same two-dimensional values in other memory."""
    yield np.asfortranarray(x)
    yield np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3]
    yield x[::-1, ::-1].copy()[::-1, ::-1]
    yield x.astype(x.dtype.newbyteorder())
    read_only = x.copy()
    read_only.flags.writeable = False
    yield read_only
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    yield unaligned


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(50, 7), (9, 600), (1, 3000), (3, 0), (0, 3)])
def test_layout_does_not_change_the_bits(compiled_backend, dtype, shape):
    x = (np.random.default_rng(0).standard_normal(shape) * 10).astype(dtype)
    expected = fastlse.logcumsumexp(x, 1)
    for given_x in layouts(x):
        assert_same_bits((fastlse.logcumsumexp(given_x, -1),), (expected,))
        assert_same_bits((fastlse.logcumsumexp(given_x.T, 0).T,), (expected,))
    for row in range(shape[0]):
        assert_same_bits((fastlse.logcumsumexp(x[row], 0),), (expected[row],))


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_the_bits(compiled_backend, dtype, threads_for_small_problems):
    for shape in ((1000, 7), (30, 600), (3, 5000)):
        x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        for values, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
            alone = fastlse.logcumsumexp(values, axis, n_threads=1)
            for n_threads in (2, 5):
                together = fastlse.logcumsumexp(values, axis, n_threads=n_threads)
                assert_same_bits((together,), (alone,))


def test_dtypes(backend):
    for dtype, expected in (("float16", "float16"), ("int8", "float64"), ("bool", "float64")):
        result = fastlse.logcumsumexp(np.array([0, 1, 1], dtype), 0)
        assert result.dtype == expected
        reference = np.logaddexp.accumulate(np.array([0.0, 1, 1]))
        np.testing.assert_allclose(result, reference, rtol=1e-3)
    assert fastlse.logcumsumexp(np.zeros(3, np.longdouble), 0).dtype == np.longdouble
    masked = np.ma.array([0.0, 5.0, 0.0], mask=[0, 1, 0])
    np.testing.assert_allclose(fastlse.logcumsumexp(masked, 0), [0, 0, np.log(2)], atol=1e-16)


@given(
    x=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 40)),
        elements=st.one_of(
            st.floats(-30, 30), st.floats(), st.sampled_from([inf, -inf, nan, 600.0, -600.0])
        ),
    )
)
def test_backends_agree(x):
    """Any numbers: the last result is logsumexp, and the backends say the same."""
    results = []
    for name in fastlse.available_backends():
        with fastlse.use_backend(name):
            results.append(fastlse.logcumsumexp(x, 1))
            np.testing.assert_allclose(
                results[-1][:, -1], fastlse.logsumexp(x, axis=1), rtol=1e-13, atol=1e-14
            )
            np.testing.assert_allclose(results[-1], results[0], rtol=1e-13, atol=1e-14)


def test_as_in_torch(backend):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((4, 30, 3)) * 5
    for axis in range(3):
        expected = torch.logcumsumexp(torch.tensor(x), axis).numpy()
        np.testing.assert_allclose(fastlse.logcumsumexp(x, axis), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastlse.logcumsumexp(3.0, 0), ValueError, "x must have an axis"),
        (lambda: fastlse.logcumsumexp([1.0], 1), np.exceptions.AxisError, "axis"),
        (lambda: fastlse.logcumsumexp([1.0], None), TypeError, "axis must be an int, got None"),
        (lambda: fastlse.logcumsumexp([1j], 0), TypeError, "x must be an array of real numbers"),
        (lambda: fastlse.logcumsumexp(["a"], 0), TypeError, "x must be an array of numbers"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
