"""Where the functions of NumPy arrays hand a Dask array over to those of `fastlse.dask`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def is_lazy(value: object) -> bool:
    """Whether `value` is a Dask collection, told by Dask's protocol: nothing is imported for it."""
    if type(value) is np.ndarray or not hasattr(type(value), "__dask_graph__"):
        return False
    # An xarray object has the method whatever it holds. Asking one of Dask's own may build a graph.
    return type(value).__module__.startswith("dask.") or value.__dask_graph__() is not None  # type: ignore[attr-defined]


def lazy_version(name: str, *arguments: object) -> Callable[..., Any] | None:
    """`fastlse.dask`'s function of that name if an argument is a Dask collection."""
    if not any(is_lazy(argument) for argument in arguments):
        return None
    from fastlse import dask

    function: Callable[..., Any] = getattr(dask, name)
    return function
