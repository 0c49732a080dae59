"""expit, log_expit and softplus: SciPy's values, accurate everywhere, for any dtype and layout."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from operations import assert_same_bits
from reference import DTYPES, assert_within, factor, longdouble, needs_longdouble
from scipy import special

import fastlse
from fastlse import elementwise

FUNCTIONS = ["expit", "log_expit", "softplus"]
BOUNDS = {
    "expit": elementwise.EXPIT_ULP,
    "log_expit": elementwise.LOG_EXPIT_ULP,
    "softplus": elementwise.SOFTPLUS_ULP,
}
SCIPY = {
    "expit": special.expit,
    "log_expit": special.log_expit,
    "softplus": lambda x: np.logaddexp(0, x),
}

each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def exact(name, x):
    """In longdouble, whose range exp(-abs(x)) does not leave here."""
    x = x.astype(longdouble)
    e = np.exp(-np.abs(x))
    if name == "expit":
        return np.where(x < 0, e, 1) / (1 + e)
    if name == "log_expit":
        return np.minimum(x, 0) - np.log1p(e)
    return np.maximum(x, 0) + np.log1p(e)


def arguments(dtype, n=60_000, seed=0):
    """Of every size, to where exp(-abs(x)) underflows and beyond."""
    rng = np.random.default_rng(seed)
    deepest = 104 if dtype == "float32" else 746
    x = [
        rng.uniform(-3, 3, n),
        rng.uniform(-40, 40, n),
        rng.uniform(-deepest, deepest, n),
        rng.standard_normal(n) * 10 ** rng.uniform(-38, 1, n),
        np.linspace(-800, 800, 16_001),
    ]
    return np.concatenate(x).astype(dtype)


def random(shape, dtype="float64", seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 8).astype(dtype)


@needs_longdouble
@each_function
@each_dtype
def test_accuracy(backend, name, dtype):
    """Within the bound of the exact result, subnormal ones included."""
    x = arguments(dtype)
    assert_within(getattr(fastlse, name)(x), exact(name, x), factor(backend) * BOUNDS[name])


@needs_longdouble
def test_the_reference_itself():
    mp = pytest.importorskip("mpmath")
    with mp.workprec(300):
        for value in (-745.0, -40.0, -1.0, -1e-20, 0.0, 0.25, 30.0, 700.0):
            e = mp.exp(-mp.mpf(value))
            truth = {"expit": 1 / (1 + e), "log_expit": -mp.log1p(e)}
            truth["softplus"] = mp.log1p(mp.exp(mp.mpf(value)))
            for name, expected in truth.items():
                given = exact(name, np.array([value]))[0]
                assert abs(mp.mpf(np.format_float_scientific(given)) / expected - 1) < 1e-18


@each_function
def test_scipy(backend, name):
    x = random(1000)
    assert_allclose(getattr(fastlse, name)(x), SCIPY[name](x), rtol=1e-14)
    x = x.astype("float32")
    assert_allclose(getattr(fastlse, name)(x), SCIPY[name](x), rtol=1e-6)


@each_function
@pytest.mark.parametrize("dtype", ["float16", *DTYPES, "longdouble"])
def test_infinities_nan_and_zero(backend, name, dtype):
    x = np.array([-np.inf, np.inf, np.nan, 0.0, -0.0], dtype)
    result = getattr(fastlse, name)(x)
    ends = {"expit": [0, 1], "log_expit": [-np.inf, -0.0], "softplus": [0, np.inf]}[name]
    middle = {"expit": 0.5, "log_expit": -np.log(longdouble(2)), "softplus": np.log(longdouble(2))}
    assert result.dtype == dtype
    assert_array_equal(result[:2], ends)
    assert_array_equal(np.signbit(result[:2]), np.signbit(ends))
    assert np.isnan(result[2])
    assert_allclose(result[3:], np.full(2, middle[name], dtype), rtol=2 * np.finfo(dtype).eps)


class TestDtypes:
    @each_function
    @pytest.mark.parametrize("given", ["bool", "int8", "int64", "uint16"])
    def test_integers_become_float64(self, backend, name, given):
        x = np.array([0, 1, 1, 0]).astype(given)
        result = getattr(fastlse, name)(x)
        assert_same_bits((result,), (getattr(fastlse, name)(x.astype("float64")),))

    @each_function
    def test_float16_is_computed_in_float32(self, backend, name):
        x = random(100, "float16")
        expected = getattr(fastlse, name)(x.astype("float32")).astype("float16")
        assert_same_bits((getattr(fastlse, name)(x),), (expected,))

    @needs_longdouble
    @each_function
    def test_longdouble_keeps_its_digits(self, backend, name):
        x = random(100).astype(longdouble) / 3
        result = getattr(fastlse, name)(x)
        assert result.dtype == longdouble
        assert_allclose(result, exact(name, x), rtol=4 * np.finfo(longdouble).eps)

    @each_function
    @each_dtype
    def test_byte_order(self, backend, name, dtype):
        x = random((5, 70), dtype)
        swapped = x.astype(x.dtype.newbyteorder())
        assert_same_bits((getattr(fastlse, name)(swapped),), (getattr(fastlse, name)(x),))

    @each_function
    def test_scalars(self, backend, name):
        """Python and NumPy scalars and 0-d arrays give scalars."""
        function = getattr(fastlse, name)
        expected = function(np.array([0.7]))[0]
        for x in (0.7, np.float64(0.7), np.array(0.7), [0.7][0]):
            result = function(x)
            assert type(result) is np.float64
            assert result == expected
        assert type(function(np.float32(0.7))) is np.float32
        assert type(function(1)) is np.float64
        assert type(function(np.float16(1))) is np.float16

    @each_function
    @each_dtype
    def test_empty(self, backend, name, dtype):
        for shape in [(0,), (3, 0), (0, 4, 2)]:
            result = getattr(fastlse, name)(np.empty(shape, dtype))
            assert result.shape == shape
            assert result.dtype == dtype

    @each_function
    def test_masked(self, backend, name):
        x = np.ma.MaskedArray([1.0, np.nan, 2.0], [False, True, False])
        result = getattr(fastlse, name)(x)
        assert isinstance(result, np.ma.MaskedArray)
        assert_array_equal(result.mask, x.mask)
        assert_array_equal(result.compressed(), getattr(fastlse, name)(np.array([1.0, 2.0])))

    @each_function
    @pytest.mark.parametrize(
        "x", [[1j], np.array([1.0], object), "text", None, [[1.0], [1.0, 2.0]]]
    )
    def test_no_numbers(self, backend, name, x):
        with pytest.raises(TypeError, match="x must be an array"):
            getattr(fastlse, name)(x)


def layouts(x):
    """The numbers of a 2-D array in other layouts, each with its plain copy."""
    wide = np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)
    unaligned = np.frombuffer(b"." + x.tobytes(), x.dtype, x.size, offset=1).reshape(x.shape)
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "transposed": x.T,
        "Fortran": np.asfortranarray(x),
        "steps": wide[::2, ::3],
        "steps transposed": wide.T[::3, ::2],
        "backwards": x[::-1, ::-1],
        "column": x[:, 1],
        "broadcast": np.broadcast_to(x[:, :1], x.shape),
        "three axes": np.moveaxis(np.stack([x, x + 1, x - 1]), 0, 1),
        "unaligned": unaligned,
        "read-only": read_only,
    }


@each_function
@each_dtype
class TestLayouts:
    @pytest.mark.parametrize("shape", [(2, 3), (37, 61), (700, 100)])
    def test_same_bits_as_the_copy(self, backend, name, dtype, shape):
        for x in layouts(random(shape, dtype)).values():
            expected = getattr(fastlse, name)(x.copy(order="C"))
            assert_same_bits((getattr(fastlse, name)(x),), (expected,))

    def test_out_of_any_layout(self, backend, name, dtype):
        x = random((37, 61), dtype)
        expected = getattr(fastlse, name)(x)
        outs = (
            np.empty_like(x),
            np.empty((61, 37), dtype).T,
            np.empty((74, 183), dtype)[::2, ::3],
            np.empty_like(x)[::-1],
        )
        for out in outs:
            assert getattr(fastlse, name)(x, out=out) is out
            assert_same_bits((out,), (expected,))

    def test_in_place(self, backend, name, dtype):
        for x in layouts(random((37, 61), dtype)).values():
            if x.flags.writeable and 0 not in x.strides:
                expected = getattr(fastlse, name)(x.copy())
                assert getattr(fastlse, name)(x, out=x) is x
                assert_same_bits((x,), (expected,))

    def test_partial_overlap(self, backend, name, dtype):
        """As if it did not overlap."""
        for shift in (1, 5, 600):
            for flip in (1, -1):
                memory = random(3000, dtype)
                x, out = memory[:2000][::flip], memory[shift : shift + 2000]
                expected = getattr(fastlse, name)(x.copy())
                getattr(fastlse, name)(x, out=out)
                assert_same_bits((out,), (expected,))

    def test_position_and_number_of_elements(self, backend, name, dtype):
        x = random(300, dtype)
        whole = getattr(fastlse, name)(x)
        for start, stop in [(0, 1), (1, 2), (3, 64), (5, 70), (31, 64), (33, 300), (299, 300)]:
            part = getattr(fastlse, name)(x[start:stop])
            assert_same_bits((part,), (whole[start:stop],))

    def test_number_of_threads(self, backend, name, dtype, threads_for_small_problems):
        x = random(300_001, dtype)
        with fastlse.threads(1):
            alone = getattr(fastlse, name)(x)
        for n_threads in (2, 5):
            with fastlse.threads(n_threads):
                assert_same_bits((getattr(fastlse, name)(x),), (alone,))
                assert_same_bits((getattr(fastlse, name)(x[::2]),), (alone[::2],))

    def test_rejected_out(self, backend, name, dtype):
        x = random((3, 4), dtype)
        function = getattr(fastlse, name)
        other = "float64" if dtype == "float32" else "float32"
        with pytest.raises(TypeError, match=f"out must have dtype {dtype}, got dtype {other}"):
            function(x, out=np.empty((3, 4), other))
        with pytest.raises(ValueError, match=r"out must have shape \(3, 4\), got shape \(4, 3\)"):
            function(x, out=np.empty((4, 3), dtype))
        with pytest.raises(TypeError, match=r"out must be a numpy\.ndarray, got list"):
            function(x, out=[])
        out = np.zeros((3, 4), dtype)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out must be writeable"):
            function(x, out=out)
