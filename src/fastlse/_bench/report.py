"""Tables of results for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from fastlse._bench.cases import OURS, Case, Entrant
from fastlse._bench.races import Skipped
from fastlse._bench.results import Result

Outcomes = Mapping[Entrant, Result | Skipped]

_NAME_WIDTH = 14
_CELL_WIDTH = 14


def operation_table(operation: str, outcomes: Outcomes) -> str:
    """One operation's contenders, a column for each shape and dtype.

    A cell holds the nanoseconds per element and how many times fastlse's that is.
    """
    by_name = {(entrant.contender, entrant.case): o for entrant, o in outcomes.items()}
    cases = sorted({case for _, case in by_name}, key=_order)
    names = dict.fromkeys(entrant.contender for entrant in outcomes)
    shapes = groupby(case.label({"operation", "dtype", "threads"}) for case in cases)
    heads = [(shape, len(list(group))) for shape, group in shapes]
    lines = [
        f"{operation}, ns per element and as a multiple of fastlse's",
        "",
        " " * _NAME_WIDTH + "".join(f"{shape:^{_CELL_WIDTH * n}}" for shape, n in heads).rstrip(),
        " " * _NAME_WIDTH + "".join(f"{case.dtype:>{_CELL_WIDTH}}" for case in cases),
    ]
    for name in names:
        cells = [_cell(by_name[name, case], by_name[OURS, case]) for case in cases]
        if any(cells):
            row = "".join(f"{cell:>{_CELL_WIDTH}}" for cell in cells)
            lines.append(f"{name:<{_NAME_WIDTH}}{row}".rstrip())
    return "\n".join(lines)


def reasons(outcomes: Iterable[Result | Skipped]) -> list[str]:
    """Why contenders were skipped, each reason once."""
    found = (outcome.reason for outcome in outcomes if isinstance(outcome, Skipped))
    return list(dict.fromkeys(found))


def _order(case: Case) -> tuple[int, int, str]:
    return case.shape[1], case.shape[0], case.dtype


def _cell(outcome: Result | Skipped, ours: Result | Skipped) -> str:
    if not isinstance(outcome, Result):
        return ""
    nanoseconds = significant(outcome.ns_per_element)
    if outcome is ours or not isinstance(ours, Result):
        return f"{nanoseconds}{'':7}"
    return f"{nanoseconds} {multiple(outcome.best / ours.best):>6}"


def significant(number: float) -> str:
    """A number with three digits, as many as a timing has."""
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}"


def multiple(ratio: float) -> str:
    """A ratio as ``3.4x``."""
    return f"{significant(ratio)}x"
