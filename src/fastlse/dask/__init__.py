"""The same functions over Dask arrays: lazy in, lazy out, chunked along any axis.

``fastlse.logsumexp`` and the others come here by themselves when an argument is a Dask array.
Nothing of this package schedules or ships data: Dask's own schedulers do. Chunks become the
arguments of the functions of `fastlse`, and where a reduced axis is split, states are merged as a
tree (`LogSumExpState`), so that the chunks change nothing beyond the last rounding.
"""

try:
    import dask.array  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fastlse.dask needs Dask's arrays, which cannot be imported ({error}): "
        'python -m pip install "fastlse[dask]"'
    ) from error

from typing import TYPE_CHECKING, Any

from .cluster import check_workers
from .linear import linear_cross_entropy, linear_cross_entropy_and_grad
from .losses import cross_entropy, cross_entropy_and_grad
from .reductions import log_softmax, logsumexp, logsumexp_and_softmax, softmax
from .segments import segment_logsumexp

if TYPE_CHECKING:
    from .estimator import LogisticRegression

__all__ = [
    "LogisticRegression",
    "check_workers",
    "cross_entropy",
    "cross_entropy_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "log_softmax",
    "logsumexp",
    "logsumexp_and_softmax",
    "segment_logsumexp",
    "softmax",
]


def __getattr__(name: str) -> Any:
    """`LogisticRegression`, which needs scikit-learn, when it is used."""
    if name != "LogisticRegression":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .estimator import LogisticRegression
    except ImportError as error:
        raise ImportError(
            f"fastlse.dask.LogisticRegression needs scikit-learn and SciPy ({error}): "
            'python -m pip install "fastlse[dask]"'
        ) from error
    return LogisticRegression
