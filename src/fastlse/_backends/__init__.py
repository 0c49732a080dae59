"""The backends: what is built, what this machine can run, which one serves.

A backend is a module. `numpy` is the reference; the compiled ones (`avx512`, `avx2`, `baseline`)
are one source under three sets of compiler flags. All have the same functions over the same
normalised problem; those of `numpy` say what each one does. Callers write
``_backends.active.logsumexp(...)``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from fastlse._version import __version__

COMPILED = ("avx512", "avx2", "baseline")  # best first
VARIABLE = "FASTLSE_BACKEND"

Array = npt.NDArray[Any]

# Threads for a call: from the number that it asks for, or None, and its number of elements.
Resolve = Callable[[int | None, int], int]


class Backend(Protocol):
    """The functions of a backend; `fastlse._backends.numpy` documents them."""

    NAME: str

    def logsumexp_rows(
        self, a: object, axis: object, out: object, n_threads: int | None, resolve: Resolve
    ) -> Any: ...
    def softmax_rows(
        self, x: object, axis: object, out: object, n_threads: int | None, resolve: Resolve
    ) -> Array | None: ...
    def log_softmax_rows(
        self, x: object, axis: object, out: object, n_threads: int | None, resolve: Resolve
    ) -> Array | None: ...
    def logsumexp_and_softmax_rows(
        self, x: object, axis: object, out: object, n_threads: int | None, resolve: Resolve
    ) -> tuple[Any, Array] | None: ...
    def cross_entropy_rows(
        self,
        logits: object,
        target: object,
        weight: object,
        axis: object,
        sample_weight: object,
        ignore_index: object,
        reduction: object,
        label_smoothing: object,
        z_loss: object,
        softcap: object,
        want_grad: bool,
        out: object,
        n_threads: int | None,
        resolve: Resolve,
    ) -> tuple[Any, Array | None] | None: ...
    def logsumexp(
        self,
        x: Array,
        n_reduced: int,
        lse: Array,
        b: Array | None,
        sign: Array | None,
        where: Array | None,
        n_threads: int,
    ) -> None: ...
    def softmax(
        self,
        x: Array,
        n_reduced: int,
        out: Array,
        lse: Array | None,
        where: Array | None,
        n_threads: int,
    ) -> None: ...
    def log_softmax(
        self, x: Array, n_reduced: int, out: Array, where: Array | None, n_threads: int
    ) -> None: ...
    def check_target(
        self,
        target: Array,
        n_classes: int,
        weight: Array | None,
        sample_weight: Array | None,
        ignore_index: int,
    ) -> tuple[int, float]: ...
    def cross_entropy(
        self,
        logits: Array,
        target: Array | None,
        probabilities: Array | None,
        loss: Array | None,
        grad: Array | None,
        weight: Array | None,
        sample_weight: Array | None,
        ignore_index: int,
        label_smoothing: float,
        z_loss: float,
        softcap: float,
        grad_scale: float,
        n_threads: int,
    ) -> float: ...
    def row_states(
        self, x: Array, n_reduced: int, states: Array, where: Array | None, n_threads: int
    ) -> None: ...
    def log_sums(
        self, states: Array, minus: Array | None, n_terms: Array | None, result: Array
    ) -> None: ...
    def softmax_of_states(
        self, x: Array, n_reduced: int, states: Array, out: Array, n_threads: int
    ) -> None: ...
    def gradient_of_states(
        self,
        logits: Array,
        states: Array,
        target: Array,
        sample_weight: Array | None,
        grad: Array,
        n_threads: int,
    ) -> None: ...
    def segment_logsumexp(self, x: Array, indptr: Array, lse: Array, n_threads: int) -> None: ...
    def segment_softmax(self, x: Array, indptr: Array, out: Array, n_threads: int) -> None: ...
    def logcumsumexp(self, x: Array, out: Array, exclusive: bool, n_threads: int) -> None: ...
    def log1mexp(self, x: Array, out: Array, n_threads: int) -> None: ...
    def logsubexp(self, x: Array, y: Array, out: Array, n_threads: int) -> None: ...
    def elementwise_plain(
        self, name: str, x: object, out: object, resolve: Callable[[int | None, int], int]
    ) -> Any: ...
    def elementwise(self, name: str, x: Array, out: Array, n_threads: int) -> None: ...
    def binary_cross_entropy_plain(
        self,
        logits: object,
        target: object,
        want_grad: bool,
        out: object,
        resolve: Callable[[int | None, int], int],
    ) -> tuple[Any, Array | None] | None: ...
    def binary_cross_entropy(
        self,
        logits: Array,
        target: Array,
        loss: Array | None,
        grad: Array | None,
        weight: Array | None,
        pos_weight: Array | None,
        divisor: float,
        n_threads: int,
    ) -> Any: ...


def _is_built(name: str) -> bool:
    return importlib.util.find_spec(f"{__name__}.{name}") is not None


SPINS = "400"  # some ten microseconds


@contextmanager
def _short_spinning() -> Iterator[None]:
    """Keep libgomp, which reads this once when it is loaded, from spinning for milliseconds.

    Threads spin through the Python between one call and the next, and then sleep. On virtual
    machines a team that spins longer takes far longer to start after an idle pause, and beside a
    busy process it has one processor less (docs/adr/0020). A user's own setting stands, and so does
    that of whoever loaded libgomp before.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _import(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


BUILT = tuple(name for name in COMPILED if _is_built(name))
_runtime: ModuleType | None = None
if BUILT:
    with _short_spinning():
        # A module that is there but does not load is an ImportError, never a silent slow path.
        _runtime = _import("_runtime")
RUNNABLE = (*(name for name in BUILT if _runtime is not None and _runtime.runs_here(name)), "numpy")


def _load(name: str, asked_by: str) -> Backend:
    if not isinstance(name, str):
        raise TypeError(f"{asked_by} must be a str, one of {RUNNABLE}; got {type(name).__name__}")
    if name not in RUNNABLE:
        if name not in (*COMPILED, "numpy"):
            reason = "there is no such backend"
        elif name in BUILT:
            reason = "this machine lacks its instructions"
        else:
            reason = "it was not built"
        raise ValueError(f"{asked_by}={name!r}: {reason}; available are {', '.join(RUNNABLE)}")
    return cast("Backend", _import(name))


def _choose() -> Backend:
    wanted = os.environ.get(VARIABLE)
    if wanted:
        return _load(wanted, VARIABLE)
    if not BUILT:
        warnings.warn(
            "fastlse was installed without its compiled kernels and runs on NumPy, several times "
            f"slower. Reinstall it with a C compiler, or set {VARIABLE}=numpy to silence this.",
            RuntimeWarning,
            stacklevel=2,
        )
    return _load(RUNNABLE[0], VARIABLE)


active: Backend = _choose()


def backend() -> str:
    """Name of the backend that serves.

    Returns
    -------
    str
        ``"avx512"``, ``"avx2"``, ``"baseline"`` or ``"numpy"``.

    See Also
    --------
    available_backends, use_backend, show_config

    Examples
    --------
    >>> import fastlse
    >>> fastlse.backend() in fastlse.available_backends()
    True
    """
    return active.NAME


def available_backends() -> tuple[str, ...]:
    """Names of the backends that are built and that this machine can run, the fastest first.

    Returns
    -------
    tuple of str
        ``"numpy"`` is always the last of them.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.available_backends()[-1]
    'numpy'
    """
    return RUNNABLE


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Let another backend serve inside a ``with`` block.

    The choice holds for the whole process, every thread included: it is meant for tests and
    comparisons. To choose for good, set the environment variable ``FASTLSE_BACKEND`` before the
    import.

    Parameters
    ----------
    name : str
        One of `available_backends`.

    Raises
    ------
    ValueError
        If there is no such backend, or this machine cannot run it; the message lists those that it
        can.

    Examples
    --------
    >>> import fastlse
    >>> with fastlse.use_backend("numpy"):
    ...     fastlse.backend()
    'numpy'
    """
    global active
    chosen = _load(name, "name")
    before = active
    active = chosen
    try:
        yield
    finally:
        active = before


def config() -> dict[str, str]:
    """What `show_config` prints, as a dictionary of strings."""
    from fastlse import _threads

    compiled: dict[str, str] = {"compiler": "none: pure Python installation", "OpenMP": "no"}
    if _runtime is not None:
        compiled["compiler"] = _runtime.COMPILER
        compiled["OpenMP"] = (
            str(_runtime.OPENMP) if _runtime.OPENMP else "no: the kernels are serial"
        )
    for name in RUNNABLE[:-1]:
        compiled[f"flags of {name}"] = str(getattr(_load(name, "name"), "FLAGS", ""))
    return {
        "fastlse": __version__,
        "Python": f"{platform.python_version()} ({platform.machine()}, {sys.platform})",
        "NumPy": np.__version__,
        "backends built": ", ".join((*BUILT, "numpy")),
        "backends runnable": ", ".join(RUNNABLE),
        "backend": active.NAME,
        "threads": str(_threads.get_num_threads()),
        **compiled,
    }


def show_config() -> None:
    """Print versions, backends built, runnable and chosen, threads, compiler and flags.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.show_config()  # doctest: +ELLIPSIS
    fastlse ...
    """
    lines = config()
    width = max(map(len, lines))
    for key, value in lines.items():
        print(f"{key:<{width}}  {value}")
