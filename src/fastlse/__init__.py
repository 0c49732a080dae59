"""Fast and accurate logsumexp, softmax, log-softmax and cross-entropy over NumPy arrays."""

from fastlse._backends import available_backends, backend, show_config, use_backend
from fastlse._threads import get_num_threads, set_num_threads, threads
from fastlse._version import __version__
from fastlse.binary import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_and_grad,
)
from fastlse.elementwise import expit, log_expit, softplus
from fastlse.linear import linear_cross_entropy, linear_cross_entropy_and_grad
from fastlse.log_space import log1mexp, logmeanexp, logsubexp
from fastlse.losses import cross_entropy, cross_entropy_and_grad
from fastlse.nll import nll_loss
from fastlse.reductions import log_softmax, logsumexp, logsumexp_and_softmax, softmax
from fastlse.scans import logcumsumexp
from fastlse.segments import segment_logsumexp, segment_softmax
from fastlse.state import LogSumExpState

__all__ = [
    "LogSumExpState",
    "__version__",
    "available_backends",
    "backend",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "expit",
    "get_num_threads",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "log1mexp",
    "log_expit",
    "log_softmax",
    "logcumsumexp",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "logsumexp_and_softmax",
    "nll_loss",
    "segment_logsumexp",
    "segment_softmax",
    "set_num_threads",
    "show_config",
    "softmax",
    "softplus",
    "threads",
    "use_backend",
]
