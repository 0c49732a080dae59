"""Every function of Dask arrays gives what the one of NumPy arrays does, whatever the chunks.

On Dask's threads and on a cluster of two worker processes.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dask.array")
pytest.importorskip("distributed")

import dask
import distributed
from dask_arrays import TOLERANCE, assert_same, lazy, lazy_or_not, numbers, on_threads
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlse
import fastlse.dask

FLOATS = ["float16", "float32", "float64"]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of one thread each; what computes on them."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as workers,
        distributed.Client(workers, set_as_default=False) as client,
    ):
        fastlse.dask.check_workers(client)
        yield lambda *collections: client.compute(collections, sync=True)


def on_both(property_of):
    """Run a property of (data, compute) on the threads and, less often, on the cluster."""

    def test(self, scheduler, request):
        compute = on_threads if scheduler == "threads" else request.getfixturevalue("cluster")

        @settings(deadline=None, max_examples=30 if scheduler == "threads" else 8)
        @given(data=st.data())
        def run(data):
            property_of(data, compute)

        run()

    test.__doc__ = property_of.__doc__
    return pytest.mark.parametrize("scheduler", ["threads", "cluster"])(test)


def axes_of(ndim):
    one = st.integers(-ndim, ndim - 1)
    several = st.lists(st.integers(0, ndim - 1), unique=True).map(tuple)
    return st.one_of(st.none(), one, several)


def shapes(least=0, most=3):
    return st.lists(st.integers(0, 6), min_size=least, max_size=most).map(tuple)


def draw_x(data, least=1, dtypes=(*FLOATS, "int8", "bool"), most=3):
    shape = data.draw(shapes(least, most), label="shape")
    dtype = data.draw(st.sampled_from(dtypes), label="dtype")
    return numbers(data.draw(st.integers(0, 10**6), label="seed"), shape, dtype)


def size_of(x):
    """What a sum's rounding is relative to: the largest finite element, or the logarithm."""
    with np.errstate(all="ignore"):
        finite = np.abs(x[np.isfinite(x)].astype(float))
    return finite.max(initial=0) + 1


class TestReductions:
    def logsumexp(data, compute):
        x = draw_x(data, least=0)
        options = {
            "axis": data.draw(axes_of(x.ndim)) if x.ndim else None,
            "keepdims": data.draw(st.booleans()),
        }
        where = None
        if data.draw(st.booleans()):
            where = np.random.default_rng(0).random(x.shape[data.draw(st.integers(0, x.ndim)) :])
            where = where < 0.7
        expected = fastlse.logsumexp(x, where=where, **options)
        result = fastlse.dask.logsumexp(
            data.draw(lazy(x)), where=data.draw(lazy_or_not(where)), **options
        )
        assert_same([result], [expected], compute, of=size_of(x))

    def signed_logsumexp(data, compute):
        x = draw_x(data)
        rng = np.random.default_rng(1)
        b = data.draw(
            st.sampled_from(
                [None, 2, -0.5, rng.choice([0, 1, 3.5], x.shape), rng.standard_normal(x.shape[-1:])]
            )
        )
        if x.ndim > 1 and data.draw(st.booleans()):
            x = x[:, :1]
        options = {"axis": data.draw(axes_of(x.ndim)), "keepdims": data.draw(st.booleans())}
        expected = fastlse.logsumexp(x, b=b, return_sign=True, **options)
        factors = data.draw(lazy_or_not(b)) if isinstance(b, np.ndarray) else b
        result = fastlse.dask.logsumexp(data.draw(lazy(x)), b=factors, return_sign=True, **options)
        of_all_parts = fastlse.logsumexp(x, b=None if b is None else np.abs(b), **options)
        assert_signed(compute(*result), expected, of_all_parts)
        for one, other in zip(result, expected, strict=True):
            assert one.dtype == np.asarray(other).dtype
            assert one.shape == np.shape(other)

    def softmax(data, compute):
        x = draw_x(data, least=0)
        options = {"axis": data.draw(axes_of(x.ndim)) if x.ndim else None}
        where = None
        if data.draw(st.booleans()):
            where = np.random.default_rng(0).random(x.shape) < 0.7
        name = data.draw(st.sampled_from(["softmax", "log_softmax"]))
        expected = getattr(fastlse, name)(x, where=where, **options)
        result = getattr(fastlse.dask, name)(
            data.draw(lazy(x)), where=data.draw(lazy_or_not(where)), **options
        )
        assert_same([result], [expected], compute, of=size_of(x) if name == "log_softmax" else 0)

    def both_at_once(data, compute):
        x = draw_x(data)
        axis = data.draw(axes_of(x.ndim))
        expected = fastlse.logsumexp_and_softmax(x, axis)
        result = fastlse.dask.logsumexp_and_softmax(data.draw(lazy(x)), axis)
        assert_same(result, expected, compute, of=[size_of(x), 0])

    test_logsumexp = on_both(logsumexp)
    test_signed_logsumexp = on_both(signed_logsumexp)
    test_softmax = on_both(softmax)
    test_both_at_once = on_both(both_at_once)


def assert_signed(results, expected, of_all_parts):
    """Sums whose parts cancel are near to each other beside the sum of all parts."""
    (lse, sign), (other, its_sign) = results, expected
    of_all_parts = np.asarray(of_all_parts, np.float64)
    tolerance = TOLERANCE[np.asarray(lse).dtype.name]
    with np.errstate(all="ignore"):
        ours, theirs = (
            s * np.exp(np.asarray(y, np.float64) - of_all_parts)
            for s, y in ((sign, lse), (its_sign, other))
        )
        ok = np.abs(ours - theirs) <= tolerance * (1 + np.abs(of_all_parts))
    same = (np.asarray(lse) == other) | (np.isnan(lse) & np.isnan(other))
    assert np.all(ok | same)
    assert np.all(np.isnan(sign) == np.isnan(its_sign))


class TestLosses:
    def cross_entropy(data, compute):
        """Of class indices, which split classes leave class-parallel, with what goes with them."""
        x, axis, options, batch = draw_loss(data)
        n_classes = x.shape[axis]
        rng = np.random.default_rng(0)
        dtype = data.draw(st.sampled_from(["int64", "uint8", "int8"]))
        ignore_index = data.draw(st.sampled_from([-100, 0])) if dtype != "uint8" else 200
        target = rng.integers(n_classes, size=batch)
        target = np.where(rng.random(batch) < 0.2, ignore_index, target).astype(dtype)
        options["ignore_index"] = ignore_index
        check_loss(data, compute, x, target, axis, options)

    def with_probabilities(data, compute):
        x, axis, options, _ = draw_loss(data)
        target = np.random.default_rng(0).random(x.shape).astype(data.draw(st.sampled_from(FLOATS)))
        check_loss(data, compute, x, target, axis, options)

    def with_further_options(data, compute):
        x, axis, options, batch = draw_loss(data, special=False)
        target = np.random.default_rng(0).integers(x.shape[axis], size=batch)
        options |= data.draw(
            st.sampled_from(
                [{"label_smoothing": 0.1}, {"z_loss": 0.1}, {"softcap": 4.0, "z_loss": 0.01}]
            )
        )
        check_loss(data, compute, x, target, axis, options)

    test_cross_entropy = on_both(cross_entropy)
    test_with_probabilities = on_both(with_probabilities)
    test_with_further_options = on_both(with_further_options)


def draw_loss(data, special=True):
    batch = data.draw(shapes(0, 2))
    axis = data.draw(st.integers(0, len(batch)))
    n_classes = data.draw(st.integers(1, 9))
    shape = (*batch[:axis], n_classes, *batch[axis:])
    dtype = data.draw(st.sampled_from([*FLOATS, "int16"]))
    x = numbers(data.draw(st.integers(0, 10**6)), shape, dtype, special)
    rng = np.random.default_rng(2)
    options = {"reduction": data.draw(st.sampled_from(["mean", "sum", "none"]))}
    if data.draw(st.booleans()):
        options["weight"] = rng.uniform(0.5, 2, n_classes)
    if data.draw(st.booleans()):
        options["sample_weight"] = rng.choice([0, 0.5, 2], batch)
    return x, axis, options, batch


def check_loss(data, compute, x, target, axis, options):
    if x.dtype != "float64" and "weight" in options:
        options["weight"] = options["weight"].astype(np.float32)
    expected = fastlse.cross_entropy_and_grad(x, target, axis=axis, **options)
    others = {
        name: data.draw(lazy_or_not(value)) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    array, of_target = data.draw(lazy(x)), data.draw(lazy_or_not(target))
    result = fastlse.dask.cross_entropy_and_grad(array, of_target, axis=axis, **others)
    # Smoothing, z-loss and probabilities subtract numbers of their own.
    plain = target.dtype.kind != "f" and not {"label_smoothing", "z_loss"} & set(options)
    loss = fastlse.dask.cross_entropy(array, of_target, axis=axis, **others)
    sizes = [0, 0 if plain else 1, 0]
    assert_same([*result, loss], [*expected, expected[0]], compute, of=sizes)


class TestLinearLayers:
    def linear_cross_entropy(data, compute):
        batch = data.draw(shapes(0, 2))
        n_features, n_classes = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 8))
        dtype = data.draw(st.sampled_from(FLOATS))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        x = rng.standard_normal((*batch, n_features)).astype(dtype)
        weight = rng.standard_normal((n_classes, n_features)).astype(dtype)
        bias = data.draw(st.sampled_from([None, rng.standard_normal(n_classes).astype(dtype)]))
        target = rng.integers(n_classes, size=batch)
        target = np.where(rng.random(batch) < 0.2, -100, target)
        if data.draw(st.booleans()):
            target = rng.random((*batch, n_classes))
        options = {"reduction": data.draw(st.sampled_from(["mean", "sum", "none"]))}
        if data.draw(st.booleans()):
            options |= {"weight": rng.uniform(0, 2, n_classes), "z_loss": 0.1, "chunk_rows": 2}
        if data.draw(st.booleans()):
            options["sample_weight"] = rng.choice([0, 0.5, 2], batch)
        loss, gradients = fastlse.linear_cross_entropy_and_grad(
            x, weight, target, linear_bias=bias, **options
        )
        array, of_target = data.draw(lazy(x)), data.draw(lazy_or_not(target))
        layer = {"linear_bias": data.draw(lazy_or_not(bias)), **options}
        of_weight = data.draw(lazy_or_not(weight))
        result, its_gradients = fastlse.dask.linear_cross_entropy_and_grad(
            array, of_weight, of_target, **layer
        )
        alone = fastlse.dask.linear_cross_entropy(array, of_weight, of_target, **layer)
        sizes = [
            0 if g is None else 1 + 2 * np.abs(g.astype(float)).max(initial=0) for g in gradients
        ]
        results = [result, *its_gradients, alone]
        assert_same(results, [loss, *gradients, loss], compute, of=[0, *sizes, 0])

    test_linear_cross_entropy = on_both(linear_cross_entropy)


class TestSegments:
    def segment_logsumexp(data, compute):
        x = draw_x(data, dtypes=[*FLOATS, "int8"])
        rng = np.random.default_rng(0)
        n = data.draw(st.integers(1, 5))
        ids = rng.integers(n, size=len(x))
        if data.draw(st.booleans()):
            indptr = np.sort([0, *rng.integers(0, len(x) + 1, n - 1), len(x)])
            given, of_numpy = {"indptr": indptr}, {"indptr": indptr}
        else:
            of_numpy = {"segment_ids": ids, "num_segments": n}
            given = {"segment_ids": data.draw(lazy_or_not(ids)), "num_segments": n}
        expected = fastlse.segment_logsumexp(x, **of_numpy)
        result = fastlse.dask.segment_logsumexp(data.draw(lazy(x)), **given)
        assert_same([result], [expected], compute, of=size_of(x))

    test_segment_logsumexp = on_both(segment_logsumexp)


def test_a_distributed_result_is_that_of_the_threads(cluster):
    """To the last bit: what is merged with what depends on the chunks alone."""
    x = numbers(3, (500, 60), "float64", special=False)
    import dask.array as da

    array = da.from_array(x, chunks=(70, 11))
    results = [
        fastlse.dask.logsumexp(array, axis=None),
        fastlse.dask.softmax(array, axis=1),
        *fastlse.dask.cross_entropy_and_grad(array, np.arange(500) % 60),
    ]
    for ours, theirs in zip(cluster(*results), dask.compute(*results), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_worker_without_fastlse(tmp_path):
    """Dask would wait for ever: such a worker drops what it cannot read."""
    script = tmp_path / "without_fastlse.py"
    script.write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'fastlse':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            preload=[str(script)],
        ) as workers,
        distributed.Client(workers, set_as_default=False) as client,
        pytest.raises(RuntimeError, match=r"1 of 1 have not: tcp://.*No module named 'fastlse'"),
    ):
        fastlse.dask.check_workers(client)
