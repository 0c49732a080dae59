"""scikit-learn's own tests of LogisticRegression, with ours in its place."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

import scipy
import sklearn

import fastlse

PACKAGES = Path(sklearn.__file__).parents[1]
FILE = "sklearn/linear_model/tests/test_logistic.py"
VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))

# What fails with ours, and why. Nothing else is left out.
EXCEPTIONS = {}
if VERSION == (1, 6) and tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 15):
    EXCEPTIONS["test_logistic_regression_path_convergence_fail"] = (
        "a function's warning with SciPy's message as it was before 1.15; fails without ours, too"
    )


@pytest.mark.slow
@pytest.mark.skipif(not (PACKAGES / FILE).exists(), reason="scikit-learn came without its tests")
def test_with_ours_in_its_place(tmp_path):
    ours = str(Path(fastlse.__file__).parents[1])
    command = [sys.executable, "-m", "pytest", str(PACKAGES / FILE), "-q", "-W", "ignore"]
    # The fixtures are in the conftest.py of the package sklearn.
    command += [f"--rootdir={PACKAGES}", f"--confcutdir={PACKAGES}", f"-c={os.devnull}"]
    command += ["-p", "our_logistic_regression", "-p", "no:cacheprovider"]
    command += [f"--deselect={FILE}::{name}" for name in EXCEPTIONS]
    paths = [str(Path(__file__).parent), ours, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    n_passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert n_passed > 200
