"""`python -m fastlse`: what it prints and how it exits."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import fastlse
from fastlse import __main__
from fastlse._bench import command, contenders, results


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


def test_bench(tmp_path):
    """A table within 100 columns, and the results in a file."""
    path = tmp_path / "results.json"
    process = run("bench", "--quick", "--peers", "numpy", "--json", str(path))
    assert process.returncode == 0, process.stderr
    assert max(map(len, process.stdout.splitlines())) <= 100
    assert len(re.findall(r"^NumPy( +[\d.]+ +[\d.]+x){4}$", process.stdout, re.MULTILINE)) == 4
    assert process.stderr.splitlines()[-1].split()[0] == "16/16"
    saved = results.read(path)
    assert {result.contender for result in saved.results} == {"fastlse", "NumPy"}
    assert saved.machine["threads"] == 1


def test_bench_names_who_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(command, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(command, "limit_threads", lambda n: None)
    monkeypatch.setattr(contenders, "library", missing)
    assert __main__.main(["bench", "--quick", "--peers", "SciPy"]) == 0
    assert "Skipped: scipy.special is missing." in capsys.readouterr().out


def missing(name):
    raise contenders.SkippedError(f"{name} is missing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "must be from 1 to 64"),
        (["--threads", "two"], "number_of_threads"),
        (["--peers", "NumPy,NumPie"], "no peer 'NumPie'; there are NumPy, SciPy"),
        (["--json", "no/such/directory/results.json"], "is in no directory that exists"),
        (["--json", "."], "is a directory"),
        (["--plot", "ratios.txt"], "must end in one of .png, .svg, .pdf"),
    ],
)
def test_bench_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        __main__.main(["bench", *arguments])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_bench_draws_only_with_matplotlib(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        __main__.main(["bench", "--plot", "ratios.png"])
    assert 'pip install "fastlse[bench]"' in capsys.readouterr().err


def test_bench_says_what_it_cannot_write(monkeypatch, capsys):
    def full(options):
        raise OSError("no space left")

    monkeypatch.setattr(command, "run", full)
    assert __main__.main(["bench"]) == 1
    assert "no space left" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("unknown",), ("demo", "--seed", "-1")])
def test_bad_arguments(arguments):
    process = run(*arguments)
    assert process.returncode == 2
    assert "usage: python -m fastlse" in process.stderr
    assert process.stdout == ""
