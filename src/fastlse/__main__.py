"""The command line: ``python -m fastlse info``, ``demo`` and ``bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fastlse import show_config
from fastlse._bench import command

DEMO = "Train a classifier of handwritten digits; compare speed and numbers with NumPy formulas."
BENCH = "Time fastlse and the libraries that are installed, in about a minute."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``python -m fastlse``; None takes it from the process.

    Returns
    -------
    int
        The exit code: 0, or 1 if the demo's libraries are missing or a file cannot be written, or 2
        if no command was given.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "info":
        show_config()
        return 0
    if options.command == "demo":
        return _run_demo(options.seed)
    if options.command == "bench":
        return _run_bench(options)
    parser.print_help(sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastlse",
        description="Fast and accurate logsumexp, softmax and cross-entropy over NumPy arrays.",
    )
    commands = parser.add_subparsers(dest="command", title="commands")
    commands.add_parser("info", help="Print versions, backends, threads and compiler.")
    demo = commands.add_parser("demo", help=DEMO, description=DEMO)
    help_text = "An integer that decides which images are held out (default: %(default)s)."
    demo.add_argument("--seed", type=seed, default=0, help=help_text)
    bench = commands.add_parser("bench", help=BENCH, description=command.DESCRIPTION)
    command.add_options(bench)
    return parser


def seed(text: str) -> int:
    """Read a seed as scikit-learn takes it. argparse quotes this function's name in its error."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise ValueError
    return value


def _run_demo(split_seed: int) -> int:
    try:
        from fastlse import _demo
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"scipy", "sklearn", "threadpoolctl"}:
            raise
        message = f'{error}: the demo needs scikit-learn and SciPy, pip install "fastlse[sklearn]"'
        print(message, file=sys.stderr)
        return 1
    _demo.run(split_seed)
    return 0


def _run_bench(options: argparse.Namespace) -> int:
    chosen = command.Options(
        options.threads, options.quick, options.peers, options.json, options.plot
    )
    try:
        return command.run(chosen)
    except OSError as error:
        print(f"python -m fastlse bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
