"""What importing fastlse.sklearn does, and what it says without a scikit-learn that works."""

from __future__ import annotations

import pytest
from subprocesses import run

pytest.importorskip("sklearn")


def test_importing_fastlse_imports_no_scikit_learn():
    run("""
        import sys
        import fastlse, fastlse.sklearn
        assert "LogisticRegression" in dir(fastlse.sklearn)
        assert "sklearn" not in sys.modules and "scipy" not in sys.modules
        from fastlse.sklearn import LogisticRegression
        assert "sklearn" in sys.modules
    """)


def test_without_scikit_learn():
    run("""
        import sys
        sys.modules["sklearn"] = None
        import fastlse.sklearn
        try:
            fastlse.sklearn.LogisticRegression
        except ImportError as error:
            assert "1.6 to 1.9" in str(error) and "scikit-learn" in str(error), error
        else:
            raise AssertionError
    """)


@pytest.mark.parametrize("version", ["1.5.2", "1.10.0", "2.0.dev0", "0.24"])
def test_with_another_scikit_learn(version):
    run(f"""
        import sklearn
        sklearn.__version__ = {version!r}
        try:
            from fastlse.sklearn import LogisticRegression
        except ImportError as error:
            assert "1.6 to 1.9" in str(error) and {version!r} in str(error), error
        else:
            raise AssertionError
    """)


def test_unknown_names():
    import fastlse.sklearn

    with pytest.raises(AttributeError, match="no attribute 'Perceptron'"):
        fastlse.sklearn.Perceptron  # noqa: B018
