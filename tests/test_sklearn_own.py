"""scikit-learn's own tests, of the installed package, with fastlse in it; none is left out.

Those that take long run where FASTLSE_ALL_OF_SKLEARN is set, as by `nox -s sklearn_own`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn

HERE = Path(__file__).parent
INSTALLED = Path(sklearn.__file__).parent

QUICK = [
    "mixture/tests/test_mixture.py",
    "neural_network/tests/test_base.py",
    "tests/test_naive_bayes.py",
]
SLOW = [
    "_loss/tests",
    "mixture/tests/test_bayesian_mixture.py",
    "mixture/tests/test_gaussian_mixture.py",
    "neural_network/tests/test_mlp.py",
    "tests/test_calibration.py",
    "tests/test_discriminant_analysis.py",
    "neighbors/tests/test_nca.py",
    "decomposition/tests/test_online_lda.py",
    "ensemble/tests/test_gradient_boosting.py",
    "ensemble/_hist_gradient_boosting/tests/test_gradient_boosting.py",
    "ensemble/_hist_gradient_boosting/tests/test_warm_start.py",
]


def run_own_tests(plugin, path, tmp_path):
    """Run some of scikit-learn's tests in a process of their own; how many passed."""
    assert (INSTALLED / path).exists()
    source = Path(sys.modules["fastlse"].__file__).parents[1]
    paths = [str(HERE), str(source), os.environ.get("PYTHONPATH", "")]
    # One thread each: those of OpenMP wait for each other where other work has the processors.
    settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-p", "no:cacheprovider", "-p", plugin, "-c", str(tmp_path / "pytest.ini")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(INSTALLED / path)],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted, done.stdout[-2000:]
    return int(counted[1])


def test_of_the_losses_with_ours_in_their_place(tmp_path):
    assert run_own_tests("sklearn_with_our_losses", "_loss/tests/test_loss.py", tmp_path) > 1000


@pytest.mark.parametrize("path", QUICK)
def test_under_patch(path, tmp_path):
    assert run_own_tests("sklearn_patched", path, tmp_path) >= 3


@pytest.mark.skipif(
    "FASTLSE_ALL_OF_SKLEARN" not in os.environ,
    reason="a quarter of an hour: nox -s sklearn_own",
)
@pytest.mark.parametrize("path", SLOW)
def test_under_patch_slow(path, tmp_path):
    assert run_own_tests("sklearn_patched", path, tmp_path) >= 3
