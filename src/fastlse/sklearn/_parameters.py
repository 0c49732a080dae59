"""Which fits run here, and scikit-learn's warnings about the parameters of those."""

from __future__ import annotations

import warnings
from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state

# Since 1.8: what `l1_ratio` and `C` say is not said again.
PENALTY_IS_DEPRECATED = signature(LogisticRegression).parameters["penalty"].default == "deprecated"

UNUSED_L1_RATIO = "l1_ratio parameter is only used when penalty is 'elasticnet'. Got (penalty={})"


def why_not_here(estimator: Any, *arrays: Any) -> str | None:
    """Why a fit is left to scikit-learn's own code; None if it runs here."""
    if estimator.solver != "lbfgs":
        return f"solver={estimator.solver!r}"
    if penalty(estimator) not in ("l2", None):
        return f"the penalty {penalty(estimator)!r}"
    if getattr(estimator, "multi_class", "deprecated") != "deprecated":
        return f"multi_class={estimator.multi_class!r}"
    if hasattr(estimator, "_skl_callbacks"):
        return "callbacks"
    if get_config().get("array_api_dispatch") and any(map(_is_foreign, arrays)):
        return "arrays that are not NumPy's"
    return None if _are_valid(estimator) else "these parameters"


def penalty(estimator: Any) -> Any:
    """The penalty's name as scikit-learn before 1.8 has it; later it follows from `l1_ratio`."""
    if estimator.penalty != "deprecated":
        return estimator.penalty
    return "l2" if estimator.l1_ratio in (None, 0) else f"of l1_ratio={estimator.l1_ratio!r}"


def strength(estimator: Any) -> float:
    """C, infinite without a penalty."""
    return np.inf if estimator.penalty is None else float(estimator.C)


def _is_foreign(array: Any) -> bool:
    # PyTorch's tensors have no namespace.
    is_array = hasattr(array, "__array_namespace__") or hasattr(array, "device")
    return is_array and not isinstance(array, np.ndarray)


def _are_valid(estimator: Any) -> bool:
    """Whether scikit-learn accepts the parameters: it has the messages for those it does not."""
    bools = estimator.fit_intercept, estimator.warm_start, estimator.dual
    try:
        check_random_state(estimator.random_state)
    except ValueError:
        return False
    return (
        _is_number(estimator.C, Real)
        and estimator.C > 0
        and _is_number(estimator.tol, Real)
        and _is_number(estimator.intercept_scaling, Real)
        and estimator.intercept_scaling > 0
        and (estimator.l1_ratio is None or _is_number(estimator.l1_ratio, Real))
        and (estimator.l1_ratio is None or estimator.l1_ratio <= 1)
        and _is_number(estimator.max_iter, Integral)
        and _is_number(estimator.verbose, Integral)
        and isinstance(estimator.n_jobs, Integral | None)
        and isinstance(estimator.class_weight, dict | str | None)
        and (not isinstance(estimator.class_weight, str) or estimator.class_weight == "balanced")
        and all(isinstance(value, bool | np.bool_) for value in bools)
        and not estimator.dual
    )


def _is_number(value: Any, kind: Any) -> bool:
    """Whether it is a number of that kind and not negative."""
    return isinstance(value, kind) and bool(value >= 0)


def warn_as_scikit_learn(estimator: Any) -> None:
    """Give the warnings that scikit-learn's `fit` gives about an L2 or no penalty."""
    if not PENALTY_IS_DEPRECATED:
        if estimator.l1_ratio is not None:
            _warn(UNUSED_L1_RATIO.format(estimator.penalty))
    elif estimator.penalty == "deprecated":
        if estimator.l1_ratio is None:
            _warn(
                "'l1_ratio=None' was deprecated in version 1.8 and will trigger an error in 1.10. "
                "Use 0<=l1_ratio<=1 instead.",
                FutureWarning,
            )
    else:
        _warn(
            "'penalty' was deprecated in version 1.8 and will be removed in 1.10. To avoid this "
            "warning, leave 'penalty' set to its default value and use 'l1_ratio' or 'C' instead. "
            "Use l1_ratio=0 instead of penalty='l2', l1_ratio=1 instead of penalty='l1', l1_ratio "
            "set to a float between 0 and 1 instead of penalty='elasticnet', and C=np.inf instead "
            "of penalty=None.",
            FutureWarning,
        )
        if estimator.l1_ratio is not None and 0 < estimator.l1_ratio < 1:
            _warn(UNUSED_L1_RATIO.format(estimator.penalty))
        if estimator.penalty == "l2" and estimator.l1_ratio != 0:
            _warn(
                f"Inconsistent values: penalty={estimator.penalty} with "
                f"l1_ratio={estimator.l1_ratio}. penalty is deprecated. Please use l1_ratio only."
            )
    if estimator.penalty is None and estimator.C != 1.0:
        _warn("Setting penalty=None will ignore the C and l1_ratio parameters")
    if PENALTY_IS_DEPRECATED and estimator.n_jobs is not None:
        _warn(
            "'n_jobs' has no effect since 1.8 and will be removed in 1.10. You provided "
            f"'n_jobs={estimator.n_jobs}', please leave it unspecified.",
            FutureWarning,
        )


def _warn(message: str, category: type[Warning] = UserWarning) -> None:
    warnings.warn(message, category, stacklevel=4)
