"""SciPy's behaviour: the same answer from the same call, but for the deviations that are listed.

The calls are those of SciPy's documentation and what its own tests exercise: values, shapes,
dtypes, factors, signs, complex numbers, infinities and errors. Each runs in both libraries.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_allclose, assert_array_equal

import fastlse

inf, nan = np.inf, np.nan
rng = np.random.default_rng(2024)


def scipys(name, *args, **options):
    """SciPy's answer, with its warnings left out: it gives some where the package gives none."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return getattr(scipy.special, name)(*args, **options)


def assert_same_answer(name, *args, rtol=None, atol=None, **options):
    """The same values up to SciPy's accuracy, shapes, dtypes and kinds of result.

    SciPy's log_softmax is a difference whose error is that of numbers around 1.
    """
    expected = scipys(name, *args, **options)
    result = getattr(fastlse, name)(*args, **options)
    if not isinstance(expected, tuple):
        expected, result = (expected,), (result,)
    assert len(result) == len(expected)
    for ours, theirs in zip(result, expected, strict=True):
        assert isinstance(ours, np.ndarray) == isinstance(theirs, np.ndarray)
        assert np.shape(ours) == np.shape(theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        theirs = np.asarray(theirs)
        eps = np.finfo(theirs.dtype).eps
        if atol is None:
            atol = 4 * eps if name == "log_softmax" else np.finfo(theirs.dtype).tiny
        assert_allclose(ours, theirs, rtol=rtol or 40 * eps, atol=atol)


x3 = rng.standard_normal((3, 4, 5))
b3 = rng.uniform(0.1, 2, (3, 4, 5))
signs3 = rng.choice([-1.0, 1.0], (3, 4, 5)) * b3
x4 = rng.standard_normal((2, 3, 4, 5)) * 10
z = rng.standard_normal((3, 4)) + 1j * rng.uniform(-10, 10, (3, 4))
positive = np.array([2.0, 3.0, 7.0])

LOGSUMEXP = {
    # the documentation's examples
    "arange": ((np.arange(10),), {}),
    "b from the documentation": ((np.arange(10),), {"b": np.arange(10, 0, -1)}),
    "return_sign from the documentation": (([1, 2],), {"b": [1, -1], "return_sign": True}),
    "masked_invalid-like": (([1.0, 2.0, 3.0],), {"b": [1, 0, 1]}),
    # values
    "range of 200": ((np.arange(200),), {}),
    "large": (([1000.0, 1000.0],), {}),
    "large and many": ((np.full(10_000, 10_000.0),), {}),
    "small": (([-1000.0, -1000.0],), {}),
    "far apart": (([1e4, 0.0],), {}),
    "very far apart": (([1e300, -1e300],), {}),
    "confident": (([0.0, -40.0],), {}),
    "nearly zero": ((np.log([0.25, 0.75]) + 1e-9,), {"rtol": 1e-6}),
    "logs of many": ((np.log(np.full((1000, 100), 1e-2)),), {"axis": 1, "atol": 1e-15}),
    "ties": (([3.0, 3.0, 3.0, 1.0],), {}),
    "ties below": (([-5.0, -5.0],), {}),
    "one": (([5.0],), {}),
    "scalar": ((2.5,), {}),
    "integer scalar": ((3,), {}),
    "NumPy scalar": ((np.float32(2.5),), {}),
    "0-d": ((np.array(1.5),), {}),
    "0-d, keepdims": ((np.array(1.5),), {"keepdims": True}),
    "list of lists": (([[1, 2], [3, 4]],), {"axis": 0}),
    # special values
    "nan": (([nan, 1.0],), {}),
    "nan and inf": (([nan, inf],), {}),
    "inf": (([inf, 1.0],), {}),
    "two inf": (([inf, inf],), {}),
    "-inf": (([-inf, 1.0],), {}),
    "all -inf": (([-inf, -inf],), {}),
    "one -inf": ((-inf,), {}),
    "inf and -inf": (([inf, -inf],), {}),
    "rows of specials": (([[inf, 0], [-inf, -inf], [nan, inf], [1, -inf]],), {"axis": 1}),
    "inf, sign": (([inf, 1.0],), {"return_sign": True}),
    "-inf, sign": (([-inf, -inf],), {"return_sign": True}),
    # axes and shapes
    "axis 0": ((x3,), {"axis": 0}),
    "axis 1": ((x3,), {"axis": 1}),
    "axis -1": ((x3,), {"axis": -1}),
    "axis tuple": ((x3,), {"axis": (0, 2)}),
    "axis tuple unsorted": ((x4,), {"axis": (3, 1)}),
    "axis tuple negative": ((x4,), {"axis": (-1, -3)}),
    "axis all of them": ((x3,), {"axis": (0, 1, 2)}),
    "axis None": ((x3,), {"axis": None}),
    "axis one-tuple": ((x3,), {"axis": (1,)}),
    "keepdims": ((x3,), {"axis": 1, "keepdims": True}),
    "keepdims tuple": ((x4,), {"axis": (0, 2), "keepdims": True}),
    "keepdims None": ((x3,), {"keepdims": True}),
    "positional": ((x3, 1, b3, True, True), {}),
    "ones": ((np.ones((1, 2, 3, 4)),), {"axis": (1, 2), "return_sign": True}),
    "ones, keepdims": (
        (np.ones((1, 2, 3, 4)),),
        {"axis": (1, 2), "keepdims": True, "return_sign": True},
    ),
    # factors
    "b": ((x3,), {"axis": 1, "b": b3}),
    "b broadcast": ((x3,), {"axis": 1, "b": b3[:1, :, :1]}),
    "b broadcasts a": ((np.zeros((4, 1, 2, 1)),), {"b": np.ones((3, 1, 5)), "axis": 2}),
    "b broadcasts a, sign": (
        (np.zeros((4, 1, 2, 1)),),
        {"b": np.ones((3, 1, 5)), "axis": 2, "return_sign": True},
    ),
    "b vector": ((x3,), {"b": b3[0, 0]}),
    "b scalar": ((x3,), {"b": 2.0, "axis": -1}),
    "b of both signs": ((x3,), {"b": signs3, "axis": 2, "return_sign": True, "rtol": 1e-12}),
    "b of both signs, no sign": ((x3,), {"b": signs3, "axis": 2, "rtol": 1e-12}),
    "b zero": (([1, 10_000],), {"b": [1, 0]}),
    "b zero on inf": (([inf, 1.0],), {"b": [0, 1]}),
    "b zero on -inf": (([-inf, 1.0],), {"b": [0, 1]}),
    "b all zero": (([1.0, 2.0],), {"b": [0, 0]}),
    "b all zero, sign": (([1.0, 2.0],), {"b": [0, 0], "return_sign": True}),
    "b of logarithms": ((np.log(positive),), {"b": 1 / positive}),
    "b large": (([1000.0, 1000.0],), {"b": [1e5, 3.0]}),
    "negative, sign": (([1.0, 1.0, 1.0],), {"b": [1, -1, -1], "return_sign": True}),
    "negative": (([1.0, 1.0, 1.0],), {"b": [1, -1, -1]}),
    "cancels, sign": (([1.0, 1.0],), {"b": [1, -1], "return_sign": True}),
    "cancels": (([1.0, 1.0],), {"b": [1, -1]}),
    "-inf with b": (([-inf, 1.0],), {"b": [5.0, 1.0]}),
    "inf with -b, sign": (([inf, 1.0],), {"b": [-1.0, 1.0], "return_sign": True}),
    "a row of each sign": (
        ([[1.0, 2.0, 3.0]] * 3,),
        {"b": [[1, 1, 1], [-1, -1, -1], [1, -1, 0]], "axis": 1, "return_sign": True},
    ),
    # dtypes
    "float32": ((x3.astype(np.float32),), {"axis": 1}),
    "float32 with b": ((x3.astype(np.float32),), {"axis": 1, "b": b3.astype(np.float32)}),
    "float32 with float64 b": ((x3.astype(np.float32),), {"axis": 1, "b": b3, "rtol": 1e-6}),
    "float16": ((x3.astype(np.float16),), {"axis": 1, "rtol": 2e-3}),
    "int32": ((np.arange(12, dtype=np.int32).reshape(3, 4),), {"axis": 1}),
    "uint8": ((np.arange(12, dtype=np.uint8).reshape(3, 4),), {"axis": 1}),
    "bool": (([True, False],), {}),
    "longdouble": ((x3.astype(np.longdouble),), {"axis": 1, "rtol": 1e-17}),
    "big-endian": ((x3.astype(">f8"),), {"axis": 1}),
    # complex numbers
    "complex": ((z,), {"axis": 1, "rtol": 1e-13}),
    "complex, None": ((z,), {"rtol": 1e-13}),
    "complex, sign": ((z,), {"axis": 1, "return_sign": True, "rtol": 1e-13}),
    "complex64": ((z.astype(np.complex64),), {"axis": 0, "rtol": 1e-5}),
    "complex with b": ((z,), {"axis": 1, "b": b3[:, :, 0], "rtol": 1e-13}),
    "complex with b, sign": (
        (z,),
        {"axis": 1, "b": signs3[:, :, 0], "return_sign": True, "rtol": 1e-12},
    ),
    "real with complex b": ((z.real,), {"axis": 1, "b": 1j * b3[:, :, 0], "rtol": 1e-13}),
    "complex phase below the axis": (([5.0 - 3j, -2.0 - 3j],), {"rtol": 1e-13}),
    "complex phase far away": (([0.0 + 100j, 1.0 + 100j],), {"rtol": 1e-12}),
    "small imaginary part": (([2.0 + 1e-20j, 1.0],), {"rtol": 1e-13}),
    "complex of real numbers": ((x3.astype(complex),), {"axis": 1, "rtol": 1e-13}),
    "complex -inf": (([complex(-inf, 0), complex(-inf, 0)],), {}),
    "complex nan": (([complex(nan, 0), 1.0 + 0j],), {}),
    # nothing
    "empty": (([],), {}),
    "empty axis": ((np.zeros((3, 0)),), {"axis": 1}),
    "empty axis, keepdims": ((np.zeros((3, 0)),), {"axis": 1, "keepdims": True}),
    "no rows": ((np.zeros((0, 3)),), {"axis": 1}),
}

SOFTMAX = {
    # the documentation's examples
    "documentation": (([[1, 0.5, 0.2, 3], [1, -1, 7, 3], [2, 12, 13, 3]],), {}),
    "documentation, axis 0": (
        ([[1, 0.5, 0.2, 3], [1, -1, 7, 3], [2, 12, 13, 3]],),
        {"axis": 0},
    ),
    "documentation, axis 1": (
        ([[1, 0.5, 0.2, 3], [1, -1, 7, 3], [2, 12, 13, 3]],),
        {"axis": 1},
    ),
    # values
    "one above the others": (([1000, 0, 0, 0],), {}),
    "pair": (([1, 1],), {}),
    "zero and one": (([0, 1],), {}),
    "ordered": ((np.arange(4),), {}),
    "tall": (([[1000, 0], [1000, 0]],), {"axis": 0}),
    "wide": (([[1000, 0], [1000, 0]],), {"axis": 1}),
    "tall, last axis": (([[1000, 0], [1000, 0]],), {"axis": -1}),
    "offset": ((x3 + 1e5,), {"axis": 1, "rtol": 1e-12}),
    "small": (([-1e5, -1e5 - 1],), {}),
    "scalar": ((1000,), {}),
    "float scalar": ((3.5,), {}),
    "0-d": ((np.array(2.0),), {}),
    "0-d, axis 0": ((np.array([2.0]),), {"axis": 0}),
    "one": (([5.0],), {}),
    # axes
    "axis None": ((x3,), {}),
    "axis 0": ((x3,), {"axis": 0}),
    "axis 1": ((x3,), {"axis": 1}),
    "axis -1": ((x3,), {"axis": -1}),
    "axis tuple": ((x3,), {"axis": (1, 2)}),
    "axis tuple apart": ((x4,), {"axis": (0, 3)}),
    "axis all of them": ((x3,), {"axis": (0, 1, 2)}),
    "positional": ((x3, 2), {}),
    # special values
    "-inf": (([-inf, 0.0, 1.0],), {}),
    "all -inf": (([-inf, -inf],), {}),
    "nan": (([nan, 0.0],), {}),
    "inf": (([inf, 0.0],), {}),
    # dtypes
    "float32": ((x3.astype(np.float32),), {"axis": 1}),
    "float16": ((x3.astype(np.float16),), {"axis": 1, "rtol": 1e-2}),
    "int": ((np.arange(12).reshape(3, 4),), {"axis": 1}),
    "longdouble": ((x3.astype(np.longdouble),), {"axis": 1}),
    "complex": ((z,), {"axis": 1, "rtol": 1e-13}),
    # nothing
    "no rows": ((np.zeros((0, 3)),), {"axis": 1}),
}

LOG_SOFTMAX = {
    "documentation, array": (([1000.0, 1.0],), {}),
    "documentation, 2-d": (([[1000.0, 1.0], [0.0, 0.5]],), {"axis": 1}),
    "pair": (([1, 1],), {}),
    "ordered": ((np.arange(4),), {}),
    "ordered, float32": ((np.arange(4, dtype=np.float32),), {}),
    "ordered and offset": ((np.arange(4) + 1e5,), {"rtol": 1e-9}),
    "scalar": ((1.0,), {}),
    "0-d": ((np.array(2.0),), {}),
    "one": (([5.0],), {}),
    "confident": (([40.0, 0.0, 0.0],), {}),
    "axis None": ((x3,), {}),
    "axis 0": ((x3,), {"axis": 0}),
    "axis 1": ((x3,), {"axis": 1}),
    "axis -1": ((x3,), {"axis": -1}),
    "axis tuple": ((x3,), {"axis": (1, 2)}),
    "axis tuple apart": ((x4,), {"axis": (0, 3)}),
    "positional": ((x3, 2), {}),
    "tall": (([[1000, 0], [1000, 0]],), {"axis": 0}),
    "wide": (([[1000, 0], [1000, 0]],), {"axis": 1}),
    "-inf": (([-inf, 0.0, 1.0],), {}),
    "nan": (([nan, 0.0],), {}),
    "all -inf": (([-inf, -inf],), {}),
    "float16": ((x3.astype(np.float16),), {"axis": 1, "rtol": 1e-2}),
    "int": ((np.arange(12).reshape(3, 4),), {"axis": 1}),
    "longdouble": ((x3.astype(np.longdouble),), {"axis": 1}),
    "complex": ((z,), {"axis": 1, "rtol": 1e-13}),
    "no rows": ((np.zeros((0, 3)),), {"axis": 1}),
}


@pytest.mark.parametrize("call", LOGSUMEXP.values(), ids=LOGSUMEXP)
def test_logsumexp(backend, call):
    args, options = call
    assert_same_answer("logsumexp", *args, **options)


@pytest.mark.parametrize("call", SOFTMAX.values(), ids=SOFTMAX)
def test_softmax(backend, call):
    args, options = call
    assert_same_answer("softmax", *args, **options)


@pytest.mark.parametrize("call", LOG_SOFTMAX.values(), ids=LOG_SOFTMAX)
def test_log_softmax(backend, call):
    args, options = call
    assert_same_answer("log_softmax", *args, **options)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None, (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_arrays(backend, axis, dtype):
    for shape in [(3, 4, 5), (1, 1, 1), (2, 70, 3), (65, 2, 40)]:
        x = (rng.standard_normal(shape) * 5).astype(dtype)
        rtol = 1e-12 if dtype == "float64" else 1e-4
        for keepdims in (False, True):
            assert_same_answer("logsumexp", x, axis=axis, keepdims=keepdims, rtol=rtol)
        assert_same_answer("softmax", x, axis=axis, rtol=rtol)
        assert_same_answer("log_softmax", x, axis=axis, rtol=rtol)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
class TestErrors:
    @pytest.mark.parametrize("axis", [3, -4, (0, 3), 10**9])
    def test_axis_out_of_range(self, backend, name, axis):
        with pytest.raises(np.exceptions.AxisError):
            scipys(name, x3, axis=axis)
        with pytest.raises(np.exceptions.AxisError):
            getattr(fastlse, name)(x3, axis=axis)

    def test_axis_twice(self, backend, name):
        with pytest.raises(ValueError, match=r"duplicate|repeated"):
            scipys(name, x3, axis=(1, 1))
        with pytest.raises(ValueError, match="twice"):
            getattr(fastlse, name)(x3, axis=(1, -2))


class TestDeviations:
    """Where the answer is another one on purpose; each with the contract's reason."""

    def test_factors_of_extreme_size(self, backend):
        """log(abs(b)) is folded into the shift, so that the true value comes out."""
        lse = fastlse.logsumexp([0.0, 0.0], b=[1e308, 1e308])
        assert lse == pytest.approx(709.889355822726, rel=1e-15)
        lse = fastlse.logsumexp([700.0, 0.0], b=[5e-324, 1.0])
        assert lse == pytest.approx(np.exp(700.0) * 5e-324, rel=1e-12)

    def test_zero_factor_on_nan(self, backend):
        """An element with b == 0 is dropped, whatever it is; in SciPy a NaN stays."""
        assert fastlse.logsumexp([nan, 1.0], b=[0, 1]) == 1

    def test_log_softmax_beside_infinity(self, backend):
        """log_softmax([inf, 1]) is NaN throughout, as softmax is."""
        assert_array_equal(fastlse.log_softmax([inf, 1.0]), [nan, nan])
        assert_array_equal(fastlse.softmax([inf, 1.0]), [nan, nan])

    def test_empty_axis(self, backend):
        """An empty array of the right shape; SciPy has no maximum of it."""
        for name in ("softmax", "log_softmax"):
            assert getattr(fastlse, name)(np.zeros((3, 0)), axis=1).shape == (3, 0)

    def test_small_probabilities_are_zero(self, backend):
        """Softmax is +0 below the smallest normal number; SciPy's is subnormal."""
        assert scipys("softmax", [0.0, -720.0])[1] > 0
        assert fastlse.softmax([0.0, -720.0])[1] == 0
        assert fastlse.softmax([0.0, -708.0])[1] > 0

    def test_no_warning(self, backend):
        """Any warning would be an error here."""
        for x in ([inf, -inf], [nan, inf], [-inf, -inf], [1e308, -1e308]):
            fastlse.logsumexp(x)
            fastlse.softmax(x)
            assert fastlse.log_softmax(x).shape == (2,)

    def test_confident_rows(self, backend):
        """Accuracy is relative: what the others add is not lost in a number near 1."""
        assert scipys("log_softmax", [40.0, 0.0, 0.0])[0] == 0
        log_softmax = fastlse.log_softmax([40.0, 0.0, 0.0])
        assert log_softmax[0] == pytest.approx(-2 * np.exp(-40), rel=1e-14)
        lse = fastlse.logsumexp([0.0, -40.0 + 1j])
        assert lse.real == pytest.approx(np.exp(-40) * np.cos(1), rel=1e-14)
        assert lse.imag == pytest.approx(np.exp(-40) * np.sin(1), rel=1e-14)

    def test_sign_of_an_empty_sum(self, backend):
        """The sign of a sum of nothing is 0, as that of any sum that is 0."""
        lse, sign = fastlse.logsumexp(np.zeros((3, 0)), axis=1, return_sign=True)
        assert_array_equal(lse, [-inf, -inf, -inf])
        assert_array_equal(sign, [0, 0, 0])

    def test_bools(self, backend):
        """Bools become float64 in softmax, too."""
        assert_array_equal(fastlse.softmax([True, False]), fastlse.softmax([1.0, 0.0]))

    def test_mask(self, backend):
        """A masked array's mask is honoured."""
        x = np.ma.masked_array([1.0, 100.0, 2.0], mask=[False, True, False])
        assert fastlse.logsumexp(x) == pytest.approx(np.log(np.exp(1) + np.exp(2)), rel=1e-15)
