"""The stopwatch: contenders take turns, round after round, so that a noisy spell hits all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter, process_time
from typing import TypeVar

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)

LONG_CALL = 0.05  # seconds, beyond which a turn has no untimed call: no cache would remember it
PATIENCE = 5


@dataclass(frozen=True)
class Pace:
    """How long a race lasts.

    Parameters
    ----------
    seconds : float
        For all rounds of all contenders together, if the least number of rounds allows.
    least_rounds, most_rounds : int
        Rounds at least and at most; but two do if a race lasts `PATIENCE` times too long.
    turn_seconds : float
        Short calls are repeated until a turn takes about so long.
    """

    seconds: float = 2.0
    least_rounds: int = 5
    most_rounds: int = 300
    turn_seconds: float = 5e-4


@dataclass
class Timing:
    """The turns of a contender."""

    seconds: list[float] = field(default_factory=list)  # of one call, for each turn
    processors: float = 0.0  # kept busy, on average: what a contender's threads come to


@dataclass
class _Runner:
    call: Call
    calls: int
    has_warm_up: bool
    timing: Timing = field(default_factory=Timing)
    wall: float = 0.0
    processor: float = 0.0

    def take_turn(self) -> None:
        if self.has_warm_up:
            self.call()
        processor = process_time()
        seconds = _time(self.call, self.calls)
        self.processor += process_time() - processor
        self.wall += seconds
        self.timing.seconds.append(seconds / self.calls)
        self.timing.processors = self.processor / self.wall if self.wall else 0.0


def race(calls: Mapping[Key, Call], pace: Pace) -> dict[Key, Timing]:
    """Time every call in turn with the others.

    Before each of its turns a contender makes one call that is not timed: it brings its data and
    code back into the caches, which the others have used in between.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        runners = {key: _prepared(call, pace) for key, call in calls.items()}
        start = perf_counter()
        for done in range(pace.most_rounds):
            if _is_over(done, perf_counter() - start, pace):
                break
            for runner in runners.values():
                runner.take_turn()
    finally:
        if was_enabled:
            gc.enable()
    return {key: runner.timing for key, runner in runners.items()}


def _is_over(rounds: int, seconds: float, pace: Pace) -> bool:
    if seconds > PATIENCE * pace.seconds:
        return rounds >= min(2, pace.least_rounds)
    return rounds >= pace.least_rounds and seconds > pace.seconds


def _prepared(call: Call, pace: Pace) -> _Runner:
    """Call once, so that whatever compiles has compiled, then see how long a call takes."""
    call()
    seconds = _time(call, 1)
    if seconds < LONG_CALL:
        seconds = min(seconds, _time(call, 1))
    calls = max(1, round(pace.turn_seconds / max(seconds, 1e-9)))
    return _Runner(call, calls, has_warm_up=seconds < LONG_CALL)


def _time(call: Call, calls: int) -> float:
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    return perf_counter() - start
