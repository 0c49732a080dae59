"""`patch`, `unpatch`, `patched`: what they change, what they put back, what they give."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import sklearn
import subprocesses
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegressionCV
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import fastlse
from fastlse.sklearn import _replacements, patch, patched, patching, unpatch
from fastlse.sklearn._places import PLACES, Place, places_of

HERE = sorted({place for name in PLACES for place in places_of(name, sklearn.__version__)}, key=str)


def standing():
    """What stands in every place."""
    return {place: place.read() for place in HERE}


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Every test finds and leaves scikit-learn as it is."""
    before = standing()
    yield
    assert all(value is before[place] for place, value in standing().items())
    assert not patching._changes
    patching._covered.clear()


@pytest.fixture
def one_thread():
    with threadpool_limits(1):
        yield


class TestWhatIsChanged:
    def test_importing_changes_nothing(self):
        subprocesses.run("""
            import sys
            import fastlse
            import fastlse.sklearn
            assert "sklearn" not in sys.modules
            from sklearn.naive_bayes import GaussianNB
            import sklearn.linear_model, sklearn.mixture._base, sklearn._loss.loss
            fastlse.sklearn.patched, fastlse.sklearn.HalfBinomialLoss
            for module in [m for n, m in sys.modules.items() if n.startswith("sklearn")]:
                for value in list(vars(module).values()):
                    home = getattr(value, "__module__", None) or ""
                    assert "fastlse" not in str(home), (module, value)
        """)

    def test_every_place_is_changed_and_restored(self):
        before = standing()
        assert patch() == tuple(PLACES)
        changed = standing()
        assert unpatch() == tuple(PLACES)
        assert all(changed[place] is not before[place] for place in HERE)
        assert all(value is before[place] for place, value in standing().items())

    @pytest.mark.parametrize("name", PLACES)
    def test_a_name_changes_its_own_places_alone(self, name):
        before = standing()
        with patched(name):
            changed = {place for place, value in standing().items() if value is not before[place]}
        assert changed == set(places_of(name, sklearn.__version__))
        assert changed

    def test_logistic_regression_is_ours(self):
        from sklearn import linear_model

        theirs = linear_model.LogisticRegression
        with patched("LogisticRegression"):
            assert linear_model.LogisticRegression is fastlse.sklearn.LogisticRegression
            assert pickle.loads(pickle.dumps(theirs())).__class__ is theirs
        assert linear_model.LogisticRegression is theirs

    def test_it_tells_what_it_changed(self, capsys):
        with patched(["GaussianNB", "MLPClassifier"], verbose=True):
            pass
        said = capsys.readouterr()
        assert said.out == ""
        assert "fastlse: GaussianNB by way of sklearn.naive_bayes." in said.err
        assert "sklearn.neural_network._base.ACTIVATIONS['softmax']" in said.err
        with patched():
            pass
        assert capsys.readouterr().err == ""


class TestHolders:
    def test_calls_count(self):
        theirs = standing()
        patch()
        patch("GaussianNB")
        assert unpatch() == tuple(PLACES)
        changed = [place for place, value in standing().items() if value is not theirs[place]]
        assert set(changed) == set(places_of("GaussianNB", sklearn.__version__))
        assert unpatch() == ("GaussianNB",)
        assert unpatch() == ()

    def test_unpatching_some(self):
        patch(["GaussianMixture", "GaussianNB"])
        assert unpatch("GaussianNB") == ("GaussianNB",)
        assert unpatch(["GaussianNB", "GaussianMixture"]) == ("GaussianMixture",)

    def test_shared_places_stay_while_one_needs_them(self):
        (place,) = places_of("GaussianMixture", sklearn.__version__)
        patch(["GaussianMixture", "BayesianGaussianMixture"])
        ours = place.read()
        unpatch("GaussianMixture")
        assert place.read() is ours
        unpatch("BayesianGaussianMixture")
        assert place.read() is not ours

    def test_unpatch_leaves_what_a_block_needs(self):
        (place,) = places_of("GaussianNB", sklearn.__version__)
        theirs = place.read()
        with patched("GaussianNB"):
            assert unpatch() == ()
            assert place.read() is not theirs
        assert place.read() is theirs

    def test_blocks_nest_and_end_by_exceptions(self):
        (place,) = places_of("GaussianNB", sklearn.__version__)
        with patched("GaussianNB"):
            with patched("GaussianNB"):
                ours = place.read()
            with pytest.raises(KeyError, match="inside"), patched("GaussianNB"):
                raise KeyError("inside")
            assert place.read() is ours

    def test_it_decorates(self):
        (place,) = places_of("GaussianNB", sklearn.__version__)
        theirs = place.read()

        @patched("GaussianNB")
        def standing_inside():
            return place.read()

        assert standing_inside() is not theirs
        assert standing_inside() is not theirs

    def test_threads(self):
        """Blocks that overlap: nobody's ends early, nothing is left behind."""
        (place,) = places_of("GaussianNB", sklearn.__version__)
        theirs, wrong = place.read(), []
        start = threading.Barrier(8)

        def work():
            start.wait()
            for _ in range(200):
                with patched(["GaussianNB", "GaussianMixture"]):
                    if place.read() is theirs:
                        wrong.append(1)

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not wrong
        assert place.read() is theirs


class TestSomebodyElse:
    def test_their_later_change_stays(self, monkeypatch):
        (place,) = places_of("GaussianNB", sklearn.__version__)
        theirs = place.read()
        patch("GaussianNB")
        ours = place.read()

        def another(*args, **kwargs):
            return ours(*args, **kwargs)

        place.write(another)
        with pytest.warns(RuntimeWarning, match=r"sklearn\.naive_bayes\..* by somebody else"):
            unpatch()
        assert place.read() is another
        # Who puts back what they found makes it ours again: then we know the original still.
        place.write(ours)
        with patched("GaussianNB"):
            assert place.read() is ours
        assert place.read() is theirs

    def test_their_earlier_change_comes_back(self):
        (place,) = places_of("GaussianNB", sklearn.__version__)
        theirs = place.read()

        def another(*args, **kwargs):
            return theirs(*args, **kwargs)

        place.write(another)
        with patched("GaussianNB"):
            assert place.read() is not another
        assert place.read() is another
        place.write(theirs)


class TestErrors:
    def test_unknown_names(self):
        with pytest.raises(ValueError, match=r"names must be among LogisticRegression, .*'SVC'"):
            patch(["GaussianNB", "SVC"])
        with pytest.raises(ValueError, match="names must be strings or None, got 3"):
            unpatch(3)
        with pytest.raises(ValueError, match="names must be among"), patched("nothing"):
            pass

    def test_what_this_version_lacks(self, monkeypatch):
        lacking = Place("sklearn.naive_bayes", "gone", _replacements.make_logsumexp)
        monkeypatch.setitem(PLACES, "GaussianNB", (*PLACES["GaussianMixture"], lacking))
        before = standing()
        message = r"scikit-learn \S+ has no sklearn\.naive_bayes\.gone, which patching GaussianNB"
        with pytest.raises(ImportError, match=message):
            patch("GaussianNB")
        assert all(value is before[place] for place, value in standing().items())
        assert unpatch() == ()

    @pytest.mark.parametrize("version", ["1.5.2", "1.10.0", "2.0"])
    def test_versions_that_are_not_supported(self, monkeypatch, version):
        monkeypatch.setattr(sklearn, "__version__", version)
        with pytest.raises(ImportError, match=r"1\.6 to 1\.9"):
            patching.patch()


def counting(monkeypatch):
    """Count the calls of fastlse's functions by the replacements."""
    counts = {}

    def counted(name, function):
        def call(*args, **options):
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **options)

        return call

    for name in ("logsumexp", "softmax", "expit"):
        monkeypatch.setattr(fastlse, name, counted(name, getattr(fastlse, name)))
    return counts


IRIS = load_iris(return_X_y=True)
WINE = load_wine(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIGITS = load_digits(return_X_y=True)

MODELS = {
    "GaussianMixture": (lambda: GaussianMixture(3, random_state=0), IRIS, "logsumexp"),
    "BayesianGaussianMixture": (
        lambda: BayesianGaussianMixture(n_components=3, random_state=0, max_iter=500),
        IRIS,
        "logsumexp",
    ),
    "GaussianNB": (GaussianNB, DIGITS, "logsumexp"),
    "BernoulliNB": (lambda: BernoulliNB(binarize=8), DIGITS, "logsumexp"),
    "CategoricalNB": (lambda: CategoricalNB(min_categories=17), DIGITS, "logsumexp"),
    "ComplementNB": (ComplementNB, DIGITS, "logsumexp"),
    "MultinomialNB": (MultinomialNB, DIGITS, "logsumexp"),
    "MLPClassifier": (
        lambda: MLPClassifier((20,), "logistic", max_iter=8, random_state=0),
        DIGITS,
        "softmax",
    ),
    "LinearDiscriminantAnalysis": (LinearDiscriminantAnalysis, WINE, "softmax"),
    "HistGradientBoostingClassifier": (
        lambda: HistGradientBoostingClassifier(max_iter=8, random_state=0),
        WINE,
        "softmax",
    ),
    "GradientBoostingClassifier": (
        lambda: GradientBoostingClassifier(n_estimators=8, random_state=0),
        WINE,
        "softmax",
    ),
    "CalibratedClassifierCV": (
        lambda: CalibratedClassifierCV(LinearSVC(random_state=0, dual=False), cv=3),
        CANCER,
        "expit",
    ),
}
if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8):
    MODELS["CalibratedClassifierCV, temperature"] = (
        lambda: CalibratedClassifierCV(LinearDiscriminantAnalysis(), cv=3, method="temperature"),
        WINE,
        "softmax",
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.usefixtures("one_thread")
class TestResults:
    @pytest.mark.parametrize("name", MODELS)
    def test_same_results(self, name, monkeypatch):
        make, (X, y), kernel = MODELS[name]
        expected = make().fit(X, y)
        counts = counting(monkeypatch)
        with patched(name.split(",")[0]):
            ours = make().fit(X, y)
            proba = ours.predict_proba(X)
            predicted = ours.predict(X)
        assert counts.get(kernel)
        assert_array_equal(predicted, expected.predict(X))
        if name == "GradientBoostingClassifier":
            # Splits of equal gain, of which rounding decides which one is taken.
            assert_allclose(proba, expected.predict_proba(X), rtol=1e-3)
            assert_allclose(ours.train_score_, expected.train_score_, rtol=1e-4)
            return
        assert_allclose(proba, expected.predict_proba(X), rtol=1e-7, atol=1e-9)
        if hasattr(expected, "loss_curve_"):
            assert_allclose(ours.loss_curve_, expected.loss_curve_, rtol=1e-7)
        if hasattr(expected, "lower_bound_"):
            assert ours.n_iter_ == expected.n_iter_
            assert_allclose(ours.lower_bound_, expected.lower_bound_, rtol=1e-7)
            assert_allclose(ours.score_samples(X), expected.score_samples(X), rtol=1e-7)

    def test_topic_model(self, monkeypatch):
        X = DIGITS[0][:100]
        make = lambda: LatentDirichletAllocation(4, random_state=0, max_iter=2).fit(X)  # noqa: E731
        expected = make()
        counts = counting(monkeypatch)
        with patched("LatentDirichletAllocation"):
            ours = make()
            assert_allclose(ours.score(X), expected.score(X), rtol=1e-12)
        assert counts["logsumexp"] >= 100
        assert_allclose(ours.perplexity(X), expected.perplexity(X), rtol=1e-12)

    def test_neighbourhood_components(self, monkeypatch):
        make = lambda: NeighborhoodComponentsAnalysis(2, max_iter=5, random_state=0)  # noqa: E731
        expected = make().fit(*IRIS).components_
        counts = counting(monkeypatch)
        with patched("NeighborhoodComponentsAnalysis"):
            assert_allclose(make().fit(*IRIS).components_, expected, rtol=1e-7)
        assert counts["softmax"]

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_logistic_regression_cv(self):
        options = {"Cs": [0.1], "cv": 2, "solver": "newton-cholesky", "tol": 1e-10}
        expected = LogisticRegressionCV(**options).fit(*IRIS)
        with patched("LogisticRegressionCV"):
            ours = LogisticRegressionCV(**options).fit(*IRIS)
            proba = ours.predict_proba(IRIS[0])
        assert_allclose(proba, expected.predict_proba(IRIS[0]), rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize(
        "name", ["HistGradientBoostingClassifier", "GradientBoostingClassifier", "GaussianMixture"]
    )
    def test_pickles_do_not_need_us(self, name):
        make, (X, y), _ = MODELS[name]
        with patched(name):
            model = make().fit(X, y)
            saved = pickle.dumps(model)
        assert b"fastlse" not in saved
        assert_allclose(pickle.loads(saved).predict_proba(X), model.predict_proba(X), rtol=1e-12)


class TestReplacements:
    """What a replacement does not serve goes to the original."""

    def test_softmax(self, backend):
        from sklearn.utils.extmath import softmax as original

        ours = _replacements.make_softmax(original)
        x = np.random.default_rng(0).normal(size=(5, 3))
        before = x.copy()
        assert_allclose(ours(x), original(x), rtol=1e-14)
        assert_array_equal(x, before)
        assert ours(x, copy=False) is x
        assert_allclose(x, original(before), rtol=1e-14)
        assert_allclose(ours(before.astype("float16")), x, rtol=1e-2)

    def test_logsumexp(self, backend):
        from scipy.special import logsumexp as original

        ours = _replacements.make_logsumexp(original)
        x = np.random.default_rng(0).normal(size=(5, 3))
        assert_allclose(ours(x, axis=1), original(x, axis=1), rtol=1e-14)
        assert_allclose(ours(x, 0), original(x, 0), rtol=1e-14)
        assert_allclose(ours(x), original(x), rtol=1e-14)
        assert_allclose(ours(x, axis=1, keepdims=True), original(x, axis=1, keepdims=True))
        assert_allclose(ours(x, axis=1, b=2 * x), original(x, axis=1, b=2 * x))
        assert ours([[0, 0]], axis=1) == original([[0, 0]], axis=1)

    def test_expit(self, backend):
        from scipy.special import expit as original

        ours = _replacements.make_expit(original)
        x = np.random.default_rng(0).normal(size=7)
        expected = original(x)
        assert_allclose(ours(x), expected, rtol=1e-14)
        assert_allclose(ours(x, np), expected, rtol=1e-14)
        assert_allclose(ours(x, xp=np), expected, rtol=1e-14)
        assert_allclose(ours(0.5), original(0.5), rtol=1e-14)
        assert_allclose(ours([1, 2]), original([1, 2]), rtol=1e-14)
        room = np.empty(7)
        assert ours(x, room) is room
        assert_allclose(room, expected, rtol=1e-14)
        assert ours(x, out=x) is x
        assert_allclose(x, expected, rtol=1e-14)

    def test_network_loss(self, backend):
        from sklearn.neural_network._base import log_loss as original

        ours = _replacements.make_log_loss(original)
        proba = np.random.default_rng(0).dirichlet(np.ones(4), 50)
        proba[0] = [0, 1, 0, 0]
        one_hot = np.eye(4, dtype=bool)[np.arange(50) % 4]
        assert_allclose(ours(one_hot, proba), original(one_hot, proba), rtol=1e-14)
        small = proba.astype("float32")
        assert_allclose(ours(one_hot, small), original(one_hot, small), rtol=1e-5)
        soft = one_hot.astype(float)
        assert ours(soft, proba) == original(soft, proba)
        assert ours(one_hot[:, :1], proba[:, :1]) == original(one_hot[:, :1], proba[:, :1])
