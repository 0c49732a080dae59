"""How many threads a call uses: asked for, at hand, worth the work."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import SupportsIndex, cast

from fastlse import _backends

VARIABLE = "FASTLSE_NUM_THREADS"

# Elements that are worth a thread of their own: a first choice, to be measured.
ELEMENTS_PER_THREAD = 131072

# A process may be refused more threads than this, which the OpenMP runtime answers by ending it.
MOST_THREADS = 64

_known_quota: int | None = None
_for_process: int | None = None
_for_context: ContextVar[int | None] = ContextVar("fastlse_num_threads", default=None)


def _checked(n: object, name: str) -> int:
    try:
        number = operator.index(cast("SupportsIndex", n))
    except TypeError:
        raise TypeError(
            f"{name} must be an integer of at least 1, got {type(n).__name__}"
        ) from None
    if isinstance(n, bool) or number < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {n!r}")
    return number


def _from_environment() -> int | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        return _checked(int(text), VARIABLE)
    except ValueError:
        raise ValueError(f"{VARIABLE} must be an integer of at least 1, got {text!r}") from None


def _processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_quota() -> int:
    """Processors that the container's quota amounts to, rounded up; a large number for no quota."""
    for period_file, quota_file in (
        (None, "/sys/fs/cgroup/cpu.max"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    ):
        try:
            words = Path(quota_file).read_text().split()
            if period_file is not None:
                words.append(Path(period_file).read_text().strip())
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return MOST_THREADS


def _quota() -> int:
    """What `_read_quota` said the first time."""
    global _known_quota
    if _known_quota is None:
        _known_quota = _read_quota()
    return _known_quota


def _default() -> int:
    """Threads for a call when nobody asked for a number: no more than can run at once."""
    openmp = _backends._runtime.max_threads() if _backends._runtime is not None else 1
    return max(1, min(openmp, _processors(), _quota()))


def _asked_for() -> int | None:
    return _for_context.get() or _for_process or _from_environment()


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for the whole process.

    Parameters
    ----------
    n : int
        At least 1. A small problem still runs on fewer.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer of at least 1.

    See Also
    --------
    threads : The same for a ``with`` block.

    Notes
    -----
    Without it the number is ``FASTLSE_NUM_THREADS``, or else what OpenMP would take
    (``OMP_NUM_THREADS``, which joblib and Dask set to 1 in their workers), but no more than the
    process's affinity and its container's quota allow. The results have the same bits for any
    number of threads.

    Examples
    --------
    >>> import fastlse
    >>> before = fastlse.get_num_threads()
    >>> fastlse.set_num_threads(1)
    >>> fastlse.get_num_threads()
    1
    >>> fastlse.set_num_threads(before)
    """
    global _for_process
    _for_process = _checked(n, "n")


def get_num_threads() -> int:
    """How many threads a large call uses here.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastlse
    >>> fastlse.get_num_threads() >= 1
    True
    """
    return _asked_for() or _default()


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Set how many threads a call may use inside a ``with`` block, for this thread alone.

    An asynchronous task counts as a thread here.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer of at least 1.

    Examples
    --------
    >>> import fastlse
    >>> with fastlse.threads(1):
    ...     fastlse.get_num_threads()
    1
    """
    token = _for_context.set(_checked(n, "n"))
    try:
        yield
    finally:
        _for_context.reset(token)


def resolve(n_threads: int | None, n_elements: int) -> int:
    """Threads for a call over so many elements; n_threads is the caller's argument or None.

    1 in a forked child, where OpenMP hangs, and inside another parallel region, which has the
    processors already.
    """
    asked = None if n_threads is None else _checked(n_threads, "n_threads")
    worth = n_elements // ELEMENTS_PER_THREAD
    if worth <= 1 or _backends._runtime is None or _backends._runtime.must_be_serial():
        return 1
    return min(asked or get_num_threads(), worth, MOST_THREADS)
