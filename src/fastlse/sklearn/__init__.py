"""scikit-learn with fastlse's kernels: loss objects to pass, and one call for the rest.

Nothing of scikit-learn is imported, let alone changed, before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "CyHalfBinomialLoss": "losses",
    "CyHalfMultinomialLoss": "losses",
    "HalfBinomialLoss": "losses",
    "HalfMultinomialLoss": "losses",
    "patch": "patching",
    "patched": "patching",
    "unpatch": "patching",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are the table's


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
