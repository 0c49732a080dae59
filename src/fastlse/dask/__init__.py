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

from .cluster import check_workers
from .linear import linear_cross_entropy, linear_cross_entropy_and_grad
from .losses import cross_entropy, cross_entropy_and_grad
from .reductions import log_softmax, logsumexp, logsumexp_and_softmax, softmax
from .segments import segment_logsumexp

__all__ = [
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
