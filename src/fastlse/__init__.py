"""Fast and accurate logsumexp, softmax, log-softmax and cross-entropy over NumPy arrays."""

from fastlse._backends import available_backends, backend, show_config, use_backend
from fastlse._threads import get_num_threads, set_num_threads, threads
from fastlse._version import __version__
from fastlse.binary import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_and_grad,
)
from fastlse.elementwise import expit, log_expit, softplus
from fastlse.losses import cross_entropy, cross_entropy_and_grad
from fastlse.reductions import log_softmax, logsumexp, logsumexp_and_softmax, softmax

__all__ = [
    "__version__",
    "available_backends",
    "backend",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "expit",
    "get_num_threads",
    "log_expit",
    "log_softmax",
    "logsumexp",
    "logsumexp_and_softmax",
    "set_num_threads",
    "show_config",
    "softmax",
    "softplus",
    "threads",
    "use_backend",
]
