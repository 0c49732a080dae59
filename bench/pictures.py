"""Draw the pictures of the documentation from saved results.

    python bench/pictures.py RESULTS.json [RESULTS.json ...] [--into docs/pictures] [--suffix .svg]

Every picture that the results suffice for is drawn on light and on dark ground: the speed-up over
each peer (suite `peers`), the share of the hardware's speed and the time by size (suite `scaling`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fastlse._bench import machine, pictures
from fastlse._bench.results import Results, read


def merged(files):
    """The results of all files as the first one's machine's; of two of a kind the first counts."""
    runs = [read(path) for path in files]
    found = {}
    for path, run in zip(files, runs, strict=True):
        message = machine.warning(runs[0].machine, run.machine)
        if message:
            print(f"warning: {path}: {message}", file=sys.stderr)
        for result in run.results:
            found.setdefault((result.suite, result.case, result.contender), result)
    return Results(runs[0].machine, list(found.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent.parent / "docs/pictures")
    parser.add_argument("--suffix", default=".svg", choices=(".svg", ".png"))
    options = parser.parse_args()
    try:
        results = merged(options.results)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options.into.mkdir(parents=True, exist_ok=True)
    for path in pictures.save_all(results, options.into, options.suffix):
        print(path)


if __name__ == "__main__":
    main()
