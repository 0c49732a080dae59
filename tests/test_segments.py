"""Ragged rows: every segment is computed as a row, however the segments are given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from operations import assert_same_bits
from reference import (
    DTYPES,
    KINDS,
    assert_flushed_within,
    assert_lse_within,
    exact,
    factor,
    make_rows,
    needs_longdouble,
)

import fastlse
from fastlse import segments

inf, nan = np.inf, np.nan


def ragged(lengths, dtype="float64", inner=()):
    """Values, ids and boundaries of segments of these lengths."""
    rng = np.random.default_rng(len(lengths))
    x = rng.standard_normal((sum(lengths), *inner)) * 10
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return x.astype(dtype), np.repeat(np.arange(len(lengths)), lengths), indptr


LENGTHS = [
    [3, 0, 1, 5, 2],
    [0, 0, 4, 0],
    [1] * 200,
    [100, 10, 5000, 64, 65, 300, 0, 33],
    [40_000, 3, 70_001, 10],
    list(range(70)),
]


@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: str(len(lengths)))
@pytest.mark.parametrize("dtype", DTYPES)
class TestEverySegmentIsARow:
    def test_in_one_dimension(self, backend, dtype, lengths):
        x, ids, indptr = ragged(lengths, dtype)
        lse = [fastlse.logsumexp(x[a:b], axis=0) for a, b in itertools.pairwise(indptr)]
        softmax = [fastlse.softmax(x[a:b], axis=0) for a, b in itertools.pairwise(indptr)]
        lse, softmax = np.array(lse, dtype), np.concatenate(softmax)
        for given_x in (x, np.repeat(x, 3)[::3], x[::-1].copy()[::-1]):
            for how in ({"indptr": indptr}, {"segment_ids": ids, "num_segments": len(lengths)}):
                assert_same_bits((fastlse.segment_logsumexp(given_x, **how),), (lse,))
                assert_same_bits((fastlse.segment_softmax(given_x, **how),), (softmax,))

    def test_more_dimensions(self, backend, dtype, lengths):
        if sum(lengths) > 10_000:
            lengths = [length // 50 for length in lengths]
        for inner in ((3,), (2, 5), (70,)):
            x, ids, indptr = ragged(lengths, dtype, inner)
            lse = fastlse.segment_logsumexp(x, ids, len(lengths))
            softmax = fastlse.segment_softmax(x, ids, len(lengths))
            assert lse.shape == (len(lengths), *inner)
            assert softmax.shape == x.shape
            for k in range(len(lengths)):
                part = slice(indptr[k], indptr[k + 1])
                assert_same_bits((lse[k],), (fastlse.logsumexp(x[part], axis=0),))
                assert_same_bits((softmax[part],), (fastlse.softmax(x[part], axis=0),))
            turned = np.asfortranarray(x)
            assert_same_bits((fastlse.segment_softmax(turned, indptr=indptr),), (softmax,))

    def test_unsorted_ids(self, backend, dtype, lengths):
        x, ids, _ = ragged(lengths, dtype)
        lse = fastlse.segment_logsumexp(x, ids, len(lengths))
        softmax = fastlse.segment_softmax(x, ids, len(lengths))
        # stable, so that the elements of a segment keep their order and even the bits are the same
        shuffled = np.argsort(ids * 7 % len(lengths), kind="stable")
        assert np.any(np.diff(ids[shuffled]) < 0) or len(set(ids)) == 1
        assert_same_bits(
            (fastlse.segment_logsumexp(x[shuffled], ids[shuffled], len(lengths)),), (lse,)
        )
        assert_same_bits(
            (fastlse.segment_softmax(x[shuffled], ids[shuffled], len(lengths)),),
            (softmax[shuffled],),
        )

    def test_threads(self, compiled_backend, dtype, lengths, threads_for_small_problems):
        x, _, indptr = ragged(lengths, dtype)
        for function in (fastlse.segment_logsumexp, fastlse.segment_softmax):
            alone = function(x, indptr=indptr, n_threads=1)
            for n_threads in (2, 5):
                together = function(x, indptr=indptr, n_threads=n_threads)
                assert_same_bits((together,), (alone,))


def test_few_long_segments_share_the_threads(compiled_backend, threads_for_small_problems):
    x, _, indptr = ragged([600_000, 0, 500_000])
    for function in (fastlse.segment_logsumexp, fastlse.segment_softmax):
        alone = function(x, indptr=indptr, n_threads=1)
        assert_same_bits((function(x, indptr=indptr, n_threads=3),), (alone,))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_accuracy(backend, kind, dtype):
    for n in (1, 2, 10, 33, 300):
        x = make_rows(kind, 20, n, dtype)
        rows, indptr = exact(x), np.arange(0, x.size + 1, n)
        lse = fastlse.segment_logsumexp(x.reshape(-1), indptr=indptr)
        assert segments.SEGMENT_LOGSUMEXP_ULP == fastlse.reductions.LOGSUMEXP_ULP
        assert_lse_within(lse, rows, factor(backend))
        softmax = fastlse.segment_softmax(x.reshape(-1), indptr=indptr).reshape(x.shape)
        bound = factor(backend) * (segments.SEGMENT_SOFTMAX_ULP + rows.softmax_gap)
        assert_flushed_within(softmax, rows.softmax, bound)


@given(data=st.data())
def test_any_ids(data):
    n_segments = data.draw(st.integers(1, 6))
    ids = np.array(data.draw(st.lists(st.integers(0, n_segments - 1), max_size=30)), np.int64)
    x = np.array(data.draw(st.lists(st.floats(), min_size=ids.size, max_size=ids.size)), float)
    expected = [fastlse.logsumexp(x[ids == k], axis=0) for k in range(n_segments)]
    for name in fastlse.available_backends():
        with fastlse.use_backend(name):
            lse = fastlse.segment_logsumexp(x, ids, n_segments)
            np.testing.assert_allclose(lse, expected, rtol=1e-14, atol=1e-320)
            softmax = fastlse.segment_softmax(x, ids, n_segments)
            for k in range(n_segments):
                np.testing.assert_allclose(
                    softmax[ids == k], fastlse.softmax(x[ids == k]), rtol=1e-14, atol=1e-307
                )


def test_what_is_no_number(backend):
    x = np.array([nan, 1.0, inf, 2.0, -inf, -inf, 3.0])
    ids = [0, 0, 1, 1, 2, 2, 4]
    assert_array_equal(fastlse.segment_logsumexp(x, ids), [nan, inf, -inf, -inf, 3])
    assert_array_equal(fastlse.segment_softmax(x, ids), [nan] * 6 + [1])


def test_ids_of_every_kind(backend):
    x = np.arange(4.0)
    expected = fastlse.segment_logsumexp(x, indptr=[0, 2, 4])
    for dtype in (np.int8, np.uint8, np.int64, np.uint64, ">i4"):
        ids = np.array([0, 0, 1, 1], dtype)
        assert_array_equal(fastlse.segment_logsumexp(x, ids), expected)
        assert_array_equal(fastlse.segment_logsumexp(x[::-1], ids[::-1].astype(dtype)), expected)
        indptr = np.array([0, 2, 4], dtype)
        assert_array_equal(fastlse.segment_logsumexp(x, indptr=indptr, num_segments=2), expected)
    assert_array_equal(fastlse.segment_logsumexp(x, [0, 0, 1, 1], np.int8(3)), [*expected, -inf])
    many = fastlse.segment_logsumexp(x, [70_000, 0, 70_000, 1])
    assert many.shape == (70_001,)
    assert_array_equal(many[[0, 1]], [1, 3])
    assert many[-1] == fastlse.logsumexp([0.0, 2.0])


def test_unsorted_ids_of_more_than_16_bits(backend):
    rng = np.random.default_rng(0)
    ids, x = rng.integers(200_000, size=100_000), rng.standard_normal(100_000)
    expected = np.full(200_000, -inf)
    np.logaddexp.at(expected, ids, x)
    lse = fastlse.segment_logsumexp(x, ids, 200_000)
    np.testing.assert_allclose(lse, expected, rtol=1e-13, atol=1e-13)
    softmax = fastlse.segment_softmax(x, ids, 200_000)
    np.testing.assert_allclose(softmax, np.exp(x - expected[ids]), rtol=1e-12)


def test_dtypes_and_masks(backend):
    for dtype, expected in (("float16", "float16"), ("int8", "float64"), (">f4", "float32")):
        x = np.array([0, 1, 1], dtype)
        assert fastlse.segment_logsumexp(x, [0, 0, 1]).dtype == expected
        assert fastlse.segment_softmax(x, [0, 0, 1]).dtype == expected
    masked = np.ma.array([1.0, nan, 2.0, 5.0], mask=[0, 1, 0, 1])
    assert_array_equal(
        fastlse.segment_logsumexp(masked, [0, 0, 0, 1]), [fastlse.logsumexp([1.0, 2.0]), -inf]
    )
    softmax = fastlse.segment_softmax(masked, [0, 0, 0, 1])
    assert_array_equal(softmax[[1, 3]], [0, 0])
    assert_array_equal(softmax[[0, 2]], fastlse.softmax([1.0, 2.0]))


def test_nothing(backend):
    assert fastlse.segment_logsumexp([], []).shape == (0,)
    assert_array_equal(fastlse.segment_logsumexp([], [], 2), [-inf, -inf])
    assert fastlse.segment_softmax([], indptr=[0, 0]).shape == (0,)
    assert fastlse.segment_logsumexp(np.ones((0, 3)), [], 2).tolist() == [[-inf] * 3] * 2
    assert fastlse.segment_logsumexp(np.ones((4, 0)), [0, 1, 1, 1]).shape == (2, 0)
    assert fastlse.segment_softmax(np.ones((4, 0)), [0, 1, 1, 1]).shape == (4, 0)


ONES = np.ones(4)
FUNCTIONS = [fastlse.segment_logsumexp, fastlse.segment_softmax]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"segment_ids": [0, 1, -1, 0]}, IndexError, r"in \[0, 2\), got -1 at 2"),
        ({"segment_ids": [0, 1, 5, 0], "num_segments": 5}, IndexError, r"\[0, 5\), got 5 at 2"),
        ({"segment_ids": [0, 1]}, ValueError, "length of x's first axis, 4, got 2"),
        ({"segment_ids": [[0, 1, 2, 3]]}, ValueError, r"one dimension, got shape \(1, 4\)"),
        ({"segment_ids": [0.0, 1, 2, 3]}, TypeError, "segment_ids must be an array of integers"),
        ({"segment_ids": [0] * 4, "num_segments": -1}, ValueError, "at least 0, got -1"),
        ({"segment_ids": [0] * 4, "num_segments": 1.5}, TypeError, "num_segments must be an int"),
        ({}, TypeError, "only one of them, got neither"),
        ({"segment_ids": [0] * 4, "indptr": [0, 4]}, TypeError, "only one of them, got both"),
        ({"indptr": [0, 3, 2, 4]}, ValueError, "not decrease, got 3 at 1 before 2 at 2"),
        ({"indptr": [0, 5]}, ValueError, "from 0 to the length of x's first axis, 4, got 0 to 5"),
        ({"indptr": [1, 4]}, ValueError, "4, got 1 to 4"),
        ({"indptr": []}, ValueError, "at least one element"),
        ({"indptr": [0, 4], "num_segments": 2}, ValueError, r"num_segments \+ 1 = 3 elements"),
        ({"indptr": [0.0, 4]}, TypeError, "indptr must be an array of integers"),
    ],
)
def test_errors(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(ONES, **arguments)
    with pytest.raises(ValueError, match="x must have an axis of segments"):
        function(3.0, [0])
    with pytest.raises(TypeError, match="x must be an array of real numbers"):
        function([1j], [0])
