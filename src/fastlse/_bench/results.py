"""What a race leaves behind, and its JSON: the part of pytest-benchmark's format that counts."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlse._bench.cases import Case, Entrant

if TYPE_CHECKING:
    from fastlse._bench.timing import Timing


@dataclass(frozen=True)
class Result:
    """The times of a contender at a case."""

    case: Case
    contender: str
    seconds: tuple[float, ...]  # of one call, round by round; only the best was saved, perhaps
    processors: float  # kept busy, on average
    suite: str = ""

    @property
    def best(self) -> float:
        """The shortest time of a call, the one that the least has disturbed."""
        return min(self.seconds)

    @property
    def ns_per_element(self) -> float:
        """The best time, per element of the array."""
        return 1e9 * self.best / self.case.n_elements


@dataclass(frozen=True)
class Results:
    """The results of a run, and where they come from."""

    machine: dict[str, Any]
    results: list[Result]


def result_of(entrant: Entrant, timing: Timing, scale: float = 1.0) -> Result:
    """The result of an entrant's turns; `scale` turns the time of its call into the case's."""
    seconds = tuple(scale * seconds for seconds in timing.seconds)
    processors = round(timing.processors, 2)
    return Result(entrant.case, entrant.contender, seconds, processors, entrant.suite)


def extra_info(result: Result) -> dict[str, Any]:
    """What a benchmark in a results file says besides its times."""
    return {
        "suite": result.suite,
        "case": asdict(result.case),
        "contender": result.contender,
        "ns_per_element": rounded(result.ns_per_element),
        "processors": result.processors,
    }


def write(
    path: Path, machine: dict[str, Any], commit: dict[str, Any], results: list[Result]
) -> None:
    """Save results in pytest-benchmark's format, a line each."""
    head = {
        "machine_info": machine,
        "commit_info": commit,
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    lines = ",\n".join(json.dumps(_benchmark(result)) for result in results)
    text = json.dumps(head, indent=1).removesuffix("\n}")
    path.write_text(f'{text},\n "benchmarks": [\n{lines}\n]\n}}\n', "utf-8")


def _benchmark(result: Result) -> dict[str, Any]:
    group = result.case.label()
    return {
        "group": group,
        "name": f"{group} {result.contender}",
        "extra_info": extra_info(result),
        "stats": {
            "min": rounded(result.best),
            "median": rounded(statistics.median(result.seconds)),
            "rounds": len(result.seconds),
        },
    }


def rounded(number: float) -> float:
    """A number with five digits, more than any timing has."""
    return float(f"{number:.5g}")


def read(path: Path) -> Results:
    """Read results that `write` or pytest-benchmark saved.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        results = [_result(benchmark) for benchmark in content["benchmarks"]]
        return Results(content["machine_info"], results)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no results of these benchmarks: {error!r}") from None


def _result(benchmark: dict[str, Any]) -> Result:
    info = benchmark["extra_info"]
    case = Case(**{**info["case"], "shape": tuple(info["case"]["shape"])})
    seconds = (benchmark["stats"]["min"],)
    return Result(case, info["contender"], seconds, info["processors"], info["suite"])
