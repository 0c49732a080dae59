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

PATIENCE = 5
LONG_CALL = 0.05  # seconds, beyond which a turn has no untimed call: no cache would remember it
SHORT_CALL = (
    0.005  # and up to which it has some: there are caches that keep only what is used often
)
WARM_UP_CALLS = 4
SETTLING = 0.03  # seconds until others' threads have stopped spinning and L3 has the arrays again


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
    warm_up_seconds : float
        The calls that begin a turn and are not timed go on for so long, at least.
    """

    seconds: float = 2.0
    least_rounds: int = 5
    most_rounds: int = 300
    turn_seconds: float = 5e-4
    warm_up_seconds: float = 0.0


def warm_up_seconds(n_threads: int) -> float:
    """How long a turn warms up: on several threads until nobody else's spin any more."""
    return SETTLING if n_threads > 1 else 0.0


@dataclass
class Timing:
    """The turns of a contender."""

    seconds: list[float] = field(default_factory=list)  # of one call, for each turn
    processors: float = 0.0  # kept busy, on average: what a contender's threads come to


@dataclass
class _Runner:
    call: Call
    calls: int
    warm_up_calls: int
    warm_up_seconds: float
    timing: Timing = field(default_factory=Timing)
    wall: float = 0.0
    processor: float = 0.0

    def take_turn(self) -> None:
        if self.warm_up_calls:
            self.warm_up()
        processor = process_time()
        seconds = _time(self.call, self.calls)
        self.processor += process_time() - processor
        self.wall += seconds
        self.timing.seconds.append(seconds / self.calls)
        self.timing.processors = self.processor / self.wall if self.wall else 0.0

    def warm_up(self) -> None:
        end = perf_counter() + self.warm_up_seconds
        for _ in repeat(None, self.warm_up_calls):
            self.call()
        while perf_counter() < end:
            self.call()


def race(calls: Mapping[Key, Call], pace: Pace) -> dict[Key, Timing]:
    """Time every call in turn with the others.

    Before each of its turns a contender makes some calls that are not timed, more if `pace` asks
    for it: they bring its data and code back into the caches, which the others have used.
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
    return _Runner(call, calls, _warm_up_calls(seconds), pace.warm_up_seconds)


def _warm_up_calls(seconds: float) -> int:
    """How many calls of so many seconds begin a turn, at least."""
    if seconds < SHORT_CALL:
        return WARM_UP_CALLS
    return 1 if seconds < LONG_CALL else 0


def _time(call: Call, calls: int) -> float:
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    return perf_counter() - start
