"""``python -m fastlse bench``: a minute of fastlse against what is installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastlse._bench import machine, report, results
from fastlse._bench.cases import PEERS, Entrant, Race, command_suite
from fastlse._bench.contenders import limit_threads
from fastlse._bench.progress import Progress
from fastlse._bench.races import Skipped, run_race
from fastlse._bench.results import Result
from fastlse._bench.timing import Pace, warm_up_seconds

SECONDS = 36.0  # for all races; importing and compiling the peers takes the rest of the minute
QUICK_SECONDS = 4.0
SLOW_TO_COMPILE = ("torch.compile", "TensorFlow")  # only when asked for
IMAGE_SUFFIXES = (".png", ".svg", ".pdf")
MOST_THREADS = 64

DESCRIPTION = """\
Time fastlse and the libraries that are installed, in turn with one another, in about a minute. The
best of many rounds counts. One thread, unless --threads says otherwise."""


@dataclass(frozen=True)
class Options:
    """The command's options, checked."""

    threads: int
    quick: bool
    peers: tuple[str, ...]
    json: Path | None
    plot: Path | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options; argparse quotes the names of the functions below in its errors."""
    optional = ", ".join(name for name in PEERS if name not in SLOW_TO_COMPILE)
    parser.add_argument("--quick", action="store_true", help="Small arrays and few rounds.")
    parser.add_argument(
        "--threads",
        type=number_of_threads,
        default=1,
        metavar="N",
        help="Threads that every library may use (default: 1).",
    )
    parser.add_argument(
        "--peers",
        type=peers,
        default=peers(optional),
        metavar="NAMES",
        help=f"Whom to compare with, separated by commas, of: {', '.join(PEERS)} "
        f"(default: all but {' and '.join(SLOW_TO_COMPILE)}, which compile for long).",
    )
    parser.add_argument("--json", type=file, metavar="FILE", help="Save the results.")
    parser.add_argument(
        "--plot",
        type=image_file,
        metavar="FILE",
        help="Draw the ratios as PNG, SVG or PDF; needs matplotlib.",
    )


def number_of_threads(text: str) -> int:
    """Read the number of threads."""
    number = int(text)
    if not 1 <= number <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MOST_THREADS}, got {text}")
    return number


def peers(text: str) -> tuple[str, ...]:
    """Read names of peers, in any case, separated by commas."""
    known = {name.lower(): name for name in PEERS}
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name.lower() not in known:
            raise argparse.ArgumentTypeError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    return tuple(dict.fromkeys(known[name.lower()] for name in names))


def file(text: str) -> Path:
    """Read the name of a file to write: better refused now than after a minute."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a directory" if path.is_dir() else "is in no directory that exists"
        raise argparse.ArgumentTypeError(f"{text!r} {what}")
    return path


def image_file(text: str) -> Path:
    """Read the name of an image to write, which needs matplotlib."""
    path = file(text)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r} must end in one of {', '.join(IMAGE_SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(
            'drawing needs matplotlib: pip install "fastlse[bench]", or leave --plot out'
        )
    return path


def run(options: Options) -> int:
    """Run the races, print the tables as they come, save and draw."""
    limit_threads(options.threads)
    described = machine.describe(options.threads)
    print(machine.title(described), flush=True)
    outcomes: dict[Entrant, Result | Skipped] = {}
    try:
        for operation, found in _outcomes(options):
            print(f"\n{report.operation_table(operation, found)}", flush=True)
            outcomes |= found
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    _print_skipped(outcomes)
    _save(options, described, [o for o in outcomes.values() if isinstance(o, Result)])
    return 0


def _outcomes(options: Options) -> Iterator[tuple[str, dict[Entrant, Result | Skipped]]]:
    """Operation by operation, what its races have given."""
    suite = command_suite(options.threads, options.peers, options.quick)
    races = list(suite.races(options.threads))
    seconds = (QUICK_SECONDS if options.quick else SECONDS) / len(races)
    pace = Pace(
        seconds,
        least_rounds=2 if options.quick else 3,
        warm_up_seconds=warm_up_seconds(options.threads),
    )
    progress = Progress(len(races))
    by_operation: dict[str, list[Race]] = {}
    for race in races:
        by_operation.setdefault(race.entrants[0].case.operation, []).append(race)
    try:
        for operation, its_races in by_operation.items():
            found: dict[Entrant, Result | Skipped] = {}
            for race in its_races:
                progress.start(race.name)
                found |= run_race(race.entrants, pace)
                progress.finish()
            progress.clear()
            yield operation, found
    finally:
        progress.clear()


def _print_skipped(outcomes: dict[Entrant, Result | Skipped]) -> None:
    reasons = [reason for reason in report.reasons(outcomes.values()) if " has no " not in reason]
    if reasons:
        print("\nSkipped: " + "; ".join(reasons) + ".")


def _save(options: Options, described: dict[str, object], found: Sequence[Result]) -> None:
    if options.json is not None:
        commit = machine.commit(Path(machine.__file__).parent)
        results.write(options.json, described, commit, list(found))
        print(f"\nSaved the results in {options.json}")
    if options.plot is not None:
        from fastlse._bench import pictures

        pictures.save_speed_up(results.Results(described, list(found)), options.plot)
        print(f"\nDrew the ratios in {options.plot}")
