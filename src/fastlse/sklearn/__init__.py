"""scikit-learn with fastlse's kernels.

Nothing of scikit-learn is imported, let alone changed, before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ._requirements import require_sklearn

_HOMES = {
    "LogisticRegression": "estimators",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are the table's


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_sklearn()
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
