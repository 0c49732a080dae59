"""What scikit-learn's estimators gain under `fastlse.sklearn.patched`: a table in Markdown.

    python bench/sklearn_patch.py [--seconds 2] [NAME ...]

One run, one thread; each pair of times is the best of many, taken in turns, with and without.
The pointwise losses come first, against scikit-learn's extension types.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.neural_network import MLPClassifier
from sklearn.utils.extmath import softmax
from threadpoolctl import threadpool_limits

import fastlse
import fastlse.sklearn


def bundled(name):
    return {"digits": load_digits, "breast cancer": load_breast_cancer}[name](return_X_y=True)


def synthetic(n, d, n_classes, non_negative=False):
    X, y = make_classification(
        n, d, n_informative=d * 3 // 4, n_redundant=0, n_classes=n_classes, random_state=0
    )
    return (np.abs(X).round() if non_negative else X), y


DATA = {
    "digits": lambda: bundled("digits"),
    "breast cancer": lambda: bundled("breast cancer"),
    "100000 x 20, 10 classes": lambda: synthetic(100_000, 20, 10),
    "100000 x 20, 2 classes": lambda: synthetic(100_000, 20, 2),
    "20000 x 20, 10 classes": lambda: synthetic(20_000, 20, 10),
    "20000 x 20 counts, 10 classes": lambda: synthetic(20_000, 20, 10, True),
    "2000 x 20, 10 classes": lambda: synthetic(2000, 20, 10),
}

LARGE, MIDDLE = "100000 x 20, 10 classes", "20000 x 20, 10 classes"
MIXTURE = {"covariance_type": "diag", "init_params": "random", "tol": 0, "random_state": 0}
HIST = {"max_iter": 10, "early_stopping": False, "random_state": 0}
NETWORK = {"max_iter": 3, "random_state": 0}

# An estimator, its data, and which of its methods are timed beside fit.
CASES = [
    (GaussianMixture(10, max_iter=10, **MIXTURE), "digits", ["predict_proba"]),
    (GaussianMixture(10, max_iter=10, **MIXTURE), LARGE, ["predict_proba", "score_samples"]),
    (BayesianGaussianMixture(n_components=10, max_iter=10, **MIXTURE), LARGE, ["predict_proba"]),
    (GaussianNB(), "digits", ["predict_proba"]),
    (GaussianNB(), LARGE, ["predict_proba"]),
    (MultinomialNB(), "digits", ["predict_proba"]),
    (MultinomialNB(), "20000 x 20 counts, 10 classes", ["predict_proba"]),
    (BernoulliNB(), LARGE, ["predict_proba"]),
    (MLPClassifier((50,), **NETWORK), "digits", ["predict_proba"]),
    (MLPClassifier((50,), **NETWORK), MIDDLE, ["predict_proba"]),
    (MLPClassifier((50,), activation="logistic", **NETWORK), MIDDLE, ["predict_proba"]),
    (LinearDiscriminantAnalysis(), "digits", ["predict_proba"]),
    (LinearDiscriminantAnalysis(), LARGE, ["predict_proba"]),
    (HistGradientBoostingClassifier(**HIST), "digits", ["predict_proba"]),
    (HistGradientBoostingClassifier(**HIST), LARGE, ["predict_proba"]),
    (HistGradientBoostingClassifier(**HIST), "100000 x 20, 2 classes", ["predict_proba"]),
    (
        GradientBoostingClassifier(n_estimators=3, random_state=0),
        "2000 x 20, 10 classes",
        ["predict_proba"],
    ),
    (
        CalibratedClassifierCV(LinearDiscriminantAnalysis(), cv=3),
        "breast cancer",
        ["predict_proba"],
    ),
    (
        CalibratedClassifierCV(LinearDiscriminantAnalysis(), cv=3, method="temperature"),
        LARGE,
        ["predict_proba"],
    ),
    (LatentDirichletAllocation(10, max_iter=1, random_state=0), "digits", ["score"]),
    (NeighborhoodComponentsAnalysis(2, max_iter=3, random_state=0), "digits", []),
]


def best_in_turns(calls, seconds):
    """The least time of each call; at least three turns."""
    best = [np.inf] * len(calls)
    end, turns = time.perf_counter() + seconds, 0
    while turns < 3 or time.perf_counter() < end:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
        turns += 1
    return best


def name_of(estimator):
    name = type(estimator).__name__
    for option in ("activation", "method"):
        if option in estimator.get_params() and getattr(estimator, option) != "relu":
            name += f", {getattr(estimator, option)}"
    return name


def row(name, data, what, times, difference):
    theirs, ours = (1000 * t for t in times)
    print(f"| {name} | {data} | {what} | {theirs:.3g} | {ours:.3g} | {theirs / ours:.2f} |", end="")
    print(f" {difference:.0e} |" if difference else " 0 |", flush=True)


def race(estimator, data, methods, seconds):
    X, y = DATA[data]()
    patch = fastlse.sklearn.patched(type(estimator).__name__)

    def with_patch(call):
        def run():
            with fastlse.sklearn.patched(type(estimator).__name__):
                return call()

        return run

    def fit():
        return clone(estimator).fit(X, y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fit()
        with patch:
            ours = fit()
        probe = next((m for m in methods if hasattr(model, m)), "transform")
        difference = np.abs(getattr(ours, probe)(X) - getattr(model, probe)(X)).max()
        row(name_of(model), data, "fit", best_in_turns([fit, with_patch(fit)], seconds), difference)
        for method in methods:
            call = lambda method=method: getattr(model, method)(X)  # noqa: E731
            difference = np.abs(with_patch(call)() - call()).max()
            times = best_in_turns([call, with_patch(call)], seconds)
            row(name_of(model), data, method, times, difference)


def race_losses(seconds):
    """ns an element: what HistGradientBoosting asks for, and what linear models and GB do."""
    from sklearn._loss import _loss as theirs

    ours = fastlse.sklearn
    print("\n| loss | method | rows x classes | dtypes | scikit-learn | fastlse | times |")
    print("|---|---|---|---|---:|---:|---:|")
    rng = np.random.default_rng(0)
    f4, f8 = np.float32, np.float64
    for n, k in ((1797, 10), (100_000, 3), (100_000, 10), (20_000, 100)):
        y = rng.integers(0, k, n).astype(f8)
        raw = np.asfortranarray(rng.normal(size=(n, k)))
        small = np.asarray(raw, dtype=f4)
        for method, x, out, shapes in (
            ("loss_gradient", raw, f8, (n, (n, k))),
            ("loss_gradient", small, f4, (n, (n, k))),
            ("gradient_hessian", raw, f4, ((n, k), (n, k))),
            ("gradient_proba", raw, f8, ((n, k), (n, k))),
        ):
            outs = [np.empty(shape, out, order="F") for shape in shapes]
            labels = y.astype(x.dtype)
            calls = [
                lambda loss=loss: getattr(loss, method)(labels, x, None, *outs, 1)  # noqa: B023
                for loss in (theirs.CyHalfMultinomialLoss(), ours.CyHalfMultinomialLoss())
            ]
            a, b = (1e9 * t / x.size for t in best_in_turns(calls, seconds))
            dtypes = f"{x.dtype} to {np.dtype(out)}"
            print(f"| multinomial | {method} | {n} x {k} | {dtypes} | {a:.1f} | {b:.1f} |", end="")
            print(f" {a / b:.1f} |", flush=True)
    for n in (569, 100_000):
        y = rng.integers(0, 2, n).astype(f8)
        z = rng.normal(size=n)
        for method, out in (("loss_gradient", f8), ("gradient_hessian", f4)):
            outs = [np.empty(n, out) for _ in range(2)]
            calls = [
                lambda loss=loss: getattr(loss, method)(y, z, None, *outs, 1)  # noqa: B023
                for loss in (theirs.CyHalfBinomialLoss(), ours.CyHalfBinomialLoss())
            ]
            a, b = (1e9 * t / n for t in best_in_turns(calls, seconds))
            print(f"| binomial | {method} | {n} | float64 to {np.dtype(out)} | {a:.1f} |", end="")
            print(f" {b:.1f} | {a / b:.1f} |", flush=True)
    raw = np.ascontiguousarray(rng.normal(size=(100_000, 10)))
    times = best_in_turns([lambda: softmax(raw), lambda: fastlse.softmax(raw, 1)], seconds)
    a, b = (1e9 * t / raw.size for t in times)
    print(f"| extmath.softmax | | 100000 x 10 | float64 | {a:.1f} | {b:.1f} | {a / b:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="estimators, or `losses`; all without")
    parser.add_argument("--seconds", type=float, default=2, help="for each row")
    args = parser.parse_args()
    fastlse.set_num_threads(1)
    print(f"scikit-learn {sklearn.__version__}, NumPy {np.__version__}, {fastlse.backend()}\n")
    with threadpool_limits(1):
        print("| estimator | data | | scikit-learn, ms | patched, ms | times | difference |")
        print("|---|---|---|---:|---:|---:|---:|")
        for estimator, data, methods in CASES:
            if not args.names or type(estimator).__name__ in args.names:
                race(estimator, data, methods, args.seconds)
        if not args.names or "losses" in args.names:
            race_losses(args.seconds / 4)


if __name__ == "__main__":
    main()
