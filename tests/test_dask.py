"""Dask arrays: accurate whatever the chunks, lazy, bad input refused, handed over by themselves."""

from __future__ import annotations

import doctest
import inspect
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dask.array")

import dask
import dask.array as da
from dask_arrays import on_threads
from loss_reference import exact_rows
from reference import (
    DTYPES,
    KINDS,
    assert_flushed_within,
    assert_within,
    exact,
    exact_loss,
    make_rows,
    needs_longdouble,
    ulp,
)
from subprocesses import run
from test_state import assert_state_within

import fastlse
import fastlse.dask
from fastlse import losses, state

inf, nan = np.inf, np.nan
GUIDE = Path(__file__).parent.parent / "docs" / "dask.md"
STREAMS = GUIDE.parent / "examples" / "streams.py"


def never(*arguments, **options):
    raise AssertionError("something was computed")


@pytest.fixture
def nothing_computes():
    """Fail if anything is computed before `compute` is asked for."""
    with dask.config.set(scheduler=never):
        yield


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
class TestAccuracy:
    """Within the states' bounds, confident rows too, whether the classes are split or not."""

    def test_reductions(self, kind, dtype):
        x = make_rows(kind, 12, 300, dtype)
        whole = exact(x)
        for chunks in ((5, 300), (12, 37), (5, 1 + 299 // 2)):
            array = da.from_array(x, chunks=chunks)
            lse, softmax, log_softmax = on_threads(
                fastlse.dask.logsumexp(array, axis=1),
                fastlse.dask.softmax(array, axis=1),
                fastlse.dask.log_softmax(array, axis=1),
            )
            assert_state_within(lse, whole, x, 1)
            bound = state.STATE_SOFTMAX_ULP + whole.softmax_gap
            assert_flushed_within(softmax, whole.softmax, bound)
            assert_within(log_softmax, whole.log_softmax, state.STATE_ULP + whole.log_softmax_gap)

    def test_losses(self, kind, dtype):
        x = make_rows(kind, 12, 300, dtype)
        target = x.argmax(axis=1)
        target[::3] = np.arange(12)[::3]
        x[np.arange(12), target] = np.where(
            np.isinf(x[np.arange(12), target]), x.max(axis=1), x[np.arange(12), target]
        )
        whole = exact_loss(x, target)
        for chunks in ((5, 300), (12, 37), (5, 150)):
            loss, grad = on_threads(
                *fastlse.dask.cross_entropy_and_grad(
                    da.from_array(x, chunks=chunks), target, reduction="none"
                )
            )
            assert_within(loss, whole.loss, state.STATE_ULP + whole.loss_gap)
            assert_flushed_within(grad, whole.grad, state.STATE_GRADIENT_ULP + whole.grad_gap)

    def test_weighted_losses(self, kind, dtype):
        x = make_rows(kind, 12, 300, dtype)
        target = np.maximum(x, -1e30).argmax(axis=1)
        weight = np.random.default_rng(0).uniform(0.5, 2, 300).astype(dtype)
        options = {"sample_weight": np.linspace(0.5, 2, 12)}
        whole = exact_rows(x, target, weight, **options)
        loss, grad = on_threads(
            *fastlse.dask.cross_entropy_and_grad(
                da.from_array(x, chunks=(5, 70)), target, weight, reduction="none", **options
            )
        )
        extra = ulp(whole.loss, dtype)
        assert np.all(np.abs(loss - whole.loss) <= whole.loss_error + extra)
        tiny = np.finfo(dtype).tiny
        assert np.all(np.abs(grad - whole.grad) <= whole.grad_error + ulp(whole.grad, dtype) + tiny)


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_as_accurate(kind, dtype):
    """Elements of all rows in any order, over many chunks, the row of each as its id."""
    x = make_rows(kind, 12, 300, dtype)
    order = np.random.default_rng(0).permutation(x.size)
    ids = np.repeat(np.arange(12), 300)[order]
    lazy = da.from_array(x.reshape(-1)[order], chunks=190)
    result = fastlse.dask.segment_logsumexp(lazy, da.from_array(ids, chunks=400), 12).compute()
    assert_state_within(result, exact(x), x, 1)


@pytest.mark.parametrize("chunks", [(1, 1), (2, 3), (4, 2)])
def test_confident_rows(chunks):
    """The others' share is never lost in a difference from 1."""
    logits = da.from_array(np.array([[40.0, 0, 0], [0, 720, 0], [0, 0, 90], [0, 0, 0]]), chunks)
    loss, grad = fastlse.dask.cross_entropy_and_grad(logits, [0, 1, 2, 0], reduction="none")
    assert loss.compute()[0] == pytest.approx(8.496708510583178e-18, rel=1e-15)
    assert loss.compute()[1] == pytest.approx(2 * np.exp(-720), rel=1e-9)
    assert grad.compute()[0, 0] == pytest.approx(-8.496708510583178e-18, rel=1e-15)


class TestLaziness:
    def calls(self):
        """Every function, of arrays in chunks along rows, classes and both."""
        target = da.from_array(np.arange(12) % 8, chunks=5)
        for chunks in ((4, 8), (12, 3), (4, 3)):
            x = da.random.default_rng(0).standard_normal((12, 8), chunks=chunks)
            yield "logsumexp", (x,), {"axis": 1}
            yield "logsumexp", (x,), {"return_sign": True, "b": x, "where": x > 0}
            yield "softmax", (x, 0), {}
            yield "log_softmax", (x, None), {"where": x > 0}
            yield "logsumexp_and_softmax", (x,), {}
            yield "cross_entropy", (x, target), {"softcap": 3.0}
            yield "cross_entropy_and_grad", (x, target), {"weight": np.ones(8)}
            yield "linear_cross_entropy", (x, np.ones((9, 8)), target), {}
            yield "linear_cross_entropy_and_grad", (x, np.ones((9, 8)), target), {}
            yield "segment_logsumexp", (x, target, 9), {}

    def test_nothing_is_computed(self, nothing_computes):
        for name, arguments, options in self.calls():
            results = getattr(fastlse.dask, name)(*arguments, **options)
            assert all(isinstance(result, da.Array) for result in flat(results))

    def test_the_top_level_functions_hand_over(self, nothing_computes):
        """Any of the arguments may be the Dask array."""
        for name, arguments, options in self.calls():
            results = flat(getattr(fastlse, name)(*arguments, **options))
            expected = flat(getattr(fastlse.dask, name)(*arguments, **options))
            assert [one.name for one in results] == [one.name for one in expected]
        x, target = np.ones((4, 3)), da.zeros(4, dtype=int, chunks=2)
        for result in (
            fastlse.logsumexp(x, where=da.ones((4, 3), dtype=bool, chunks=2)),
            fastlse.cross_entropy(x, target),
            fastlse.cross_entropy(x, np.zeros(4, int), da.ones(3)),
            fastlse.cross_entropy_and_grad(x, target)[1],
            fastlse.linear_cross_entropy(x, da.ones((5, 3), chunks=2), np.zeros(4, int)),
            fastlse.segment_logsumexp(x, target, 3),
        ):
            assert isinstance(result, da.Array)

    def test_the_number_of_tasks_for_each_chunk_is_constant(self):
        def n_tasks(n_chunks, along, name, *arguments):
            chunks = [(8,), (6,)]
            chunks[along] = (2,) * n_chunks
            shape = tuple(map(sum, chunks))
            x = da.ones(shape, chunks=chunks)
            if name == "linear_cross_entropy_and_grad":
                arguments = np.ones((3, shape[1])), *arguments
            if "entropy" in name:
                arguments = *arguments, da.zeros(shape[0], dtype=int, chunks=chunks[:1])
            results = flat(getattr(fastlse.dask, name)(x, *arguments))
            return len(set().union(*(dict(result.__dask_graph__()) for result in results)))

        for name, *arguments in (
            ("logsumexp", 1),
            ("logsumexp", None),
            ("softmax", 1),
            ("log_softmax", 1),
            ("logsumexp_and_softmax", 1),
            ("cross_entropy",),
            ("cross_entropy_and_grad",),
            ("linear_cross_entropy_and_grad",),
        ):
            for along in (0, 1) if "linear" not in name else (0,):
                few, many = (n_tasks(n, along, name, *arguments) for n in (16, 256))
                assert many / 256 <= few / 16 + 1, (name, arguments, along)
                assert many <= 24 * 256

    def test_chunks_of_the_results(self):
        x = da.ones((12, 8), chunks=(5, 3))
        target = np.arange(12) % 8
        assert fastlse.dask.logsumexp(x, 1).chunks == ((5, 5, 2),)
        assert fastlse.dask.softmax(x, 1).chunks == x.chunks
        assert fastlse.dask.cross_entropy(x, target, reduction="none").chunks == ((5, 5, 2),)
        assert fastlse.dask.cross_entropy_and_grad(x, target)[1].chunks == x.chunks
        with_softcap = fastlse.dask.cross_entropy_and_grad(x, target, softcap=3.0)[1]
        assert with_softcap.chunks == ((5, 5, 2), (8,))
        _, gradients = fastlse.dask.linear_cross_entropy_and_grad(x, np.ones((4, 8)), target % 4)
        assert gradients[0].chunks == ((5, 5, 2), (8,))


def flat(results):
    """Arrays from nested tuples, without those that are None."""
    if isinstance(results, tuple):
        return [one for part in results for one in flat(part)]
    return [] if results is None else [results]


def test_every_chunk_is_read_once():
    """Where the states suffice; softmax of split rows takes a chunk for its state and its result,
    but computes it once."""
    for axis in (0, 1, None):
        read = []

        def chunk(block_info=None, read=read):
            read.append(block_info[None]["chunk-location"])
            return np.ones(block_info[None]["chunk-shape"])

        x = da.map_blocks(chunk, chunks=((5,) * 4, (3,) * 4), dtype=float, meta=np.empty((0, 0)))
        read.clear()
        on_threads(*fastlse.dask.logsumexp_and_softmax(x, axis))
        assert sorted(read) == sorted({(i, j) for i in range(4) for j in range(4)})


def test_peak_memory_of_a_large_array():
    """10 GB in chunks of 8 MB, made as they are needed: a few of them are held at a time."""
    shape, chunk = (2**13, 2**18 + 2**16), (2**11, 2**10)

    def make(block_info=None):
        return np.full(block_info[None]["chunk-shape"], 1.0, np.float32)

    x = da.map_blocks(
        make,
        chunks=tuple((c,) * (n // c) for n, c in zip(shape, chunk, strict=True)),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
    assert x.nbytes > 10e9
    tracemalloc.start()
    try:
        lse = fastlse.dask.logsumexp(x).compute(scheduler="threads", num_workers=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lse == pytest.approx(1 + np.log(x.size), rel=1e-6)
    assert peak < 6 * x.dtype.itemsize * chunk[0] * chunk[1]


class TestBadInput:
    x = da.ones((6, 4), chunks=(2, 2))

    def test_unknown_chunk_sizes(self, nothing_computes):
        unknown = self.x[self.x[:, 0] > 0]
        message = r"{} has chunks of unknown sizes along axis 0: call {}.compute_chunk_sizes\(\)"
        target = da.zeros(6, dtype=int)
        of_target = target[target > 0]
        for name, call in (
            ("a", lambda: fastlse.dask.logsumexp(unknown)),
            ("x", lambda: fastlse.softmax(unknown)),
            ("where", lambda: fastlse.dask.logsumexp(self.x, where=unknown > 0)),
            ("b", lambda: fastlse.dask.logsumexp(self.x, b=unknown)),
            ("logits", lambda: fastlse.dask.cross_entropy(unknown, target)),
            ("target", lambda: fastlse.dask.cross_entropy(self.x, of_target)),
            (
                "sample_weight",
                lambda: fastlse.dask.cross_entropy(self.x, target, sample_weight=of_target),
            ),
            ("x", lambda: fastlse.dask.linear_cross_entropy(unknown, np.ones((3, 4)), target)),
            ("segment_ids", lambda: fastlse.dask.segment_logsumexp(self.x, of_target, 3)),
        ):
            with pytest.raises(ValueError, match=message.format(name, name)):
                call()

    def test_shapes(self, nothing_computes):
        """Named with what came; chunks that differ are no error."""
        zeros = da.zeros(6, dtype=int, chunks=5)
        cross_entropy, linear = fastlse.dask.cross_entropy, fastlse.dask.linear_cross_entropy
        for message, call in (
            (
                r"target must have .* \(6,\), got shape \(5,\)",
                lambda: cross_entropy(self.x, zeros[:5]),
            ),
            (
                r"target must .* shape \(6, 4\), got dtype float64 and shape \(6, 3\)",
                lambda: cross_entropy(self.x, da.ones((6, 3))),
            ),
            (
                r"weight must have shape \(4,\) .*, got shape \(3,\)",
                lambda: cross_entropy(self.x, zeros, da.ones(3)),
            ),
            (
                r"sample_weight must have shape \(6,\) .*, got shape \(1,\)",
                lambda: cross_entropy(self.x, zeros, sample_weight=[1]),
            ),
            (
                r"linear_weight must have shape \(n_classes, 4\) .*\(6, 4\), got shape \(4, 3\)",
                lambda: linear(self.x, np.ones((4, 3)), zeros),
            ),
            (
                r"linear_bias must have shape \(5,\).*got shape \(4,\)",
                lambda: linear(self.x, np.ones((5, 4)), zeros, linear_bias=np.ones(4)),
            ),
            (
                r"b must be broadcastable with a of shape \(6, 4\), got shape \(3,\)",
                lambda: fastlse.dask.logsumexp(self.x, b=da.ones(3)),
            ),
            (
                r"where must be broadcastable to shape \(6, 4\), got shape \(2, 6, 4\)",
                lambda: fastlse.dask.logsumexp(self.x, where=np.ones((2, 6, 4), bool)),
            ),
            (
                r"segment_ids must have the length .*, 6, got shape \(5,\)",
                lambda: fastlse.dask.segment_logsumexp(self.x, zeros[:5], 3),
            ),
        ):
            with pytest.raises((ValueError, TypeError), match=message):
                call()

    def test_targets_that_are_no_class(self):
        """Of a Dask array when they are computed, of a NumPy array at once; the row is of all."""
        target = np.zeros(6, int)
        target[3] = 4
        message = r"target must be in \[0, 4\) or ignore_index \(-100\), got 4 in row 3"
        for x in (self.x, self.x.rechunk((2, 4))):
            with pytest.raises(IndexError, match=message):
                fastlse.dask.cross_entropy(x, target)
            lazy = da.from_array(target, chunks=2)
            for result in fastlse.dask.cross_entropy_and_grad(x, lazy, reduction="none"):
                with pytest.raises(IndexError, match=message):
                    result.compute()
            with pytest.raises(IndexError, match=message):
                fastlse.dask.linear_cross_entropy(x, np.ones((4, 4)), lazy).compute()
        cube = da.ones((2, 3, 4), chunks=1)
        lazy = da.from_array(target.reshape(2, 3), chunks=1)
        with pytest.raises(IndexError, match=r"got 4 in row \(1, 0\)"):
            fastlse.dask.cross_entropy(cube, lazy).compute()
        with pytest.raises(IndexError, match=r"segment_ids must be in \[0, 4\), got 4 at 3"):
            fastlse.dask.segment_logsumexp(self.x, da.from_array(target, chunks=2), 4).compute()
        with pytest.raises(IndexError, match=r"segment_ids must be in \[0, 4\), got 4 at 3"):
            fastlse.dask.segment_logsumexp(self.x, target, 4)

    def test_arguments(self, nothing_computes):
        zeros = np.zeros(6, int)
        for message, call in (
            (
                "out must be None for Dask arrays",
                lambda: fastlse.logsumexp(self.x, out=np.empty(())),
            ),
            (
                "out must be None for Dask arrays",
                lambda: fastlse.cross_entropy_and_grad(self.x, zeros, out=np.empty((6, 4))),
            ),
            ("where must be an array of bools", lambda: fastlse.softmax(self.x, where=self.x)),
            (
                "logits must be an array of real numbers.*complex",
                lambda: fastlse.cross_entropy(self.x * 1j, zeros),
            ),
            ("target must be an integer array", lambda: fastlse.cross_entropy(self.x, self.x > 0)),
            ("axis must be", lambda: fastlse.softmax(self.x, axis=1.5)),
            ("segment_ids or indptr must be given", lambda: fastlse.dask.segment_logsumexp(self.x)),
            ("n_threads must be an integer", lambda: fastlse.dask.softmax(self.x, n_threads="two")),
        ):
            with pytest.raises(TypeError, match=message):
                call()
        for message, call in (
            ("softcap must be", lambda: fastlse.dask.cross_entropy(self.x, zeros, softcap=-1)),
            ("reduction must be", lambda: fastlse.cross_entropy(self.x, zeros, reduction="min")),
            (
                "ignore_index must be negative",
                lambda: fastlse.cross_entropy(self.x, self.x, ignore_index=0),
            ),
            ("n_threads must be", lambda: fastlse.dask.softmax(self.x, n_threads=0)),
            (
                "chunk_rows must be",
                lambda: fastlse.linear_cross_entropy(self.x, np.ones((3, 4)), zeros, chunk_rows=0),
            ),
            (
                "num_segments must be given",
                lambda: fastlse.dask.segment_logsumexp(self.x, da.from_array(zeros)),
            ),
            (
                "indptr must go from 0",
                lambda: fastlse.dask.segment_logsumexp(self.x, indptr=[0, 5]),
            ),
        ):
            with pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(np.exceptions.AxisError):
            fastlse.logsumexp(self.x, axis=2)
        with pytest.raises(np.exceptions.AxisError):
            fastlse.cross_entropy(self.x, zeros, axis=2)

    def test_other_chunks(self, nothing_computes):
        sparse = pytest.importorskip("scipy.sparse")
        array = self.x.map_blocks(sparse.csr_array, meta=sparse.csr_array((0, 0)))
        with pytest.raises(TypeError, match=r"a must have chunks that are NumPy.*of csr_array"):
            fastlse.logsumexp(array)

    def test_other_collections(self):
        with pytest.raises(TypeError, match=r"a must be a Dask array.*got Delayed.*to_dask_array"):
            fastlse.logsumexp(dask.delayed(np.ones)(3))


class TestChunks:
    def test_masked_arrays(self):
        x = np.ma.masked_array(np.arange(24.0).reshape(4, 6), np.arange(24).reshape(4, 6) % 5 == 0)
        target = np.ma.masked_array(np.arange(4), [False, True, False, False])
        for chunks in ((2, 6), (2, 4)):
            array, of_target = da.from_array(x, chunks), da.from_array(target, 3)
            for name, arguments in (("logsumexp", (1,)), ("softmax", (1,)), ("log_softmax", (1,))):
                expected = getattr(fastlse, name)(x, *arguments)
                result = getattr(fastlse.dask, name)(array, *arguments).compute()
                np.testing.assert_allclose(result, expected, rtol=1e-14)
            expected = fastlse.cross_entropy_and_grad(x, target)
            result = on_threads(*fastlse.dask.cross_entropy_and_grad(array, of_target))
            for ours, theirs in zip(result, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-14)

    @pytest.mark.parametrize("chunks", [(4, 6), (2, 4)])
    def test_rarer_dtypes(self, chunks):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((4, 6)) + 1j * rng.standard_normal((4, 6))
        for array in (x, x.real.astype(np.longdouble)):
            lazy = da.from_array(array, chunks)
            for name in ("logsumexp", "softmax", "log_softmax"):
                for axis in (0, 1, None):
                    expected = getattr(fastlse, name)(array, axis)
                    result = getattr(fastlse.dask, name)(lazy, axis)
                    assert result.dtype == result.compute().dtype == np.asarray(expected).dtype
                    np.testing.assert_allclose(result.compute(), expected, rtol=1e-13)

    def test_sparse_features(self):
        sparse = pytest.importorskip("scipy.sparse")
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20, 5)) * (rng.random((20, 5)) < 0.4)
        target, weight = rng.integers(3, size=20), rng.standard_normal((3, 5))
        array = da.from_array(x, chunks=(7, 5)).map_blocks(sparse.csr_array)
        loss, gradients = fastlse.linear_cross_entropy_and_grad(x, weight, target)
        result = on_threads(*flat(fastlse.linear_cross_entropy_and_grad(array, weight, target)))
        for ours, theirs in zip(result, flat((loss, gradients)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)

    def test_a_nan_stays_in_its_rows(self):
        x = np.zeros((6, 4))
        x[4, 3] = nan
        for chunks in ((2, 4), (2, 2)):
            array = da.from_array(x, chunks)
            lse = fastlse.dask.logsumexp(array, axis=1).compute()
            assert np.isnan(lse).tolist() == [False] * 4 + [True, False]
            loss, grad = on_threads(
                *fastlse.dask.cross_entropy_and_grad(array, np.zeros(6, int), reduction="none")
            )
            assert np.isnan(loss).tolist() == np.isnan(grad).all(axis=1).tolist()
            assert np.isnan(loss).tolist() == [False] * 4 + [True, False]
            target = np.where(np.arange(6) == 4, -100, 0)
            loss, grad = on_threads(*fastlse.dask.cross_entropy_and_grad(array, target))
            assert loss == pytest.approx(np.log(4))
            assert not grad[4].any()

    def test_with_every_row_ignored(self):
        for chunks in ((2, 4), (2, 2)):
            x = da.full((6, 4), nan, chunks=chunks)
            target = np.full(6, -100)
            loss, grad = on_threads(*fastlse.dask.cross_entropy_and_grad(x, target))
            assert np.isnan(loss)
            assert not grad.any()
            assert fastlse.dask.cross_entropy(x, target, reduction="sum").compute() == 0

    def test_a_weight_of_zero(self):
        """Drops the target's class, but not what makes the row NaN."""
        x = np.array([[0.0, 1, nan], [0, 1, inf], [0, 1, 2], [-inf] * 3])
        options = {"weight": [0.0, 1, 2], "reduction": "none"}
        expected = fastlse.cross_entropy_and_grad(x, [0] * 4, **options)
        array = da.from_array(x, chunks=(2, 2))
        result = on_threads(*fastlse.dask.cross_entropy_and_grad(array, [0] * 4, **options))
        for ours, theirs in zip(result, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestThreads:
    def threads_in_chunks(self, monkeypatch, **options):
        result = fastlse.dask.softmax(da.ones((4, 4), chunks=2), 1, **options)
        asked = []
        resolve = fastlse._threads.resolve
        monkeypatch.setattr(
            fastlse._threads, "resolve", lambda n, size: asked.append(n) or resolve(n, size)
        )
        result.compute()
        monkeypatch.undo()
        return set(asked)

    def test_one_for_each_chunk(self, monkeypatch):
        """The scheduler has the processors, unless somebody says otherwise."""
        monkeypatch.delenv("FASTLSE_NUM_THREADS", raising=False)
        assert self.threads_in_chunks(monkeypatch) == {1}
        assert self.threads_in_chunks(monkeypatch, n_threads=3) == {3}
        monkeypatch.setenv("FASTLSE_NUM_THREADS", "2")
        assert self.threads_in_chunks(monkeypatch) == {2}


def test_dask_is_not_imported():
    """Neither by the package nor by a call that has no Dask array."""
    run("""
        import sys, numpy, fastlse
        fastlse.logsumexp(numpy.ones(3), where=[True, True, False])
        fastlse.cross_entropy([[1.0, 2.0]], [0])
        assert not any(name.split(".")[0] == "dask" for name in sys.modules)
        assert "fastlse.dask" not in sys.modules
        """)


def test_without_dask():
    process = run(
        """
        import sys
        sys.modules["dask"] = None
        import fastlse.dask
        """,
        check=False,
    )
    assert process.returncode != 0
    assert "ImportError: fastlse.dask needs Dask" in process.stderr
    assert 'pip install "fastlse[dask]"' in process.stderr


def test_objects_that_only_look_lazy():
    """An xarray object has Dask's protocol whatever it holds; one of NumPy arrays is one."""

    class Labelled:
        def __dask_graph__(self):
            return None

        def __array__(self, dtype=None, copy=None):
            return np.zeros(2)

    assert fastlse.logsumexp(Labelled()) == pytest.approx(np.log(2))


def test_bounds_are_those_of_states():
    assert state.STATE_ULP <= losses.CROSS_ENTROPY_ULP
    assert state.STATE_GRADIENT_ULP <= losses.GRADIENT_ULP


@pytest.mark.parametrize("name", sorted({*fastlse.dask.__all__} - {"LogisticRegression"}))
def test_docstrings(name):
    """Sections as everywhere, examples that run, and the parameters of the function of arrays."""
    documented = getattr(fastlse.dask, name)
    if name == "check_workers":
        pytest.importorskip("distributed")
    doc = inspect.getdoc(documented)
    for section in ("Parameters", "Raises", "Examples"):
        assert f"{section}\n---" in doc
    options = doctest.ELLIPSIS
    report = []
    (test,) = doctest.DocTestFinder(recurse=False).find(documented, name, globs={})
    runner = doctest.DocTestRunner(optionflags=options)
    runner.run(test, out=report.append)
    assert runner.tries > 0
    assert not report, "".join(report)
    if name != "check_workers":
        assert "See Also\n---" in doc
        ours, theirs = (
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (documented, getattr(fastlse, name))
        )
        assert ours == theirs


@pytest.mark.skipif(not GUIDE.is_file(), reason="the tests are not beside the guide")
def test_examples_of_the_guide():
    """The guide's blocks run, one after the other; they assert what they show."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        assert "assert" in block
        exec(compile(block, str(GUIDE), "exec"), names)


@pytest.mark.skipif(not GUIDE.is_file(), reason="the tests are not beside the examples")
def test_streams_without_dask():
    code = f"import runpy; runpy.run_path({str(STREAMS)!r})['main']()"
    process = run(code, timeout=60)
    assert "40 MB on disk" in process.stdout
