"""From the table to results: make the arrays of a race, line the contenders up, time them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fastlse._bench.cases import LIMIT_NAMES, OURS, YARDSTICK, Case, Entrant
from fastlse._bench.contenders import CONTENDERS, Contender, SkippedError, prepare
from fastlse._bench.inputs import Inputs, bytes_needed, make_inputs
from fastlse._bench.machine import available_memory
from fastlse._bench.results import Result, result_of
from fastlse._bench.timing import Call, Pace, race

_LEAN = {OURS, YARDSTICK, *LIMIT_NAMES}


@dataclass(frozen=True)
class Skipped:
    """A contender that did not run, and why."""

    reason: str


def run_race(
    entrants: Iterable[Entrant],
    pace: Pace,
    contenders: Mapping[str, Contender] = CONTENDERS,
    scale: Callable[[Entrant], float] = lambda _: 1.0,
) -> dict[Entrant, Result | Skipped]:
    """Time entrants in turn; those that cannot run are skipped with the reason.

    `scale` turns the time of an entrant's call into that of its case, where they differ.
    """
    outcome: dict[Entrant, Result | Skipped] = {}
    calls: dict[Entrant, Call] = {}
    arrays: dict[Case, Inputs] = {}
    for entrant in entrants:
        try:
            calls[entrant] = _ready(entrant, arrays, contenders)
        except SkippedError as error:
            outcome[entrant] = Skipped(str(error))
    for entrant, timing in race(calls, pace).items():
        outcome[entrant] = result_of(entrant, timing, scale(entrant))
    return outcome


def _ready(
    entrant: Entrant, arrays: dict[Case, Inputs], contenders: Mapping[str, Contender]
) -> Call:
    """The call of an entrant, made once so that what compiles has compiled."""
    case, contender = entrant.case, entrant.contender
    check_memory(case, contender, already=case in arrays)
    if case not in arrays:
        arrays[case] = make_inputs(case)
    call = prepare(contender, case, arrays[case], contenders)
    if contender == OURS:
        return call
    try:
        call()
    except Exception as error:
        # A library that fails, for want of a compiler or of a dtype, must not end a long run.
        message = (str(error).strip().splitlines() or [""])[0]
        raise SkippedError(f"{contender} failed: {type(error).__name__}: {message}") from error
    return call


def check_memory(case: Case, contender: str, already: bool = False) -> None:
    """Skip a case whose arrays, unless they are there already, do not fit into memory."""
    needed = bytes_needed(case, is_lean=contender in _LEAN)
    missing = needed - (bytes_needed(case, is_lean=True) if already else 0)
    available = available_memory()
    if missing > available:
        raise SkippedError(
            f"{case.label()} with {contender} needs {needed / 2**30:.1f} GiB, "
            f"{missing / 2**30:.1f} more than are in use; {available / 2**30:.1f} are available"
        )
