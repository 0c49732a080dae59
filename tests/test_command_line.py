"""`python -m fastlse`: what it prints and how it exits."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import fastlse


def run(*arguments):
    command = [sys.executable, "-W", "error", "-m", "fastlse", *arguments]
    if fastlse.available_backends() == ("numpy",):
        command[1:3] = ["-W", "ignore"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_info(capsys):
    process = run("info")
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[0].split() == ["fastlse", fastlse.__version__]
    assert ["backends", "runnable", *", ".join(fastlse.available_backends()).split()] in [
        line.split() for line in lines
    ]


def test_demo():
    """The held-out accuracy, the table of wrong and right numbers, within 100 columns."""
    pytest.importorskip("sklearn")
    pytest.importorskip("scipy")
    process = run("demo")
    assert process.returncode == 0, process.stderr
    assert max(map(len, process.stdout.splitlines())) <= 100
    accuracies = [float(number) for number in re.findall(r"\b(0\.9\d+|1\.0+)\b", process.stdout)]
    percentages = [float(number) / 100 for number in re.findall(r"(\d+\.\d+) ?%", process.stdout)]
    assert max(accuracies + percentages) >= 0.96
    assert re.search("accuracy", process.stdout, re.IGNORECASE)
    assert re.search("naive", process.stdout, re.IGNORECASE)


@pytest.mark.parametrize("arguments", [(), ("unknown",), ("demo", "--seed", "-1")])
def test_bad_arguments(arguments):
    process = run(*arguments)
    assert process.returncode == 2
    assert "usage: python -m fastlse" in process.stderr
    assert process.stdout == ""
