"""The examples of `fastlse.sklearn` and of its guide run, and its names are there."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastlse.sklearn
from fastlse.sklearn._places import PLACES

GUIDE = Path(__file__).parent.parent / "docs" / "sklearn.md"
NAMES = [
    "CyHalfBinomialLoss",
    "CyHalfMultinomialLoss",
    "HalfBinomialLoss",
    "HalfMultinomialLoss",
    "patch",
    "patched",
    "unpatch",
]

needs_guide = pytest.mark.skipif(not GUIDE.is_file(), reason="the tests are not beside the guide")


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    assert name in fastlse.sklearn.__all__
    assert name in dir(fastlse.sklearn)
    tests = doctest.DocTestFinder(recurse=False).find(getattr(fastlse.sklearn, name), name)
    runner = doctest.DocTestRunner()
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
    assert runner.tries > 0


def test_other_names():
    with pytest.raises(AttributeError, match=r"'fastlse\.sklearn' has no attribute 'nothing'"):
        fastlse.sklearn.nothing  # noqa: B018


@needs_guide
def test_the_guide_runs(tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) >= 2
    code = "\n".join(blocks)
    source = Path(fastlse.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(source)!r})\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=300)


@needs_guide
def test_the_guide_names_what_can_be_patched():
    text = GUIDE.read_text("utf-8")
    for name in PLACES:
        assert name in text or name.removesuffix("Classifier") in text, name
