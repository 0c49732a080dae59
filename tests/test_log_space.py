"""logmeanexp, logsubexp and log1mexp: against mpmath, at both ends and where they cancel."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from operations import assert_same_bits
from reference import DTYPES, KINDS, factor, make_rows, needs_longdouble, ulp

import fastlse
from fastlse import log_space

inf, nan = np.inf, np.nan


def ulps_off(result, expected, dtype):
    """Error in ulp of the exact result, an mpmath number."""
    unit = mpmath.mpf(float(np.spacing(np.abs(np.dtype(dtype).type(expected)))))
    return float(abs(mpmath.mpf(float(result)) - expected) / unit)


def exact_log1mexp(x):
    with mpmath.workdps(400):
        return +mpmath.log(-mpmath.expm1(mpmath.mpf(float(x))))


class TestLog1mexp:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_accuracy(self, backend, dtype):
        lowest = -100 if dtype == "float32" else -740
        rng = np.random.default_rng(0)
        x = np.concatenate(
            [
                -(10 ** rng.uniform(-300 if dtype == "float64" else -37, 0, 300)),
                rng.uniform(-2, 0, 300),
                rng.uniform(lowest, 0, 300),
                [-np.log(2), -0.5, -1, -37, -36.5, lowest, -np.finfo(dtype).tiny],
                [-np.finfo(dtype).smallest_subnormal, -np.finfo(dtype).eps],
            ]
        ).astype(dtype)
        result = fastlse.log1mexp(x)
        assert result.dtype == dtype
        bound = factor(backend) * log_space.LOG1MEXP_ULP
        for value, got in zip(x, result, strict=True):
            assert ulps_off(got, exact_log1mexp(value), dtype) <= bound, value

    def test_ends(self, backend):
        x = [0.0, -0.0, -inf, -800.0, 1e-300, 1.0, inf, nan]
        assert_array_equal(fastlse.log1mexp(x), [-inf, -inf, 0, 0, nan, nan, nan, nan])
        assert fastlse.log1mexp(-1) == pytest.approx(np.log(1 - np.exp(-1)))


class TestLogsubexp:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_accuracy(self, backend, dtype):
        rng = np.random.default_rng(1)
        x = rng.standard_normal(600) * 10 ** rng.uniform(-2, 3, 600)
        x = x.astype(dtype)
        y = (x - 10 ** rng.uniform(-8, 2, 600)).astype(dtype)
        x[:5], y[:5] = 1e5, 1e5 - np.arange(1, 6)
        y[5:100] = -rng.uniform(0.01, 20, 95)
        x[5:100] = np.log1p(np.exp(y[5:100])) + rng.choice([0, 1e-3], 95)  # cancelling
        keep = x > y
        x, y = x[keep], y[keep]
        y[-50:] = np.nextafter(x[-50:], np.array(-inf, dtype))
        result = fastlse.logsubexp(x, y)
        assert result.dtype == dtype
        for a, b, got in zip(x, y, result, strict=True):
            with mpmath.workdps(400):
                logarithm = mpmath.log(-mpmath.expm1(mpmath.mpf(float(b)) - mpmath.mpf(float(a))))
                expected = mpmath.mpf(float(a)) + logarithm
            of_x = ulp(a, dtype) / ulp(float(expected), dtype)
            bound = log_space.LOGSUBEXP_ULP * (max(1, of_x) if a > 0 else 1)
            assert ulps_off(got, expected, dtype) <= factor(backend) * bound, (a, b)

    def test_ends(self, backend):
        x = np.array([inf, inf, inf, -inf, -inf, 1.0, 1.0, nan, 1.0, 1e308, -1e308, 0.0])
        y = np.array([inf, 1.0, -inf, -inf, 1.0, 1.0, 2.0, 1.0, -inf, -1e308, 1e308, -inf])
        expected = [nan, inf, inf, -inf, nan, -inf, nan, nan, 1, 1e308, nan, 0]
        assert_array_equal(fastlse.logsubexp(x, y), expected)

    @given(x=st.floats(-700, 700), y=st.floats(-700, 700))
    def test_backends_agree_and_it_undoes_logaddexp(self, x, y):
        results = []
        for name in fastlse.available_backends():
            with fastlse.use_backend(name):
                results.append(fastlse.logsubexp(x, y))
        assert_allclose(results, results[0], rtol=1e-13, atol=1e-13)
        if x > y:
            assert np.logaddexp(results[0], y) == pytest.approx(x, rel=1e-12, abs=1e-12)
        else:
            assert results[0] == -inf if x == y else np.isnan(results[0])

    def test_shapes_dtypes_and_out(self, backend):
        x, y = np.ones((3, 1)), np.zeros(4)
        result = fastlse.logsubexp(x, y)
        assert result.shape == (3, 4)
        assert fastlse.logsubexp(1.0, 0.0).shape == ()
        for kinds, expected in (
            (("float32", "float32"), "float32"),
            (("float32", "float64"), "float64"),
            (("float16", "float16"), "float16"),
            (("int8", "bool"), "float64"),
            ((">f4", "<f4"), "float32"),
        ):
            got = fastlse.logsubexp(x.astype(kinds[0]), y.astype(kinds[1]))
            assert got.dtype == expected
            assert_allclose(got, result, rtol=1e-3)
        assert fastlse.logsubexp(np.float32(1), 0.0).dtype == np.float32
        a = np.random.default_rng(0).standard_normal((700, 3)) + 5
        b = a - np.arange(1, 4)
        expected = fastlse.logsubexp(a, b)
        for first, second in (
            (np.asfortranarray(a), b),
            (a, np.repeat(b, 2, 1)[:, ::2]),
            (a.astype(">f8"), b),
        ):
            assert_same_bits((fastlse.logsubexp(first, second),), (expected,))
        for out in (np.empty((700, 3)), np.empty((3, 700)).T):
            assert fastlse.logsubexp(a, b, out=out) is out
            assert_same_bits((out,), (expected,))
        for k in (0, 1):
            operands = [a.copy(), b.copy()]
            fastlse.logsubexp(*operands, out=operands[k])
            assert_same_bits((operands[k],), (expected,))
        shifted = np.zeros(701)
        shifted[:700] = a[:, 0]
        fastlse.logsubexp(shifted[:700], b[:, 0], out=shifted[1:])
        assert_same_bits((shifted[1:],), (expected[:, 0],))
        assert fastlse.logsubexp(np.ma.array([1.0], mask=[1]), -inf)[0] == -inf
        scalar_out = np.empty(())
        assert fastlse.log1mexp(-1.0, out=scalar_out) is scalar_out
        assert fastlse.log1mexp(np.ones((0, 3))).shape == (0, 3)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda f: f([1.0, 2], [1.0, 2, 3]), ValueError, r"y must be broadcastable .*\(3,\)"),
            (lambda f: f([1j], [1.0]), TypeError, "x must be an array of real numbers"),
            (lambda f: f([1.0], ["a"]), TypeError, "y must be an array of real numbers"),
            (lambda f: f([1.0], [1.0], out=np.ones(2)), ValueError, "out must have shape"),
            (lambda f: f([1.0], [1.0], out=np.ones(1, "f4")), TypeError, "out must have dtype"),
        ],
    )
    def test_errors(self, call, error, message):
        with pytest.raises(error, match=message):
            call(fastlse.logsubexp)


class TestLogmeanexp:
    @needs_longdouble
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("kind", [*KINDS, "near 0", "centred"])
    def test_accuracy(self, backend, kind, dtype):
        for n in (1, 2, 10, 300, 5000):
            x = make_rows("random" if kind in ("near 0", "centred") else kind, 20, n, dtype)
            if kind == "near 0":
                x = x * np.array(1e-9, dtype)
            if kind == "centred":
                x = x - x.max(axis=1, keepdims=True)
                x = (x - np.log(np.mean(np.exp(x), axis=1, keepdims=True))).astype(dtype)
            result = fastlse.logmeanexp(x, axis=1)
            assert result.dtype == dtype
            wide = x.astype(np.longdouble)
            row_max = wide.max(axis=1)
            excess = np.expm1(wide - row_max[:, None]).mean(axis=1)
            with np.errstate(divide="ignore"):
                total = np.exp(wide - row_max[:, None]).mean(axis=1)
                logarithm = np.where(excess < -0.5, np.log(total), np.log1p(excess))
            expected = row_max + logarithm
            unit = ulp(expected, dtype)
            cancels = (row_max > 0) & (np.abs(expected) < np.abs(row_max))
            unit = np.where(cancels, np.maximum(unit, ulp(row_max, dtype)), unit)
            error = np.abs(result - expected).astype(float) / unit
            assert error.max() <= factor(backend) * log_space.LOGMEANEXP_ULP

    def test_shapes_and_masks(self, backend):
        x = np.random.default_rng(0).standard_normal((3, 4, 5))
        for axis in (None, 0, -1, (0, 2), ()):
            for keepdims in (False, True):
                expected = np.log(np.mean(np.exp(x), axis=axis, keepdims=keepdims))
                result = fastlse.logmeanexp(x, axis, keepdims)
                assert_allclose(result, expected, rtol=1e-13, atol=1e-14)
                assert np.shape(result) == np.shape(expected)
        where = x > -0.5
        expected = np.log(np.mean(np.exp(x), axis=1, where=where))
        assert_allclose(fastlse.logmeanexp(x, 1, where=where), expected, atol=1e-14)
        masked = np.ma.array(x, mask=~where)
        assert_allclose(fastlse.logmeanexp(masked, 1), expected, atol=1e-14)
        out = np.empty((3, 5))
        assert fastlse.logmeanexp(x, 1, where=where, out=out) is out
        assert_allclose(out, expected, atol=1e-14)
        tiny = np.full((3, 70_000), 1e-12)
        tiny[:, ::2] = nan
        assert_array_equal(fastlse.logmeanexp(tiny, 1, where=~np.isnan(tiny)), [1e-12] * 3)
        assert fastlse.logmeanexp(3.0) == 3

    def test_ends(self, backend):
        x = np.array([[nan, inf], [inf, 1], [-inf, -inf], [-inf, 0], [0, -inf]])
        assert_allclose(fastlse.logmeanexp(x, 1), [nan, inf, -inf, -np.log(2), -np.log(2)])
        assert np.isnan(fastlse.logmeanexp([]))
        assert np.isnan(fastlse.logmeanexp([1.0, 2.0], where=False))
        assert np.isnan(fastlse.logmeanexp(np.ones((2, 0)), axis=1)).all()
        assert fastlse.logmeanexp(np.ones((0, 3)), axis=1).shape == (0,)
        assert fastlse.logmeanexp(np.float16([1, 1])).dtype == np.float16

    def test_threads(self, compiled_backend, threads_for_small_problems):
        x = np.random.default_rng(0).standard_normal((300, 50)) * 1e-3
        alone = fastlse.logmeanexp(x, 1, n_threads=1)
        assert_same_bits((fastlse.logmeanexp(x, 1, n_threads=4),), (alone,))

    def test_errors(self):
        with pytest.raises(TypeError, match="a must be an array of real numbers"):
            fastlse.logmeanexp([1j])
        with pytest.raises(ValueError, match="out must have shape"):
            fastlse.logmeanexp([1.0], out=np.ones(2))
        with pytest.raises(np.exceptions.AxisError):
            fastlse.logmeanexp([1.0], 1)
        with pytest.raises(TypeError, match="where must be an array of bools"):
            fastlse.logmeanexp([1.0], where=1)
