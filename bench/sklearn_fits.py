"""Time of logistic regression fits: fastlse's, scikit-learn's and scikit-learn-intelex's.

    python bench/sklearn_fits.py [--rounds 5] [--max-iter 2000] [case ...]

The estimators take turns in one process, on one thread, and the least processor time of each
counts. The objective is what scikit-learn minimises, computed here in float64; it is given relative
to scikit-learn's. Convergence is at the default `tol`. scikit-learn-intelex takes part where it is
installed.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FASTLSE_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from scipy.special import logsumexp
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression as ScikitLearn

from fastlse.sklearn import LogisticRegression

# rows, features, classes
CASES = {
    "200000x20x10": (200_000, 20, 10),
    "100000x100x10": (100_000, 100, 10),
    "20000x20x3": (20_000, 20, 3),
    "200000x20x2": (200_000, 20, 2),
    "digits": None,
}


def data(case, dtype):
    if CASES[case] is None:
        X, y = load_digits(return_X_y=True)
    else:
        n_rows, n_features, n_classes = CASES[case]
        X, y = make_classification(
            n_rows, n_features, n_informative=10, n_classes=n_classes, random_state=0
        )
    return X.astype(dtype), y


def estimators():
    found = {"scikit-learn": ScikitLearn, "fastlse": LogisticRegression}
    try:
        import daal4py
        from sklearnex.linear_model import LogisticRegression as Intelex
    except ImportError:
        return found
    daal4py.daalinit(nthreads=1)
    return {**found, "intelex": Intelex}


def objective(model, X, y):
    """The mean loss and the penalty, in float64, by blocks of rows."""
    coef, intercept = model.coef_.astype(float), model.intercept_.astype(float)
    if len(coef) == 1:
        coef, intercept = np.vstack([0 * coef, coef]), np.append(0 * intercept, intercept)
    total = np.sum(model.coef_.astype(float) ** 2) / (2 * model.C)
    for start in range(0, len(X), 10_000):
        scores = X[start : start + 10_000].astype(float) @ coef.T + intercept
        target = y[start : start + 10_000]
        total += np.sum(logsumexp(scores, axis=1) - scores[np.arange(len(target)), target])
    return total / len(X)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-iter", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for case in options.cases or CASES:
        for dtype in ("float64", "float32"):
            X, y = data(case, dtype)
            best, fitted = {}, {}
            for _ in range(options.rounds):
                for name, estimator in estimators().items():
                    start = time.process_time()
                    fitted[name] = estimator(max_iter=options.max_iter).fit(X, y)
                    best[name] = min(best.get(name, np.inf), time.process_time() - start)
            values = {name: objective(model, X, y) for name, model in fitted.items()}
            print(f"{case} {dtype}")
            for name, seconds in best.items():
                worse = values[name] / values["scikit-learn"] - 1
                print(
                    f"  {name:12s} {seconds:8.3f} s  {best['scikit-learn'] / seconds:6.2f}x  "
                    f"{int(np.max(fitted[name].n_iter_)):4d} iterations  objective {worse:+.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
