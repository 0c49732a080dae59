"""Where the functions of NumPy arrays hand a Dask array over to those of `fastlse.dask`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# What most arguments are: told at once, before a question that costs more.
_IN_MEMORY = frozenset((np.ndarray, type(None), float, int, list, tuple))


def is_lazy(value: object) -> bool:
    """Whether `value` is a Dask collection, told by Dask's protocol: nothing is imported for it."""
    kind = type(value)
    if kind in _IN_MEMORY or not hasattr(kind, "__dask_graph__"):
        return False
    # An xarray object has the method whatever it holds. Asking one of Dask's own may build a graph.
    return kind.__module__.startswith("dask.") or value.__dask_graph__() is not None  # type: ignore[attr-defined]


def lazy_version(name: str, *arguments: object) -> Callable[..., Any] | None:
    """`fastlse.dask`'s function of that name if an argument is a Dask collection, else None."""
    for argument in arguments:
        if type(argument) not in _IN_MEMORY and is_lazy(argument):
            from fastlse import dask

            function: Callable[..., Any] = getattr(dask, name)
            return function
    return None
