"""What two threads gain, and what bounds it: the runs of `targets.py --threads 2`.

Nothing here is fastlse's but the calls: beside fastlse on one thread and on two there race, on one
thread and on two, what needs no sharing out and no waiting for one another.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import limits
import numpy as np

from fastlse._bench.cases import ARITHMETIC_LIMITS, DTYPES, OPERATIONS, OURS, Case, Entrant
from fastlse._bench.inputs import make_inputs
from fastlse._bench.results import Result

AGAIN = f"{OURS}, once more"
AT_ONCE = f"{OURS}, two calls on one thread each"
LOOPS = "intrinsics in cache, each thread in its own"
COPIES = "np.copyto by halves"
IDLE_SECONDS = 0.02
CACHED = (16, 1000)  # in and out within the L2 of a core

_other_thread = ThreadPoolExecutor(1)


def together(first, second, n_threads):
    """A call that makes two: at once, or on one thread one after the other."""

    def at_once():
        waiting = _other_thread.submit(first)
        second()
        waiting.result()

    def in_turn():
        first()
        second()

    return at_once if n_threads == 2 else in_turn


def halves(inputs):
    """A case's arrays as two cases', each of half the rows."""
    middle = len(inputs.x) // 2
    for rows in (slice(0, middle), slice(middle, None)):
        yield replace(
            inputs,
            x=inputs.x[rows],
            target=inputs.target[rows],
            out=inputs.out[rows],
            row_out=inputs.row_out[rows],
            threads=1,
        )


def two_calls(case, inputs):
    """fastlse as its user would share the work out: each half of the rows in a call of its own."""
    ours = limits.ALL_CONTENDERS[OURS]
    calls = [ours(case, half)[case.operation] for half in halves(inputs)]
    return {case.operation: together(*calls, case.threads)}


def loops(case, inputs):
    """A loop of limits.c, over a small array again and again until it did as much as a half."""
    small = replace(case, shape=CACHED)
    name = ARITHMETIC_LIMITS[case.operation][0]
    loop = limits.limit(name, n_elements=case.n_elements // 2)
    calls = [loop(small, make_inputs(small))[case.operation] for _ in range(2)]
    return {case.operation: together(*calls, case.threads)}


def copies(case, inputs):
    """np.copyto of the case's array."""
    calls = [copy_of(half) for half in halves(inputs)]
    return {case.operation: together(*calls, case.threads)}


def copy_of(inputs):
    return lambda: np.copyto(inputs.out, inputs.x)


CONTENDERS = limits.ALL_CONTENDERS | {
    AGAIN: limits.ALL_CONTENDERS[OURS],
    AT_ONCE: two_calls,
    LOOPS: loops,
    COPIES: copies,
}


def bounds_of(entrants) -> list[Entrant]:
    """What races beside fastlse on the same numbers of threads."""
    return [
        replace(entrant, contender=name)
        for entrant, name in itertools.product(entrants, (AT_ONCE, LOOPS, COPIES))
    ]


def one_thread_again(entrants) -> list[Entrant]:
    return [replace(e, contender=AGAIN) for e in entrants if e.case.threads == 1]


@contextmanager
def busy_process():
    """A process that takes a processor for itself."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_idle(rounds=30) -> Iterator[Result]:
    """The first call after a pause, and those right after it, at their medians."""
    for contender, case in idle_cases():
        call = CONTENDERS[contender](case, make_inputs(case))[case.operation]
        pairs = [idle_pair(call) for _ in range(rounds)]
        first, steady = np.median(pairs, axis=0).tolist()
        yield Result(case, contender, (first, steady), 0.0, "idle")


def idle_cases():
    """fastlse on two threads; what bounds it: the same on one thread, and copies on two."""
    for operation, dtype, threads in itertools.product(OPERATIONS, DTYPES, (1, 2)):
        yield OURS, Case(operation, dtype, (1000, 1000), threads=threads)
    for dtype in DTYPES:
        yield COPIES, Case("softmax", dtype, (1000, 1000), threads=2)


def idle_pair(call):
    """The time of a call after a pause, and the mean of those of the ten after it."""
    time.sleep(IDLE_SECONDS)
    start = time.perf_counter()
    call()
    between = time.perf_counter()
    for _ in range(10):
        call()
    return between - start, (time.perf_counter() - between) / 10
