"""Fast and accurate logsumexp, softmax, log-softmax and cross-entropy over NumPy arrays."""

from fastlse._backends import available_backends, backend, show_config, use_backend
from fastlse._threads import get_num_threads, set_num_threads, threads
from fastlse._version import __version__
from fastlse.linear import linear_cross_entropy, linear_cross_entropy_and_grad
from fastlse.losses import cross_entropy, cross_entropy_and_grad
from fastlse.reductions import log_softmax, logsumexp, logsumexp_and_softmax, softmax

__all__ = [
    "__version__",
    "available_backends",
    "backend",
    "cross_entropy",
    "cross_entropy_and_grad",
    "get_num_threads",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "log_softmax",
    "logsumexp",
    "logsumexp_and_softmax",
    "set_num_threads",
    "show_config",
    "softmax",
    "threads",
    "use_backend",
]
