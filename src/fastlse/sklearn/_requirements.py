"""Which scikit-learn this package works with."""

from __future__ import annotations

SUPPORTED = ("1.6", "1.7", "1.8", "1.9")


def require_sklearn() -> None:
    """Raise an ImportError unless a supported scikit-learn is installed."""
    supported = f"{SUPPORTED[0]} to {SUPPORTED[-1]}"
    try:
        import sklearn
    except ImportError:
        message = f"fastlse.sklearn needs scikit-learn, {supported}: pip install 'fastlse[sklearn]'"
        raise ImportError(message) from None
    if ".".join(sklearn.__version__.split(".")[:2]) not in SUPPORTED:
        raise ImportError(
            f"fastlse.sklearn works with scikit-learn {supported}, found {sklearn.__version__}"
        )
