"""LogisticRegression of Dask arrays: the coefficients of the one in memory, by passes over chunks.

On Dask's threads and on a cluster of two worker processes, one of which dies.
"""

from __future__ import annotations

import doctest
import os
import pickle
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("dask.array")
pytest.importorskip("sklearn")

import dask
import dask.array as da
from dask.callbacks import Callback
from sklearn import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from subprocesses import run

import fastlse.dask
import fastlse.sklearn
from fastlse.dask import LogisticRegression, _passes, estimator
from fastlse.sklearn import _variables

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "dask_larger_than_memory.py"
InMemory = fastlse.sklearn.LogisticRegression

# Fits with as many rows have a pass for the features' covariance.
MANY_ROWS = 2000


def problem(n_rows=300, n_classes=3, n_features=8, seed=0):
    X, y = make_classification(
        n_rows, n_features, n_informative=6, n_classes=n_classes, random_state=seed
    )
    return X + np.arange(n_features), y


def lazy(X, y, rows=90):
    """Rows in chunks that do not divide them, features in two, labels in other chunks."""
    return da.from_array(X, chunks=(rows, 5)), da.from_array(y, chunks=rows // 2)


def assert_same_model(ours, theirs, rtol=1e-6):
    assert_array_equal(ours.classes_, theirs.classes_)
    assert_array_equal(ours.n_iter_, theirs.n_iter_)
    assert ours.coef_.dtype == theirs.coef_.dtype
    for name in ("coef_", "intercept_"):
        expected = getattr(theirs, name)
        size = np.abs(expected).max()
        assert_allclose(getattr(ours, name), expected, rtol=rtol, atol=rtol * size)


class Loader:
    """Chunks of rows that are made when they are needed; how often and how many at once."""

    def __init__(self, X, rows):
        self.X, self.rows, self.loads = X, rows, []
        self.lock = threading.Lock()

    def load(self, start):
        with self.lock:
            self.loads.append(start)
        return self.X[start : start + self.rows].copy()

    def array(self):
        shape = self.X.shape
        parts = [
            da.from_delayed(
                dask.delayed(self.load)(start),
                (min(self.rows, shape[0] - start), shape[1]),
                self.X.dtype,
            )
            for start in range(0, shape[0], self.rows)
        ]
        return da.concatenate(parts)


class TestAgainstTheOneInMemory:
    OPTIONS = (
        {},
        {"C": 1e-2},
        {"C": np.inf, "fit_intercept": False},
        {"fit_intercept": False},
        {"class_weight": "balanced"},
        {"class_weight": {0: 0.5, 1: 2.0}},
    )

    @pytest.mark.parametrize("n_rows", [300, MANY_ROWS])
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_coefficients(self, weighted, options, n_classes, n_rows):
        X, y = problem(n_rows, n_classes)
        weight = np.random.default_rng(0).integers(0, 4, n_rows) + 0.0 if weighted else None
        theirs = InMemory(**options).fit(X, y, weight)
        assert_same_model(LogisticRegression(**options).fit(*lazy(X, y), weight), theirs)

    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_covariance_of_some_rows(self, monkeypatch, fit_intercept):
        """It is of the same rows, wherever the chunks end; otherwise the steps were others."""
        for module in (_variables, _passes):
            monkeypatch.setattr(module, "rows_to_sample", lambda X, n_outputs: 700)
        X, y = problem(MANY_ROWS)
        X[np.random.default_rng(0).random(X.shape) < 0.5] = 0
        weight = np.random.default_rng(1).random(MANY_ROWS) ** 3
        options = {"max_iter": 4, "fit_intercept": fit_intercept}
        with pytest.warns(ConvergenceWarning, match="after 4 iteration") as caught:
            ours = LogisticRegression(**options).fit(*lazy(X, y), weight)
        assert caught[0].filename == __file__
        with pytest.warns(ConvergenceWarning):
            theirs = InMemory(**options).fit(X, y, weight)
        assert_same_model(ours, theirs, rtol=1e-9)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_float32(self, n_classes):
        X, y = problem(MANY_ROWS, n_classes)
        options = {"C": 1e-2, "tol": 1e-5}
        theirs = InMemory(**options).fit(X.astype(np.float32), y)
        ours = LogisticRegression(**options).fit(*lazy(X.astype(np.float32), y))
        assert ours.coef_.dtype == ours.intercept_.dtype == np.float32
        assert_allclose(ours.coef_, theirs.coef_, rtol=1e-2, atol=1e-3)

    @pytest.mark.parametrize("dtype", ["int8", "uint16", "float16", "bool", ">f8"])
    def test_other_dtypes(self, dtype):
        X, y = problem()
        X = np.abs(X).astype(dtype)
        theirs = InMemory(C=1e-3, tol=1e-3).fit(X.astype(float), y)
        assert_same_model(LogisticRegression(C=1e-3, tol=1e-3).fit(*lazy(X, y)), theirs)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_csr_chunks(self, n_classes):
        sparse = pytest.importorskip("scipy.sparse")
        X, y = problem(n_classes=n_classes)
        X[X < 2] = 0
        rows = da.from_array(X, chunks=(90, 8)).map_blocks(sparse.csr_array)
        theirs = InMemory(C=1e-3, tol=1e-3).fit(sparse.csr_array(X), y)
        ours = LogisticRegression(C=1e-3, tol=1e-3).fit(rows, y)
        assert_same_model(ours, theirs)
        assert_allclose(ours.predict_proba(rows), theirs.predict_proba(X), rtol=1e-5)

    def test_arrays_in_memory_and_empty_chunks(self):
        X, y = problem()
        theirs = InMemory().fit(X, y)
        assert_same_model(LogisticRegression().fit(X, y), theirs)
        chunks = ((0, 100, 0, 200), 8)
        assert_same_model(LogisticRegression().fit(da.from_array(X, chunks), y), theirs)

    def test_a_chunk_of_weight_zero(self):
        X, y = problem()
        for n_classes in (2, 3):
            weight = np.ones(300)
            weight[90:180] = 0
            y = y % n_classes
            ours = LogisticRegression().fit(*lazy(X, y), weight)
            assert_same_model(ours, InMemory().fit(X, y, weight))

    def test_a_number_as_weight(self):
        X, y = problem()
        ours = LogisticRegression().fit(*lazy(X, y), 3)
        assert_same_model(ours, InMemory().fit(X, y, np.full(300, 3.0)))


class TestLabels:
    @pytest.mark.parametrize(
        "names",
        [["b", "a", "ccc"], [5, -1, 300], [0.0, -1.0, 8.0], [False, True]],
        ids=["str", "int", "float", "bool"],
    )
    @pytest.mark.parametrize("as_object", [False, True])
    def test_kinds(self, names, as_object):
        """Objects that are numbers become numbers."""
        X, y = problem(n_classes=len(names))
        names = np.array(names)
        labels = names[y].astype(object) if as_object else names[y]
        model = LogisticRegression().fit(*lazy(X, labels))
        kept = names.astype(object) if as_object and names.dtype.kind == "U" else names
        assert_array_equal(model.classes_, np.unique(names))
        assert model.classes_.dtype == kept.dtype
        predicted = model.predict(da.from_array(X, chunks=(90, 8)))
        assert predicted.dtype == kept.dtype
        share = float(model.score(*lazy(X, labels)))
        assert share == pytest.approx(np.mean(predicted.compute() == labels))
        assert share > 0.5

    def test_only_in_the_last_chunk(self):
        X, y = problem(MANY_ROWS)
        order = np.argsort(y, kind="stable")
        names = np.array(["a", "bb", "ccc"], object)[y[order]]
        model = LogisticRegression().fit(*lazy(X[order], names, rows=500))
        assert model.classes_.tolist() == ["a", "bb", "ccc"]
        assert_same_model(model, InMemory().fit(X[order], names))

    def test_many(self):
        """More than a byte has numbers for."""
        X, y = problem(900)
        y = np.arange(900) % 300
        model = LogisticRegression(C=1e-3).fit(*lazy(X, y))
        assert_same_model(model, InMemory(C=1e-3).fit(X, y))


class TestPredictions:
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_lazy_and_the_same(self, n_classes, dtype):
        X, y = problem(MANY_ROWS, n_classes)
        X = X.astype(dtype)
        model = LogisticRegression().fit(*lazy(X, y))
        same = InMemory().fit(X, y)
        same.coef_, same.intercept_ = model.coef_, model.intercept_
        loader = Loader(X, 700)
        rows = loader.array()
        weight = np.arange(MANY_ROWS) % 3
        names = ("decision_function", "predict", "predict_proba", "predict_log_proba")
        results = [getattr(model, name)(rows) for name in names]
        score = model.score(rows, y, weight)
        assert not loader.loads
        assert score.shape == ()
        assert float(score) == pytest.approx(same.score(X, y, weight), rel=1e-12)
        for name, result in zip(names, results, strict=True):
            expected = getattr(same, name)(X)
            assert isinstance(result, da.Array)
            assert result.chunks[0] == (700, 700, 600)
            assert result.shape == expected.shape
            assert result.dtype == result.compute().dtype == expected.dtype
            tolerance = 1e-4 if dtype == "float32" else 1e-9
            assert_allclose(result.compute(), expected, rtol=tolerance, atol=tolerance)

    def test_chunks_of_unknown_sizes(self):
        X, y = problem()
        model = LogisticRegression().fit(*lazy(X, y))
        rows, labels = da.from_array(X, chunks=(90, 8)), da.from_array(y, chunks=90)
        kept = rows[:, 0] > 0
        some = X[:, 0] > 0
        assert_array_equal(model.predict(rows[kept]).compute(), model.predict(rows).compute()[some])
        expected = float(model.score(X[some], y[some]))
        assert float(model.score(rows[kept], labels[kept])) == pytest.approx(expected)
        with pytest.raises(ValueError, match=r"must have the chunks of X, got one of \d+ rows"):
            model.score(rows[kept], labels).compute()
        with pytest.raises(ValueError, match="y must be a Dask array or a Series where X has"):
            model.score(rows[kept], y[some])

    def test_what_does_not_fit(self):
        X, y = problem()
        with pytest.raises(NotFittedError):
            LogisticRegression().predict(da.from_array(X))
        model = LogisticRegression().fit(*lazy(X, y))
        with pytest.raises(ValueError, match=r"X must have 8 features.*got shape \(300, 7\)"):
            model.predict(da.from_array(X[:, 1:]))
        with pytest.raises(ValueError, match=r"y must have one value for each row of X, 300"):
            model.score(X, y[1:])


class TestBadInput:
    """Each is refused before the first iteration, by the name of the argument or the chunk."""

    def refused(self, error, match, X, y, weight=None, **options):
        calls = []
        with pytest.raises(error, match=match):
            LogisticRegression(callback=calls.append, **options).fit(X, y, weight)
        assert not calls

    def test_unknown_chunks(self):
        X, y = lazy(*problem())
        unknown = X[X[:, 0] > 0]
        match = r"{0} has chunks of unknown sizes: call {0}.compute_chunk_sizes\(\)"
        self.refused(ValueError, match.format("X"), unknown, y)
        self.refused(ValueError, match.format("y"), X, y[y > 0])
        self.refused(ValueError, match.format("sample_weight"), X, y, y[y > 0])
        y = y[X[:, 0].rechunk(y.chunks) > 0]
        LogisticRegression().fit(unknown.compute_chunk_sizes(), y.compute_chunk_sizes())

    def test_shapes_and_dtypes(self):
        X, y = problem()
        rows, labels = lazy(X, y)
        shape = r"must have one value for each row of X, 300, got shape \(299,\)"
        self.refused(ValueError, f"y {shape}", rows, labels[1:])
        self.refused(ValueError, f"sample_weight {shape}", rows, labels, np.ones(299))
        self.refused(ValueError, "X must have 2 dimensions", rows[0], labels)
        self.refused(ValueError, "y must have 1 dimension", rows, labels[:, None])
        self.refused(ValueError, "X must have at least one row", rows[:0], labels[:0])
        self.refused(TypeError, "X must be an array of real numbers", rows + 1j, labels)
        self.refused(TypeError, "y must hold numbers, strings", rows, labels + 1j)
        self.refused(
            TypeError, "sample_weight must be an array of num", rows, labels, y.astype(str)
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite_in_one_chunk(self, value):
        X, y = problem()
        X[200, 3], X[299, 1], X[299, 3] = value, value, -value
        match = rf"X must be finite, got {value} in row 200, in chunk 2 \(rows 180 to 269\)"
        self.refused(ValueError, match, *lazy(X, y))
        weight = np.ones(300)
        weight[100] = value
        match = rf"sample_weight must be finite, got {value} in row 100, in chunk 1 \(rows 90 to"
        self.refused(ValueError, match, *lazy(problem()[0], y), weight)

    def test_not_finite_in_a_sparse_chunk(self):
        sparse = pytest.importorskip("scipy.sparse")
        X, y = problem()
        X[X < 2] = 0
        X[200, 3] = np.nan
        rows = da.from_array(X, chunks=(90, 8)).map_blocks(sparse.csr_array)
        self.refused(ValueError, "X must be finite, got nan in row 200, in chunk 2", rows, y)

    def test_large_numbers_are_finite(self):
        X, y = problem()
        X[:2, 0] = 1.7e308
        numbers = da.from_array(X, chunks=(90, 8))
        model = LogisticRegression(max_iter=0)
        with np.errstate(all="ignore"), pytest.warns(ConvergenceWarning):
            model.fit(numbers, y)

    def test_labels(self):
        X, y = problem()
        rows, _ = lazy(X, y)
        as_objects = np.array(["a", "b", "c"], object)[y]
        as_objects[95] = None
        match = "y must hold a label for each row, got None in row 95, in chunk 1"
        self.refused(ValueError, match, rows, as_objects)
        self.refused(ValueError, match.replace("None", "nan"), rows, self.with_nan(y))
        self.refused(ValueError, "y must hold labels, not a continuous target, got", rows, X[:, 0])
        one = np.zeros(300, int)
        self.refused(ValueError, "y must have at least 2 classes, got only one: 0", rows, one)
        mixed = np.array([1, "a", 2], object)[y]
        self.refused(TypeError, "y must hold labels that have an order", rows, mixed)

    @staticmethod
    def with_nan(y):
        y = y.astype(float)
        y[95] = np.nan
        return y

    def test_weights(self):
        X, y = problem()
        zero = "must contain at least one non-zero"
        self.refused(ValueError, zero, *lazy(X, y), np.zeros(300))
        self.refused(ValueError, zero, *lazy(X, y), class_weight={0: 0, 1: 0, 2: 0})

    @pytest.mark.parametrize(
        "options", [{"C": -1}, {"tol": -1}, {"max_iter": 1.5}, {"checkpoint": 3}, {"callback": 3}]
    )
    def test_parameters(self, options):
        with pytest.raises(ValueError, match=f"The '{next(iter(options))}' parameter of Logistic"):
            LogisticRegression(**options).fit(*lazy(*problem()))


class TestPasses:
    def test_each_evaluation_reads_each_chunk_once(self):
        X, y = problem(MANY_ROWS)
        loader = Loader(X, 300)
        seen = []
        LogisticRegression(callback=seen.append).fit(loader.array(), y)
        n_chunks = 7
        # One pass looks at the rows, one gives their covariance.
        n_passes = 2 + seen[-1].n_evaluations
        assert len(loader.loads) == n_passes * n_chunks
        assert all(loader.loads.count(start) == n_passes for start in range(0, MANY_ROWS, 300))
        assert [progress.bytes_read for progress in seen] == [X.nbytes] * len(seen)

    def test_few_chunks_are_held(self):
        X = np.random.default_rng(0).standard_normal((1_000, 20))

        def load(start):
            return np.tile(X, (20, 1)) + start

        parts = [da.from_delayed(dask.delayed(load)(i), (20_000, 20), float) for i in range(20)]
        rows, y = da.concatenate(parts), da.arange(400_000, chunks=20_000) % 3
        with dask.config.set(scheduler="threads", num_workers=2):
            with pytest.warns(ConvergenceWarning):  # what is imported on the way
                LogisticRegression(max_iter=1, tol=1e-12).fit(rows[:2000], y[:2000])
            tracemalloc.start()
            with pytest.warns(ConvergenceWarning):
                LogisticRegression(max_iter=1, tol=1e-12).fit(rows, y)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < rows.nbytes / 4

    def test_number_of_tasks(self):
        X, y = problem(MANY_ROWS)
        counts = []
        for n_chunks in (8, 16, 32):
            rows = Loader(X, MANY_ROWS // n_chunks).array()
            data = estimator.training(rows, y, None, lambda *found: None)
            lazy_loss = _passes.MeanLoss(data).lazy(np.zeros((3, 9)), True)
            (optimised,) = dask.optimize(lazy_loss)
            counts.append(len(optimised.__dask_graph__()) / n_chunks)
        assert max(counts) <= 5
        assert max(counts) - min(counts) < 0.5

    def test_progress(self, capsys):
        X, y = problem(MANY_ROWS)
        seen = []
        model = LogisticRegression(verbose=1, callback=seen.append).fit(*lazy(X, y, 500))
        first, head, *lines, last = capsys.readouterr().out.splitlines()
        n_iter = int(model.n_iter_[0])
        assert first == "[fastlse] 2000 rows in 4 chunks, 8 features, 3 classes, float64"
        assert head.split() == [
            "iteration", "evaluations", "loss", "max", "|gradient|", "seconds", "MB", "read",
        ]  # fmt: skip
        assert [int(line.split()[0]) for line in lines] == list(range(n_iter + 1))
        assert [progress.n_iter for progress in seen] == list(range(n_iter + 1))
        assert float(lines[0].split()[2]) == pytest.approx(np.log(3))
        assert seen[-1].gradient_norm <= 1e-4 < seen[0].gradient_norm
        assert all(progress.seconds > 0 for progress in seen)
        assert float(lines[-1].split()[5]) == pytest.approx(X.nbytes / 1e6, abs=0.1)
        assert last.startswith(f"{n_iter} iterations, {seen[-1].n_evaluations} evaluations: ")

    def test_callbacks_of_dask(self):
        """Dask's own progress bar is one."""
        starts, seen = [], []
        X, y = problem(MANY_ROWS)
        with Callback(start=starts.append):
            LogisticRegression(callback=seen.append).fit(*lazy(X, y))
        # Looking at the rows, keeping the labels, the covariance, and the evaluations.
        assert len(starts) == 3 + seen[-1].n_evaluations


class Stopped(Exception):
    pass


def stop_after(n_iter):
    def callback(progress):
        if progress.n_iter == n_iter:
            raise Stopped

    return callback


class TestCheckpoints:
    @pytest.mark.parametrize("n_rows", [300, MANY_ROWS])
    def test_a_stopped_fit_goes_on(self, tmp_path, n_rows, capsys):
        X, y = problem(n_rows)
        options = {"tol": 1e-8, "max_iter": 500, "checkpoint": tmp_path / "fit.npz"}
        whole = LogisticRegression(tol=1e-8, max_iter=500).fit(*lazy(X, y))
        stopped_at = int(whole.n_iter_[0]) - 3
        with pytest.raises(Stopped):
            LogisticRegression(callback=stop_after(stopped_at), **options).fit(*lazy(X, y))
        assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]
        seen = []
        # In other chunks, too.
        resumed = LogisticRegression(verbose=1, callback=seen.append, **options)
        resumed.fit(*lazy(X, y, rows=50))
        assert f"goes on after iteration {stopped_at}" in capsys.readouterr().out
        assert seen[0].n_iter == stopped_at
        assert seen[0].loss == pytest.approx(seen[-1].loss, rel=1e-4)
        assert resumed.n_iter_ == seen[-1].n_iter > stopped_at
        assert_allclose(resumed.coef_, whole.coef_, rtol=1e-5, atol=1e-6)

        # Where the gradient is within `tol` already, nothing is left to do. (At 1e-8 the rule on
        # the last decrease may have ended the fit before that.)
        assert seen[-1].gradient_norm < 1e-6
        again = []
        LogisticRegression(callback=again.append, **{**options, "tol": 1e-6}).fit(*lazy(X, y))
        assert len(again) <= 2
        assert again[0].n_iter == resumed.n_iter_

    def test_max_iter_counts_all(self, tmp_path):
        X, y = problem()
        options = {"tol": 1e-9, "checkpoint": str(tmp_path / "fit")}
        for max_iter in (5, 8, 8):
            with pytest.warns(ConvergenceWarning, match=f"after {max_iter} iteration"):
                model = LogisticRegression(max_iter=max_iter, **options).fit(*lazy(X, y))
            assert model.n_iter_ == max_iter

    def test_of_another_fit(self, tmp_path):
        X, y = problem()
        path = tmp_path / "fit.npz"
        LogisticRegression(checkpoint=path).fit(*lazy(X, y))
        others = {
            "n_rows was 300, is 299": ((X[1:], y[1:]), {}),
            "n_features was 8, is 7": ((X[:, 1:], y), {}),
            "classes was .*, is ": ((X, y % 2), {}),
            "means of features was": ((X + 1e-3, y), {}),
            r"C was 1.0, is 2.0\): remove it, or name another": ((X, y), {"C": 2.0}),
            "fit_intercept was True, is False": ((X, y), {"fit_intercept": False}),
            "sum of weights was 300": ((X, y, np.full(300, 2.0)), {}),
        }
        for match, (data, options) in others.items():
            rows, labels = lazy(*data[:2])
            with pytest.raises(
                ValueError, match=rf"checkpoint '.*fit\.npz' is of another.*{match}"
            ):
                LogisticRegression(checkpoint=path, **options).fit(rows, labels, *data[2:])
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match=r"checkpoint '.*fit\.npz' cannot be read"):
            LogisticRegression(checkpoint=path).fit(*lazy(X, y))

    def test_a_crash_leaves_the_file_before(self, tmp_path, monkeypatch):
        X, y = problem()
        path = tmp_path / "fit.npz"
        with pytest.raises(Stopped):
            LogisticRegression(checkpoint=path, callback=stop_after(3)).fit(*lazy(X, y))
        before = path.read_bytes()

        def full(*args, **kwargs):
            raise OSError("no space left")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="no space"):
            LogisticRegression(checkpoint=path).fit(*lazy(X, y))
        assert path.read_bytes() == before


class TestEstimator:
    def test_warm_start(self):
        X, y = problem(MANY_ROWS)
        model = LogisticRegression(warm_start=True, tol=1e-6).fit(*lazy(X, y))
        first, coef = model.n_iter_[0], model.coef_
        assert model.fit(*lazy(X, y)).n_iter_[0] <= 2 < first
        assert_allclose(model.coef_, coef, rtol=1e-3, atol=1e-5)
        with pytest.raises(ValueError, match=r"were found before.* of shape \(3, 8\)"):
            model.fit(*lazy(X[:, 1:], y))

    def test_parameters_clone_and_pickle(self):
        model = LogisticRegression(C=0.5, checkpoint="a.npz")
        assert clone(model).get_params() == model.get_params()
        assert model.get_params()["C"] == 0.5
        X, y = problem()
        model.set_params(checkpoint=None).fit(*lazy(X, y))
        again = pickle.loads(pickle.dumps(model))
        assert_array_equal(again.predict(X).compute(), model.predict(X).compute())

    def test_dataframes(self):
        pytest.importorskip("pyarrow")
        pandas = pytest.importorskip("pandas")
        dd = pytest.importorskip("dask.dataframe")
        X, y = problem(MANY_ROWS)
        frame = pandas.DataFrame(X, columns=list("abcdefgh"))
        frame["weight"] = np.arange(MANY_ROWS) % 3
        frame["label"] = np.array(["x", "y", "z"])[y]
        frame["category"] = frame["label"].astype("category")
        theirs = InMemory().fit(X, y, frame["weight"])
        lazy_frame = dd.from_pandas(frame, npartitions=5)
        lazy_frame = lazy_frame[lazy_frame["a"] > -1e9]  # of unknown lengths
        features = lazy_frame[list("abcdefgh")]
        for name in ("label", "category"):
            labels = lazy_frame[name]
            model = LogisticRegression().fit(features, labels, lazy_frame["weight"])
            assert model.classes_.tolist() == ["x", "y", "z"]
            assert model.feature_names_in_.tolist() == list("abcdefgh")
            assert_allclose(model.coef_, theirs.coef_, rtol=1e-6, atol=1e-8)
            assert_array_equal(
                model.predict(features).compute(), np.array(["x", "y", "z"])[theirs.predict(X)]
            )
            score = model.score(features, labels, lazy_frame["weight"])
            assert float(score) == pytest.approx(theirs.score(X, y, frame["weight"]))
        with pytest.raises(ValueError, match="X must have the features that the model was fitted"):
            model.predict(lazy_frame[list("hgfedcba")])
        with pytest.raises(ValueError, match="y must have one value for each row of X"):
            LogisticRegression().fit(features, labels.partitions[:3])


def test_docstrings():
    """Every method says what it takes and returns; the example runs."""
    report = []
    (test,) = doctest.DocTestFinder(recurse=False).find(LogisticRegression, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=report.append)
    assert runner.tries > 0
    assert not report, "".join(report)
    for parameter in LogisticRegression().get_params():
        assert f"\n    {parameter} : " in LogisticRegression.__doc__
    for name in ("fit", "predict", "predict_proba", "predict_log_proba", "decision_function"):
        assert "Returns\n" in getattr(LogisticRegression, name).__doc__


def test_names_of_the_package():
    assert "LogisticRegression" in fastlse.dask.__all__
    with pytest.raises(AttributeError, match=r"'fastlse\.dask' has no attribute 'nothing'"):
        fastlse.dask.nothing  # noqa: B018
    process = run(
        """
        import sys, fastlse.dask
        assert "sklearn" not in sys.modules
        sys.modules["sklearn"] = None
        fastlse.dask.LogisticRegression
        """,
        check=False,
    )
    assert process.returncode != 0
    assert "ImportError: fastlse.dask.LogisticRegression needs scikit-learn" in process.stderr


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of one thread each, which come back when they die.

    They use OpenBLAS's kernels for AVX2: of its products for AVX-512 the last bits depend on where
    memory lies.
    """
    distributed = pytest.importorskip("distributed")
    patch = pytest.MonkeyPatch()
    if "avx512" in fastlse.available_backends():
        patch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as workers,
        distributed.Client(workers, set_as_default=False) as client,
    ):
        yield client
    patch.undo()


def part(start, rows, folder):
    """A chunk; in the third pass one of them ends the worker that makes it, once."""
    if start == 600 and folder is not None:
        number = len(list(folder.iterdir()))
        if number < 4:
            (folder / str(number)).touch()
            if number == 3:
                os._exit(1)
    rng = np.random.default_rng(start)
    return rng.standard_normal((rows, 8)) + np.arange(rows)[:, None] % 3


def made_rows(folder=None):
    parts = [
        da.from_delayed(dask.delayed(part)(start, 300, folder), (300, 8), float)
        for start in range(0, 1800, 300)
    ]
    return da.concatenate(parts), da.arange(1800, chunks=300) % 3


class TestCluster:
    def test_same_coefficients(self, cluster):
        X, y = made_rows()
        with cluster.as_current():
            model = LogisticRegression().fit(X, y)
            assert float(model.score(X, y)) > 0.5
        assert_same_model(model, InMemory().fit(X.compute(), y.compute()))

    @pytest.mark.filterwarnings("ignore")
    def test_a_worker_that_dies(self, cluster, tmp_path):
        with cluster.as_current():
            expected = LogisticRegression().fit(*made_rows())
            before = set(cluster.scheduler_info()["workers"])
            model = LogisticRegression().fit(*made_rows(tmp_path))
            cluster.wait_for_workers(2)
            after = set(cluster.scheduler_info()["workers"])
        assert len(list(tmp_path.iterdir())) == 4
        assert before != after
        assert_array_equal(model.coef_, expected.coef_)
        assert_array_equal(model.intercept_, expected.intercept_)
        assert_array_equal(model.n_iter_, expected.n_iter_)

    def test_workers_are_asked_first(self, cluster, monkeypatch):
        asked = []

        def lacking(client):
            asked.append(client)
            raise RuntimeError("every worker must have fastlse")

        monkeypatch.setattr(estimator, "check_workers", lacking)
        with cluster.as_current(), pytest.raises(RuntimeError, match="every worker must"):
            LogisticRegression().fit(*made_rows())
        assert asked == [cluster]
        LogisticRegression().fit(*made_rows())
        assert len(asked) == 1


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="the tests are not beside the examples")
def test_the_example():
    """With less data: it asserts that coefficients are the same, and what a worker held."""
    pytest.importorskip("distributed")
    process = run(
        f"import runpy; runpy.run_path({str(EXAMPLE)!r}, run_name='example')['main'](48)",
        timeout=300,
    )
    for said in ("46 MiB in 3 files", "dashboard: http", "evaluations: gradient", "held at most"):
        assert said in process.stdout
