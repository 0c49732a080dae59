"""scikit-learn's own tests of LogisticRegression, with ours in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

scipy = pytest.importorskip("scipy")
sklearn = pytest.importorskip("sklearn")

FOLDER = Path(sklearn.__file__).parent / "linear_model" / "tests"
VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))

# What fails with ours, and why. Nothing else is left out.
EXCEPTIONS = {}
if VERSION == (1, 6) and tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 15):
    EXCEPTIONS["test_logistic_regression_path_convergence_fail"] = (
        "a function's warning with SciPy's message as it was before 1.15; fails without ours, too"
    )


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "test_logistic.py").exists(), reason="installed without tests")
def test_with_ours_in_its_place():
    tests = str(Path(__file__).parent)
    packages = str(Path(__import__("fastlse").__file__).parents[1])
    command = [sys.executable, "-m", "pytest", str(FOLDER / "test_logistic.py"), "-q"]
    command += ["-p", "our_logistic_regression", "-p", "no:cacheprovider", "-W", "ignore"]
    command += [f"--deselect={FOLDER / 'test_logistic.py'}::{name}" for name in EXCEPTIONS]
    paths = [tests, packages, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        command, env=environment, cwd=FOLDER, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
