"""LogisticRegression: scikit-learn's results, arguments and messages, in less time and memory."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("sklearn")

from scipy.sparse import csr_array, csr_matrix
from sklearn import clone, config_context
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression as Theirs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastlse
from fastlse.sklearn import LogisticRegression, _variables

# Before 1.8 scikit-learn passes SciPy an option that SciPy no longer wants.
pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")

PENALTY_IS_DEPRECATED = Theirs().penalty == "deprecated"
# With as many rows both come to the minimum in other steps, with fewer in the same.
MANY_ROWS = _variables.WORTH_ROWS


def problem(n_rows=300, n_classes=3, dtype="float64", seed=0, n_features=8):
    X, y = make_classification(
        n_rows, n_features, n_informative=6, n_classes=n_classes, random_state=seed
    )
    return X.astype(dtype), y


def objective(model, X, y, sample_weight=None):
    """What scikit-learn says that it minimises, over the weights' sum."""
    X = np.asarray(X, np.float64)
    scores = X @ model.coef_.T.astype(float) + model.intercept_
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    target = np.searchsorted(model.classes_, y)
    losses = fastlse.cross_entropy(scores, target, reduction="none")
    weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    no_penalty = model.penalty is None or np.isinf(model.C)
    penalty = 0 if no_penalty else np.sum(model.coef_.astype(float) ** 2) / (2 * model.C)
    return (losses @ weights + penalty) / weights.sum()


def unpenalised():
    return {"C": np.inf} if PENALTY_IS_DEPRECATED else {"penalty": None}


OPTIONS = {
    "default": {},
    "small C": {"C": 1e-3},
    "large C": {"C": 100.0},
    "no penalty": unpenalised(),
    "no intercept": {"fit_intercept": False},
    "balanced": {"class_weight": "balanced"},
    "weights of classes": {"class_weight": {0: 0.5, 1: 2.0}},
}


class TestAgainstScikitLearn:
    """Where `tol` decides all digits, the coefficients are the same."""

    @pytest.mark.parametrize("n_rows", [300, MANY_ROWS])
    @pytest.mark.parametrize("n_classes", [2, 3, 5])
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_coefficients(self, backend, options, n_classes, n_rows):
        X, y = problem(n_rows, n_classes)
        options = {**options, "tol": 1e-9, "max_iter": 5000}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of too small a tol, and in 1.8 of no penalty
            ours, theirs = (cls(**options).fit(X, y) for cls in (LogisticRegression, Theirs))
        # Without a penalty, what is common to all classes' coefficients is not decided.
        coefs = [
            model.coef_ - (n_classes > 2) * model.coef_.mean(axis=0) for model in (ours, theirs)
        ]
        assert_allclose(*coefs, rtol=1e-4, atol=1e-6)
        if n_classes == 2:
            assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-4, atol=1e-6)
        assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("n_rows", [300, MANY_ROWS])
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_weights_of_rows(self, backend, n_classes, n_rows):
        X, y = problem(n_rows, n_classes)
        sample_weight = np.random.default_rng(0).integers(0, 4, n_rows).astype(float)
        for options in ({}, {"class_weight": {0: 3.0, 1: 0.5}}):
            options = {**options, "tol": 1e-8, "max_iter": 1000}
            ours, theirs = (
                cls(**options).fit(X, y, sample_weight) for cls in (LogisticRegression, Theirs)
            )
            assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4, atol=1e-6)

    def test_same_steps_with_few_rows(self, backend):
        X, y = load_iris(return_X_y=True)
        ours, theirs = (cls().fit(X, y == 1) for cls in (LogisticRegression, Theirs))
        assert_array_equal(ours.n_iter_, theirs.n_iter_)
        assert_allclose(ours.coef_, theirs.coef_, rtol=1e-8)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_no_worse_at_the_default_tol(self, n_classes, seed):
        X, y = problem(MANY_ROWS, n_classes, seed=seed, n_features=15)
        ours, theirs = (cls(max_iter=1000).fit(X, y) for cls in (LogisticRegression, Theirs))
        assert objective(ours, X, y) <= objective(theirs, X, y) * (1 + 1e-7)
        assert ours.n_iter_ < theirs.n_iter_

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_features_of_any_scale(self, backend, dtype):
        """Scikit-learn stops at `max_iter`, or early by chance."""
        X, y = problem(MANY_ROWS, 3)
        X = (X * np.logspace(-3, 3, 8) + 10.0 ** np.arange(-4, 4)).astype(dtype)
        best = LogisticRegression(tol=1e-9, max_iter=1000).fit(X.astype(float), y)
        ours = LogisticRegression().fit(X, y)
        assert ours.n_iter_ < 40
        assert objective(ours, X, y) <= objective(best, X, y) * (1 + 1e-4)

    def test_rare_and_constant_features(self):
        rng = np.random.default_rng(0)
        X = (rng.random((MANY_ROWS, 40)) < np.logspace(-4, -0.5, 40)).astype(float)
        X[:, 3], X[:, 4], X[:, 5] = 0, 7, X[:, 6]
        y = (X @ rng.standard_normal((40, 4)) + rng.gumbel(size=(MANY_ROWS, 4))).argmax(axis=1)
        ours, theirs = (cls(max_iter=2000).fit(X, y) for cls in (LogisticRegression, Theirs))
        assert objective(ours, X, y) <= objective(theirs, X, y) * (1 + 1e-7)
        assert ours.n_iter_ < theirs.n_iter_

    @pytest.mark.parametrize("n_sampled", [1000, MANY_ROWS])
    def test_correlations_of_some_rows(self, monkeypatch, n_sampled):
        """Whichever rows the variables come from, the minimum is the same."""
        monkeypatch.setattr(_variables, "rows_to_sample", lambda X, n_outputs: n_sampled)
        X, y = problem(MANY_ROWS, 3)
        order = np.argsort(y)
        ours = LogisticRegression(tol=1e-8).fit(X[order], y[order])
        theirs = Theirs(tol=1e-8, max_iter=1000).fit(X, y)
        assert ours.n_iter_ < 60
        assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4, atol=1e-6)


class TestAttributes:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_shapes_and_dtypes(self, backend, fit_intercept, n_classes, dtype):
        X, y = problem(300, n_classes, dtype)
        model = LogisticRegression(fit_intercept=fit_intercept).fit(X, y)
        n_outputs = 1 if n_classes == 2 else n_classes
        assert model.coef_.shape == (n_outputs, 8)
        assert model.intercept_.shape == (n_outputs,)
        assert model.coef_.dtype == model.intercept_.dtype == dtype
        assert fit_intercept == bool(model.intercept_.any())
        assert model.n_iter_.shape == (1,)
        assert model.n_iter_.dtype == np.int32
        assert model.n_features_in_ == 8
        assert_array_equal(model.classes_, np.arange(n_classes))
        assert model.predict_proba(X).dtype == dtype
        assert model.predict_proba(X).shape == (300, n_classes)

    @pytest.mark.parametrize(
        "labels",
        [["b", "a", "c"], [5, -1, 300], [0.0, -1.0, 8.0], [False, True]],
        ids=["str", "int", "float", "bool"],
    )
    def test_labels(self, labels):
        X, y = problem(300, len(labels))
        labels = np.array(labels)
        model = LogisticRegression().fit(X, labels[y])
        assert_array_equal(model.classes_, np.sort(labels))
        assert model.classes_.dtype == labels.dtype
        assert model.score(X, labels[y]) > 0.6
        as_objects = LogisticRegression().fit(X, labels[y].astype(object).tolist())
        assert_array_equal(as_objects.coef_, model.coef_)

    def test_names_of_features(self):
        pandas = pytest.importorskip("pandas")
        X, y = problem()
        frame = pandas.DataFrame(X, columns=list("abcdefgh"))
        model = LogisticRegression().fit(frame, pandas.Series(y))
        assert_array_equal(model.feature_names_in_, frame.columns)
        assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, rtol=1e-8)
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame[list("hgfedcba")])

    def test_pickle_and_clone(self):
        X, y = problem()
        model = LogisticRegression(C=0.5).fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        assert type(again) is LogisticRegression
        assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        assert clone(model).get_params() == model.get_params() == Theirs(C=0.5).get_params()

    def test_same_parameters_and_tags(self):
        ours, theirs = LogisticRegression(), Theirs()
        assert ours.get_params() == theirs.get_params()
        assert ours.__sklearn_tags__() == theirs.__sklearn_tags__()
        assert isinstance(ours, Theirs)


class TestInputs:
    @pytest.mark.parametrize("sparse", [csr_array, csr_matrix])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_csr(self, backend, fit_intercept, n_classes, dtype, sparse):
        X, y = problem(300, n_classes, dtype)
        X[np.abs(X) < 1] = 0
        options = {"fit_intercept": fit_intercept, "tol": 1e-5}
        model = LogisticRegression(**options).fit(sparse(X), y)
        dense = LogisticRegression(**options).fit(X, y)
        assert model.coef_.dtype == dtype
        assert_allclose(model.coef_, dense.coef_, atol=2e-3)
        assert_allclose(model.predict_proba(sparse(X)), model.predict_proba(X), rtol=1e-4)
        assert objective(model, X, y) == pytest.approx(objective(dense, X, y), rel=1e-6)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_layouts(self, n_classes):
        X, y = problem(MANY_ROWS, n_classes)
        expected = LogisticRegression(tol=1e-6).fit(X, y).coef_
        big_endian, strided = X.astype(">f8"), np.repeat(X, 2, axis=1)[:, ::2]
        for same in (np.asfortranarray(X), big_endian, strided, X.tolist(), X[::-1]):
            rows = y[::-1] if same is not None and np.shares_memory(same, X) else y
            model = LogisticRegression(tol=1e-6).fit(same, rows)
            assert_allclose(model.coef_, expected, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("n_rows", [200, MANY_ROWS])
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_rows_of_weight_zero(self, backend, n_classes, n_rows):
        X, y = problem(n_rows, n_classes)
        weight = np.random.default_rng(0).random(n_rows)
        weight[::3] = 0
        X[::3] *= 1e6
        kept = weight > 0
        model = LogisticRegression(tol=1e-6).fit(X, y, weight)
        expected = LogisticRegression(tol=1e-6).fit(X[kept], y[kept], weight[kept])
        assert_allclose(model.coef_, expected.coef_, rtol=1e-3, atol=1e-5)

    def test_sample_weight_is_not_written_to(self):
        X, y = problem()
        weight = np.full(300, 2.0)
        LogisticRegression(class_weight="balanced").fit(X, y, weight)
        assert_array_equal(weight, 2.0)

    def test_a_number_as_sample_weight(self):
        X, y = problem()
        model = LogisticRegression(tol=1e-6).fit(X, y, 3)
        expected = LogisticRegression(tol=1e-6, C=3.0).fit(X, y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-3, atol=1e-5)

    def test_routing(self):
        X, y = problem()
        weight = np.random.default_rng(0).random(300)
        with config_context(enable_metadata_routing=True):
            model = LogisticRegression().set_fit_request(sample_weight=True)
            scaler = StandardScaler().set_fit_request(sample_weight=False)
            pipeline = make_pipeline(scaler, model).fit(X, y, sample_weight=weight)
            expected = clone(model).fit(StandardScaler().fit_transform(X), y, sample_weight=weight)
            assert_array_equal(pipeline[-1].coef_, expected.coef_)
            plain = clone(model).fit(StandardScaler().fit_transform(X), y)
            assert np.abs(plain.coef_ - expected.coef_).max() > 1e-3

    def test_grid_search(self):
        X, y = problem()
        search = GridSearchCV(LogisticRegression(), {"C": [1e-4, 1.0]}).fit(X, y)
        assert search.best_params_ == {"C": 1.0}


class TestMemory:
    def peak(self, X, y, weight=None, **options):
        """The most bytes that a fit holds beyond its arguments."""
        LogisticRegression().fit(*problem())  # what is imported on the way
        tracemalloc.start()
        try:
            LogisticRegression(**options).fit(X, y, weight)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_200000_rows(self, dtype):
        X, y = make_classification(200_000, 20, n_informative=10, n_classes=10, random_state=0)
        assert self.peak(X.astype(dtype), y) < 40e6

    @pytest.mark.parametrize("n_classes", [2, 4])
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_a_file_is_not_copied(self, tmp_path, n_classes):
        shape = 100_000, 100
        X = np.memmap(tmp_path / "X", np.float32, "w+", shape=shape)
        X[:] = np.random.default_rng(0).standard_normal(shape, np.float32)
        X.flush()
        X = np.memmap(tmp_path / "X", np.float32, "r", shape=shape)
        y = np.arange(100_000) % n_classes
        weight = np.arange(100_000) % 7 % 2 + 0.0  # some of them 0
        for options in ({}, {"class_weight": "balanced"}):
            assert self.peak(X, y, max_iter=3, **options) < X.nbytes / 2
        assert self.peak(X, y, weight, max_iter=3) < X.nbytes / 2

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_no_copy_of_a_sparse_matrix(self, dtype):
        rng = np.random.default_rng(0)
        n_rows, per_row = 50_000, 40
        indices = np.sort(rng.integers(0, 1000, (n_rows, per_row)), axis=1).ravel()
        indptr = np.arange(0, indices.size + 1, per_row)
        values = rng.random(indices.size).astype(dtype)
        X = csr_array((values, indices, indptr), shape=(n_rows, 1000))
        X.sum_duplicates()
        y = np.arange(n_rows) % 3
        assert self.peak(X, y, max_iter=3) < (X.data.nbytes + X.indices.nbytes) / 4


class TestOptimiser:
    def test_warm_start(self):
        for n_rows in (300, MANY_ROWS):
            for n_classes in (2, 3):
                X, y = problem(n_rows, n_classes)
                model = LogisticRegression(warm_start=True, tol=1e-6).fit(X, y)
                first, coef = model.n_iter_[0], model.coef_
                assert model.fit(X, y).n_iter_[0] <= 2 < first
                assert_allclose(model.coef_, coef, rtol=1e-3, atol=1e-5)
                assert model.set_params(C=2.0).fit(X, y).n_iter_[0] < first

    def test_warm_start_with_other_features(self):
        X, y = problem()
        model = LogisticRegression(warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match=r"Initialization coef is of shape \(3, 9\)"):
            model.fit(X[:, :5], y)

    @pytest.mark.parametrize("n_rows", [300, MANY_ROWS])
    @pytest.mark.parametrize("max_iter", [0, 1, 3])
    def test_too_few_iterations(self, n_rows, max_iter):
        X, y = problem(n_rows)
        message = f"lbfgs failed to converge after {max_iter} iteration"
        with pytest.warns(ConvergenceWarning, match=message) as caught:
            model = LogisticRegression(max_iter=max_iter).fit(X, y)
        assert model.n_iter_ == max_iter
        assert caught[0].filename == __file__
        assert f"(max_iter={max_iter})" in str(caught[0].message)

    @pytest.mark.parametrize("n_rows", [300, MANY_ROWS])
    def test_the_gradient_is_within_tol(self, n_rows):
        for n_classes in (2, 3):
            X, y = problem(n_rows, n_classes)
            for tol in (1e-2, 1e-4, 1e-6):
                model = LogisticRegression(tol=tol).fit(X, y)
                pull = model.predict_proba(X) - np.eye(n_classes)[y]
                pull = pull[:, 1:] if n_classes == 2 else pull
                gradient = (pull.T @ X + model.coef_) / n_rows
                assert np.abs(gradient).max() <= tol * (1 + 1e-6)
                assert np.abs(pull.mean(axis=0)).max() <= tol * (1 + 1e-6)

    def test_any_number_of_threads(self, threads_for_small_problems):
        X, y = problem(MANY_ROWS)
        coefs = []
        for n in (1, 3):
            with fastlse.threads(n):
                coefs.append(LogisticRegression().fit(X, y).coef_)
        assert_array_equal(*coefs)

    def test_verbose(self, capsys):
        for n_rows in (300, MANY_ROWS):
            X, y = problem(n_rows)
            model = LogisticRegression(verbose=1).fit(X, y)
            first, head, *lines, last = capsys.readouterr().out.splitlines()
            n_iter = model.n_iter_[0]
            assert first == f"[fastlse] {n_rows} rows, 8 features, 3 classes, float64"
            assert head.split() == ["iteration", "loss", "max", "|gradient|"]
            assert [int(line.split()[0]) for line in lines] == list(range(n_iter + 1))
            assert float(lines[0].split()[1]) == pytest.approx(np.log(3))
            assert float(lines[-1].split()[1]) == pytest.approx(objective(model, X, y))
            assert float(lines[-1].split()[2]) <= 1e-4
            assert last.startswith(f"{n_iter} iterations, ")

    def test_silence(self, capsys):
        LogisticRegression().fit(*problem())
        LogisticRegression(solver="newton-cg").fit(*problem())
        assert capsys.readouterr().out == ""


class TestProbabilities:
    def test_confident_rows(self, backend):
        for n_classes in (2, 3):
            X, y = problem(300, n_classes)
            model = LogisticRegression().fit(X, y)
            logs = model.predict_log_proba(X * 1e4)
            assert np.isfinite(logs).all()
            assert logs.min() < -1000
            assert_allclose(np.exp(logs), model.predict_proba(X * 1e4), atol=1e-12)

    def test_of_every_solver(self):
        for n_classes in (2, 3):
            X, y = problem(300, n_classes)
            for solver in ("newton-cg", "lbfgs", "newton-cholesky", "saga"):
                options = {"solver": solver, "tol": 1e-3, "random_state": 0, "max_iter": 1000}
                model = LogisticRegression(**options).fit(X, y)
                theirs = Theirs(**options).fit(X, y)
                expected = theirs.predict_proba(X)
                assert_allclose(model.predict_proba(X), expected, rtol=1e-5, atol=1e-7)
                assert_allclose(model.predict_log_proba(X), np.log(expected), atol=1e-5)

    def test_sparse_coefficients(self):
        X, y = problem()
        model = LogisticRegression().fit(X, y)
        expected = model.predict_proba(X)
        assert_allclose(model.sparsify().predict_proba(X), expected, rtol=1e-12)

    def test_not_fitted(self):
        X, _ = problem()
        for name in ("predict", "predict_proba", "predict_log_proba"):
            with pytest.raises(NotFittedError):
                getattr(LogisticRegression(), name)(X)


class TestWhatScikitLearnDoes:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"solver": "newton-cholesky"}, "solver='newton-cholesky'"),
            ({"solver": "liblinear"}, "solver='liblinear'"),
            ({"solver": "saga", "random_state": 0}, "solver='saga'"),
        ],
        ids=str,
    )
    def test_other_solvers(self, options, reason, capsys):
        X, y = problem(300, 2)
        ours, theirs = (cls(verbose=1, **options).fit(X, y) for cls in (LogisticRegression, Theirs))
        assert_array_equal(ours.coef_, theirs.coef_)
        lines = capsys.readouterr().out.splitlines()
        said = [line for line in lines if "fastlse" in line]
        assert said == [f"[fastlse] {reason}: this fit is left to scikit-learn's own code"]

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_l1(self):
        X, y = problem()
        l1 = {"l1_ratio": 1} if PENALTY_IS_DEPRECATED else {"penalty": "l1"}
        options = {"solver": "saga", "C": 0.02, "random_state": 0, "max_iter": 1000, **l1}
        ours, theirs = (cls(**options).fit(X, y) for cls in (LogisticRegression, Theirs))
        assert_array_equal(ours.coef_, theirs.coef_)
        assert (ours.coef_ == 0).any()

    INVALID = (
        {"C": -1.0},
        {"C": np.nan},
        {"C": "1"},
        {"tol": -1},
        {"max_iter": -1},
        {"max_iter": 1.5},
        {"solver": "sgd"},
        {"penalty": "l3"},
        {"l1_ratio": 2},
        {"l1_ratio": 0.5, "penalty": "elasticnet"},
        {"penalty": "l1"},
        {"dual": True},
        {"fit_intercept": "yes"},
        {"class_weight": "heavy"},
        {"class_weight": {7: 1.0}},
        {"random_state": "a"},
        {"intercept_scaling": 0},
        {"n_jobs": 1.5},
        {"verbose": -1},
        {"warm_start": 2},
    )

    @pytest.mark.parametrize("options", INVALID, ids=str)
    @pytest.mark.filterwarnings("ignore")
    def test_same_error_for_parameters(self, options):
        X, y = problem()
        self.assert_same_error(X, y, None, options)

    @pytest.mark.parametrize(
        "name",
        ["nan", "inf", "one class", "regression", "lengths", "3-d", "empty", "y nan", "complex"],
    )
    def test_same_error_for_data(self, name):
        X, y = problem()
        X, y = {
            "nan": (np.where(X > 2, np.nan, X), y),
            "inf": (np.where(X > 2, np.inf, X), y),
            "one class": (X, np.zeros(300, int)),
            "regression": (X, X[:, 0]),
            "lengths": (X, y[:-1]),
            "3-d": (X[None], y),
            "empty": (X[:0], y[:0]),
            "y nan": (X, np.where(y == 0, np.nan, y)),
            "complex": (X + 1j, y),
        }[name]
        self.assert_same_error(X, y, None, {})

    @pytest.mark.parametrize(
        "weight", [np.ones(299), np.ones((300, 1)), np.full(300, np.nan)], ids=["299", "2-d", "nan"]
    )
    def test_same_error_for_weights(self, weight):
        X, y = problem()
        self.assert_same_error(X, y, weight, {})

    def assert_same_error(self, X, y, weight, options):
        errors = []
        for cls in (LogisticRegression, Theirs):
            with pytest.raises((ValueError, TypeError)) as error:
                cls(**options).fit(X, y, weight)
            errors.append(error.value)
        assert type(errors[0]) is type(errors[1])
        # Newer versions say more; so does ours.
        assert str(errors[0]).startswith(str(errors[1]))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"penalty": "l2"},
            {"penalty": None},
            {"penalty": None, "C": 2.0},
            {"penalty": "l2", "l1_ratio": 0.5},
            {"penalty": "l2", "l1_ratio": 0},
            {"l1_ratio": None},
            {"n_jobs": 1},
            {"penalty": "l2", "n_jobs": 1, "l1_ratio": None},
        ],
        ids=str,
    )
    def test_same_warnings(self, options):
        X, y = problem()
        texts = []
        for cls in (LogisticRegression, Theirs):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                cls(**options).fit(X, y)
            # Its first sentence: what follows has changed from 1.8 to 1.9.
            texts.append([(w.category, str(w.message).partition(". ")[0]) for w in caught])
        assert texts[0] == [text for text in texts[1] if text[0] is not DeprecationWarning]


def test_digits():
    X, y = load_digits(return_X_y=True)
    ours, theirs = (cls(max_iter=2000).fit(X / 16, y) for cls in (LogisticRegression, Theirs))
    assert_array_equal(ours.predict(X / 16), theirs.predict(X / 16))
    assert objective(ours, X / 16, y) <= objective(theirs, X / 16, y) * (1 + 1e-4)
