"""Any memory layout: axes, strides, byte order, alignment, and outputs that overlap inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from numpy.lib.stride_tricks import as_strided
from numpy.testing import assert_array_equal
from operations import OPERATIONS, WITH_ROWS_OUT, assert_same_bits, rows_and_extras
from reference import (
    DTYPES,
    assert_flushed_within,
    assert_lse_within,
    assert_within,
    exact,
    factor,
    needs_longdouble,
)

import fastlse


def as_rows(x, axes):
    """A copy of `x` as 2-D rows over the reduced axes, and the shape of what is kept."""
    kept = [i for i in range(x.ndim) if i not in axes]
    moved = np.transpose(x, [*kept, *sorted(axes)])
    kept_shape = tuple(x.shape[i] for i in kept)
    return np.array(moved, order="C").reshape(int(np.prod(kept_shape)), -1), kept_shape


def assert_right(backend, x, axis):
    """Every reduction of `x` against the exact results of its rows, copied out."""
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
    copies, kept_shape = as_rows(x, list(axes))
    rows, times = exact(copies), factor(backend)

    lse = fastlse.logsumexp(x, axis=axis)
    assert np.shape(lse) == kept_shape
    assert_lse_within(np.ravel(lse), rows, times)
    keepdims = fastlse.logsumexp(x, axis=axis, keepdims=True)
    assert keepdims.shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    assert_array_equal(keepdims.ravel(), np.ravel(lse))

    softmax = fastlse.softmax(x, axis=axis)
    bound = times * (reference.SOFTMAX + rows.softmax_gap)
    assert softmax.shape == x.shape
    assert_flushed_within(as_rows(softmax, list(axes))[0], rows.softmax, bound)
    bound = times * (reference.LOG_SOFTMAX + rows.log_softmax_gap)
    log_softmax = fastlse.log_softmax(x, axis=axis)
    assert_within(as_rows(log_softmax, list(axes))[0], rows.log_softmax, bound)


def random(shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype) * 4


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
class TestInput:
    def test_any_axes(self, backend, dtype):
        x = random((3, 4, 5, 6), dtype)
        for order in ("C", "F"):
            for count in (1, 2, 3, 4):
                for axis in itertools.combinations(range(4), count):
                    assert_right(backend, np.array(x, order=order), axis)
            assert_right(backend, np.array(x, order=order), None)
            assert_right(backend, np.array(x, order=order), (2, -4))
            assert_right(backend, np.array(x, order=order), -2)

    def test_any_order_of_axes(self, backend, dtype):
        x = random((7, 70, 9), dtype)
        for order in itertools.permutations(range(3)):
            for axis in (0, 1, 2, (0, 2), (0, 1)):
                assert_right(backend, x.transpose(order), axis)

    def test_negative_strides(self, backend, dtype):
        x = random((6, 70, 5), dtype)
        for signs in itertools.product((1, -1), repeat=3):
            view = x[tuple(slice(None, None, sign) for sign in signs)]
            for axis in (0, 1, 2, (1, 2), None):
                assert_right(backend, view, axis)

    def test_gaps(self, backend, dtype):
        x = random((12, 140, 9), dtype)
        for view in (x[::2], x[:, ::2], x[:, :, ::2], x[::3, 1::2, ::-4], x[5:6], x[:, 3:4]):
            for axis in (0, 1, 2, (0, 1), None):
                assert_right(backend, view, axis)

    def test_zero_strides(self, backend, dtype):
        x = random((1, 70), dtype)
        for view in (
            np.broadcast_to(x, (66, 70)),
            np.broadcast_to(x.T, (70, 66)),
            np.broadcast_to(x[0, 0], (3, 4)),
            np.broadcast_to(x[:, :, None], (2, 70, 3)),
            as_strided(x, (5, 40), (x.itemsize, x.itemsize)),  # rows that overlap
        ):
            for axis in (0, 1, None):
                assert_right(backend, view, axis)

    def test_read_only(self, backend, dtype):
        x = random((20, 10), dtype)
        x.flags.writeable = False
        for axis in (0, 1, None):
            assert_right(backend, x, axis)
        target = np.zeros(20, np.int64)
        target.flags.writeable = False
        assert fastlse.cross_entropy(x, target) > 0

    def test_byte_order(self, backend, dtype):
        for shape in [(20, 10), (3, 300), (2, 5000)]:
            x = random(shape, dtype)
            swapped = x.astype(x.dtype.newbyteorder())
            for axis in (0, 1, None):
                for array in (swapped, swapped[::-1, ::-1]):
                    native = array.astype(dtype)
                    for name in ("logsumexp", "softmax", "log_softmax"):
                        function = getattr(fastlse, name)
                        result = function(array, axis=axis)
                        assert result.dtype == dtype
                        assert result.dtype.isnative
                        assert_same_bits((result,), (function(native, axis=axis),))

    def test_unaligned(self, backend, dtype):
        for shape in [(20, 10), (3, 300), (2, 5000)]:
            x = random(shape, dtype)
            buffer = bytearray(x.nbytes + 8)
            unaligned = np.ndarray(shape, dtype, buffer, 3)
            unaligned[...] = x
            assert not unaligned.flags.aligned
            for axis in (0, 1, None):
                assert_right(backend, unaligned, axis)

    def test_field_of_records(self, backend, dtype):
        records = np.zeros((20, 10), [("tag", "u1"), ("x", dtype)])
        records["x"] = random((20, 10), dtype)
        for axis in (0, 1, None):
            assert_right(backend, records["x"], axis)

    def test_0d(self, backend, dtype):
        for value in (np.array(1.5, dtype), np.dtype(dtype).type(1.5)):
            for axis in (None, 0, -1):
                assert fastlse.logsumexp(value, axis=axis) == 1.5
                assert fastlse.softmax(value, axis=axis) == 1
                assert fastlse.log_softmax(value, axis=axis) == 0
            assert np.ndim(fastlse.softmax(value)) == 0

    def test_many_dimensions(self, backend, dtype):
        x = random((2,) * 12, dtype)
        assert_right(backend, x, (0, 3, 5, 11))
        assert_right(backend, x.transpose(np.random.default_rng(0).permutation(12)), (1, 2, 9))
        deep = random((1,) * 60 + (3, 2), dtype)
        assert_right(backend, deep, (0, 61))
        assert_right(backend, deep, 60)

    def test_columns_of_many_lengths(self, backend, dtype):
        for n in (1, 2, 31, 32, 33, 63, 64, 65, 129):
            for n_rows in (1, 2, 31, 32, 33, 63, 64, 65):
                assert_right(backend, random((n, n_rows), dtype), 0)

    def test_a_middle_axis(self, backend, dtype):
        """Rows that are neighbours in memory a few at a time: no tile of them is one run."""
        for n, inner in itertools.product((2, 3, 10, 40, 100), (2, 7, 8, 20, 100)):
            x = random((13, n, inner), dtype)
            assert_right(backend, x, 1)
            target = np.random.default_rng(0).integers(n, size=(13, inner))
            loss, grad = fastlse.cross_entropy_and_grad(x, target, axis=1, reduction="none")
            rows = np.array(np.moveaxis(x, 1, 2), order="C")
            expected = fastlse.cross_entropy_and_grad(rows, target, reduction="none")
            assert_array_equal(loss, expected[0])
            assert_array_equal(np.moveaxis(grad, 1, 2), expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
class TestDistantElements:
    """Strides and sizes beyond 2**31: the address is what must not overflow."""

    def test_strides_of_gigabytes(self, backend, dtype):
        stride = 2**31 + 64
        try:
            memory = np.zeros(3 * stride, np.uint8)  # never touched but for a few pages
        except MemoryError:
            pytest.skip("no address space for 6 GiB")
        x = np.ndarray((3, 5), dtype, memory, 0, (stride, np.dtype(dtype).itemsize))
        x[...] = random((3, 5), dtype)
        for view in (x, x[::-1]):
            for axis in (0, 1, None):
                for name in ("logsumexp", "softmax", "log_softmax"):
                    function = getattr(fastlse, name)
                    expected = function(view.copy(), axis=axis)
                    assert_same_bits((function(view, axis=axis),), (expected,))
        expected = fastlse.cross_entropy_and_grad(x.copy(), [0, 1, 2])
        loss, grad = fastlse.cross_entropy_and_grad(x, [0, 1, 2], out=x)
        assert_same_bits((loss, grad.copy()), expected)

    def test_more_than_two_to_the_31_elements(self, dtype):
        if fastlse.available_backends()[0] in ("numpy", "baseline"):
            pytest.skip("takes too long without vectors")
        n = 2**31 + 100
        x = np.broadcast_to(np.zeros((), dtype), (n,))
        lse = fastlse.logsumexp(x)
        assert abs(lse - np.log(n)) <= 3 * np.spacing(lse)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", WITH_ROWS_OUT.values(), ids=WITH_ROWS_OUT)
class TestOut:
    SHAPES = ((20, 10), (70, 65), (3, 300), (2, 5000), (2, 70_000))

    def test_any_layout_of_out(self, backend, operation, dtype):
        for n_rows, n in self.SHAPES:
            x, extras = rows_and_extras(n_rows, n, dtype)
            expected = operation(x, extras)
            memory = np.full((2 * n_rows + 1, 2 * n + 1), 7, dtype)
            for out in (
                np.empty((n_rows, n), dtype, order="F"),
                memory[1::2, 1::2],
                memory[-2:0:-2, -2:0:-2],
                memory[:n_rows, n::-1][:, :n],
            ):
                assert_same_bits(operation(x, extras, out=out), expected)
                assert_same_bits((out,), expected[-1:])
            memory[...] = 7
            operation(x, extras, out=memory[1::2, 1::2])
            memory[1::2, 1::2] = 7
            assert_array_equal(memory, np.full_like(memory, 7))

    def test_exact_overlap(self, backend, operation, dtype):
        views = (
            lambda a, n_rows, n: a[:n_rows, :n],
            lambda a, n_rows, n: a[::2, ::2],
            lambda a, n_rows, n: a[::-2, ::-2],
            lambda a, n_rows, n: a.reshape(2 * n, 2 * n_rows)[:n, :n_rows].T,
        )
        for n_rows, n in self.SHAPES:
            wide, _ = rows_and_extras(2 * n_rows, 2 * n, dtype)
            _, extras = rows_and_extras(n_rows, n, dtype)
            for view in views:
                array = wide.copy()
                x = view(array, n_rows, n)
                expected = operation(x.copy(), extras)
                result = operation(x, extras, out=x)
                assert_same_bits(result, expected)
                assert_same_bits((view(array, n_rows, n),), expected[-1:])

    def test_partial_overlap(self, backend, operation, dtype):
        """The result is as if the output did not overlap the input."""
        views = (
            (lambda a, n: a[:-1, :n], lambda a, n: a[1:, :n]),
            (lambda a, n: a[1:, :n], lambda a, n: a[:-1, :n]),
            (lambda a, n: a[:-1, :n], lambda a, n: a[:-1, 1 : n + 1]),
            (lambda a, n: a[:-1, 3 : n + 3], lambda a, n: a[:-1, :n]),
            (lambda a, n: a[:-1, :n], lambda a, n: a[-2::-1, :n]),
            (lambda a, n: a[:-1, :n], lambda a, n: a[:-1, n - 1 :: -1]),
        )
        for n_rows, n in self.SHAPES:
            wide, _ = rows_and_extras(n_rows + 1, n + 3, dtype)
            _, extras = rows_and_extras(n_rows, n, dtype)
            for view_x, view_out in views:
                array = wide.copy()
                x, out = view_x(array, n), view_out(array, n)
                expected = operation(x.copy(), extras)
                result = operation(x, extras, out=out)
                assert_same_bits(result, expected)
                assert_same_bits((out,), expected[-1:])

    def test_transposed_overlap(self, backend, operation, dtype):
        for n in (10, 70):
            x, extras = rows_and_extras(n, n, dtype)
            expected = operation(x.copy(), extras)
            assert_same_bits(operation(x, extras, out=x.T), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_that_overlaps_other_inputs(backend, dtype):
    """An output over `b`, `where`, the weights or the targets is as good as one apart."""
    for shape in [(20, 10), (2, 5000)]:
        x, extras = rows_and_extras(*shape, dtype)
        memory = np.zeros(2 * x.size, dtype)
        out = memory[: x.size].reshape(shape)

        where = out.view(bool)[:, : shape[1]]
        where[...] = extras.where
        expected = fastlse.softmax(x, axis=1, where=extras.where)
        assert_same_bits((fastlse.softmax(x, axis=1, where=where, out=out),), (expected,))

        b = out
        b[...] = extras.b
        lse_out = out[:, 0]
        expected = fastlse.logsumexp(x, axis=1, b=extras.b)
        assert_same_bits((fastlse.logsumexp(x, axis=1, b=b, out=lse_out),), (expected,))

        weight = out[0]
        weight[...] = extras.weight
        expected = fastlse.cross_entropy_and_grad(x, extras.target, extras.weight)
        result = fastlse.cross_entropy_and_grad(x, extras.target, weight, out=out)
        assert_same_bits(result, expected)

        target = memory.view(np.uint8)[: 8 * shape[0]].view(np.int64)
        target[...] = extras.target
        expected = fastlse.cross_entropy_and_grad(x, extras.target)
        assert_same_bits(fastlse.cross_entropy_and_grad(x, target, out=out), expected)

        sample_weight = memory.view(np.uint8)[: 8 * shape[0]].view(np.float64)
        sample_weight[...] = extras.sample_weight
        options = {"sample_weight": extras.sample_weight}
        expected = fastlse.cross_entropy_and_grad(x, extras.target, **options)
        result = fastlse.cross_entropy_and_grad(
            x, extras.target, sample_weight=sample_weight, out=out
        )
        assert_same_bits(result, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [*range(1, 21), 33, 100])
@pytest.mark.parametrize("operation", WITH_ROWS_OUT.values(), ids=WITH_ROWS_OUT)
def test_part_of_a_wider_array(backend, operation, n, dtype):
    """Rows that lie among others' elements: neither are those read nor are they written over."""
    x, extras = rows_and_extras(140, n, dtype)
    wider, out = np.full((2, 141, n + 3), np.nan, dtype)
    wider[:140, 1:-2] = x
    expected = operation(x, extras)
    result = operation(wider[:140, 1:-2], extras, out=out[:140, 1:-2])
    assert_same_bits(result, expected)
    out[:140, 1:-2] = np.nan
    assert np.isnan(out).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", WITH_ROWS_OUT.values(), ids=WITH_ROWS_OUT)
def test_new_arrays_lie_as_the_input_does(backend, operation, dtype):
    x, extras = rows_and_extras(20, 12, dtype)
    padded = np.zeros((12, 40), dtype)
    padded[:, ::2] = x.T
    for view in (np.asfortranarray(x), padded.T[::2], np.asfortranarray(x)[::-1, ::-1]):
        assert operation(view, extras)[-1].flags.f_contiguous
    for view in (x, x[:, ::-1], np.broadcast_to(x[0], x.shape)):
        assert operation(view, extras)[-1].flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_out(backend, dtype):
    """Logsumexp into arrays of any layout, over its own input too."""
    x = random((20, 10), dtype)
    expected = fastlse.logsumexp(x, axis=1)
    for out in (
        np.empty(20, dtype),
        np.empty(40, dtype)[::2],
        np.empty(20, dtype)[::-1],
        np.ndarray(20, dtype, bytearray(20 * 8 + 8), 3),
    ):
        assert fastlse.logsumexp(x, axis=1, out=out) is out
        assert_same_bits((out,), (expected,))
    array = x.copy()
    assert_same_bits((fastlse.logsumexp(array, axis=1, out=array[:, 3]),), (expected,))
    out = np.empty((20, 1), dtype)
    fastlse.logsumexp(x, axis=1, keepdims=True, out=out)
    assert_same_bits((out[:, 0],), (expected,))
    out = np.empty((), dtype)
    assert fastlse.logsumexp(x, out=out) is out
    assert out[()] == fastlse.logsumexp(x)
    lse, sign = fastlse.logsumexp(x, axis=1, return_sign=True, out=np.empty(20, dtype))
    np.testing.assert_array_max_ulp(lse, expected, 3)
    assert_array_equal(sign, np.ones(20))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_input_is_left_alone(backend, operation):
    """No input is written to, unless it is `out`."""
    for shape in [(20, 10), (3, 300), (2, 5000)]:
        x, extras = rows_and_extras(*shape, "float64")
        given = [x, extras.b, extras.where, extras.target, extras.sample_weight, extras.weight]
        before = [array.copy() for array in given]
        operation(x, extras)
        operation(np.asfortranarray(x), extras)
        for array, copy in zip(given, before, strict=True):
            assert_array_equal(array, copy)
