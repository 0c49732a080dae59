"""Fill in the table of what fastlse must reach: target, the worst that was measured, holds or not.

    python bench/targets.py [--threads 2] [--only limits rows ...] [--seconds 2] [--details]

On one thread it runs the suites limits, layouts, rows, overhead, options and peers; on two, peers
and threads; or those that --only names. The table is Markdown. bench/losses.py has the targets of
the losses that are no operation of these suites.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import limits
from two_threads import (
    AGAIN,
    AT_ONCE,
    CONTENDERS,
    COPIES,
    LOOPS,
    bounds_of,
    busy_process,
    one_thread_again,
    run_idle,
)

import fastlse
from fastlse._bench import machine, results
from fastlse._bench.cases import (
    BIG_SHAPES,
    CACHED_SHAPES,
    DTYPES,
    OPERATIONS,
    OPTIONS,
    OURS,
    PEERS,
    SHORT_LENGTHS,
    SUITES,
    YARDSTICK,
)
from fastlse._bench.contenders import limit_threads
from fastlse._bench.progress import Progress
from fastlse._bench.races import run_race
from fastlse._bench.results import Result
from fastlse._bench.timing import Pace, warm_up_seconds

STORING = OPERATIONS[1:]
LONG_ROWS, LONGEST_ROWS = BIG_SHAPES
SUITES_BY_THREADS = {
    1: ("limits", "layouts", "rows", "overhead", "options", "peers"),
    2: ("peers", "threads"),
}
COSTLY_OPTIONS = ("probabilities", "softcap")
LOSS_OPTIONS = tuple(
    name for name in OPTIONS["cross_entropy_and_grad"] if name not in ("", "out", *COSTLY_OPTIONS)
)


@dataclass(frozen=True)
class Ratio:
    """A measured ratio and what it is of."""

    value: float
    where: str


@dataclass(frozen=True)
class Target:
    """A row of the table: a bound for the worst of some ratios."""

    what: str
    bound: float
    is_most: bool  # whether the ratio may be at most the bound; otherwise at least
    ratios: Callable[[Found], Iterable[Ratio]]

    def row(self, found):
        measured = list(self.ratios(found))
        sign = "<=" if self.is_most else ">="
        head = f"| {self.what} | {sign} {self.bound:g} |"
        if not measured:
            return f"{head} not measured | | |"
        worst = (max if self.is_most else min)(measured, key=lambda ratio: ratio.value)
        holds = worst.value <= self.bound if self.is_most else worst.value >= self.bound
        return f"{head} {worst.value:.2f} | {worst.where} | {'yes' if holds else 'NO'} |"

    def details(self, found):
        """Every ratio, the worst first."""
        ratios = sorted(self.ratios(found), key=lambda ratio: ratio.value, reverse=self.is_most)
        lines = [f"  {ratio.value:8.2f}  {ratio.where}" for ratio in ratios]
        return "\n".join([f"\n{self.what}:", *lines])


class Found:
    """The results by suite, case and contender."""

    def __init__(self, found: Iterable[Result]):
        self.results = list(found)
        self.times = {(r.suite, r.case, r.contender): r.best for r in self.results}

    def ours(self, suite, **fields):
        """fastlse's results in a suite at cases with the given fields."""
        for result in self.results:
            matches = (getattr(result.case, name) in values for name, values in fields.items())
            if (result.suite, result.contender) == (suite, OURS) and all(matches):
                yield result

    def fastest(self, result, contenders):
        """The shortest time of some contenders at a result's case, and whose it is."""
        key = result.suite, result.case
        times = {
            name: self.times[(*key, name)] for name in contenders if (*key, name) in self.times
        }
        name = min(times, key=times.get, default=None)
        return times.get(name), name

    def over(self, result, *contenders):
        """fastlse's time over the fastest of some contenders'."""
        seconds, name = self.fastest(result, contenders)
        if seconds is not None:
            yield Ratio(result.best / seconds, f"{result.case.label()}, {name}")

    def over_case(self, result, case):
        """fastlse's time of an element over that at another case."""
        seconds = self.times.get((result.suite, case, OURS))
        if seconds is not None:
            nanoseconds = 1e9 * seconds / case.n_elements
            yield Ratio(result.ns_per_element / nanoseconds, result.case.label())


def in_cache(operations, limit, suite="limits"):
    def ratios(found):
        for result in found.ours(suite, operation=operations, shape=CACHED_SHAPES):
            yield from found.over(result, limit)

    return ratios


def in_cache_without_the_call(found):
    """As promised, the time of a call on 1x10 taken off: the loops are not called from Python."""
    for result in found.ours("limits", operation=STORING, shape=CACHED_SHAPES):
        case = result.case
        call = found.times.get(("overhead", replace(case, shape=(1, 10), option=""), OURS))
        seconds = found.times.get((result.suite, case, SUITES["limits"].limits(case)[-1]))
        if call is not None and seconds is not None:
            yield Ratio((result.best - call) / seconds, case.label())


def arithmetic_of(found, case):
    """The time of the hand-written loop in cache, for a case's number of elements."""
    limit = "limit max and sum" if case.operation == "logsumexp" else "limit store and rescale"
    nanoseconds = min(
        (
            r.ns_per_element
            for r in found.results
            if (r.suite, r.contender, r.case.dtype) == ("limits", limit, case.dtype)
        ),
        default=None,
    )
    return None if nanoseconds is None else nanoseconds * 1e-9 * case.n_elements


def logsumexp_out_of_cache(found):
    for result in found.ours("limits", operation=["logsumexp"], shape=BIG_SHAPES):
        case = result.case
        reading = found.times.get(("limits", case, "limit read once"))
        arithmetic = arithmetic_of(found, case)
        if reading is not None and arithmetic is not None:
            which = "reading" if reading > arithmetic else "arithmetic"
            seconds = max(reading, arithmetic)
            yield Ratio(result.best / seconds, f"{case.label()}, {which}")


def out_of_cache(shape, *limit_names):
    def ratios(found):
        for result in found.ours("limits", operation=STORING, shape=[shape]):
            yield from found.over(result, *limit_names)

    return ratios


def speed_up(dtypes, is_big):
    def ratios(found):
        for result in found.ours("peers", dtype=dtypes):
            seconds, name = found.fastest(result, PEERS)
            if (result.case.shape in BIG_SHAPES) == is_big and seconds is not None:
                yield Ratio(seconds / result.best, f"{result.case.label()}, {name}")

    return ratios


def speed_up_of_intrinsics(dtypes, is_big, which):
    """What speed_up would be of the loops of limits.c, without promises (0) or with them (1)."""

    def ratios(found):
        for result in found.ours("peers", dtype=dtypes):
            seconds, name = found.fastest(result, PEERS)
            limit = SUITES["peers"].limits(result.case)[which]
            of_limit = found.times.get((result.suite, result.case, limit))
            measured = seconds is not None and of_limit is not None
            if (result.case.shape in BIG_SHAPES) == is_big and measured:
                yield Ratio(seconds / of_limit, f"{result.case.label()}, {name}")

    return ratios


def short_rows(fewest, most):
    def ratios(found):
        for result in found.ours("rows"):
            if fewest <= result.case.shape[1] <= most:
                yield from found.over_case(result, replace(result.case, shape=(1000, 1000)))

    return ratios


def layouts(*names):
    def ratios(found):
        for result in found.ours("layouts", layout=names):
            yield from found.over_case(result, replace(result.case, layout="C"))

    return ratios


def over_intrinsics(suite, **fields):
    """fastlse over the loop of limits.c that keeps the same promises at the same case."""

    def ratios(found):
        for result in found.ours(suite, **fields):
            yield from found.over(result, SUITES[suite].limits(result.case)[-1])

    return ratios


def intrinsics_over_case(suite, usual, **fields):
    """The loop that keeps the promises over fastlse at the usual case: what could be reached."""

    def ratios(found):
        for result in found.ours(suite, **fields):
            seconds, _ = found.fastest(result, SUITES[suite].limits(result.case)[-1:])
            if seconds is not None:
                of_limit = replace(result, seconds=(seconds,))
                yield from found.over_case(of_limit, replace(result.case, **usual))

    return ratios


def cost_of_options(*names):
    def ratios(found):
        for result in found.ours("options", operation=["cross_entropy_and_grad"], option=names):
            yield from found.over_case(result, replace(result.case, option="out"))

    return ratios


def short_shapes(fewest, most):
    return [(100000, n) for n in SHORT_LENGTHS if fewest <= n <= most]


def short_intrinsics(fewest, most):
    shapes = short_shapes(fewest, most)
    return intrinsics_over_case("rows", {"shape": (1000, 1000)}, shape=shapes)


def short_over_intrinsics(fewest, most):
    return over_intrinsics("rows", shape=short_shapes(fewest, most))


def small_call(operation):
    def ratios(found):
        for result in found.ours("overhead", operation=[operation], shape=[(1, 10)]):
            yield from found.over(result, YARDSTICK)

    return ratios


def two_threads(contender, alone=None):
    """How many times faster two threads are than one, or than another contender on one."""

    def ratios(found):
        for result in found.results:
            if (result.suite, result.contender, result.case.threads) == ("threads", contender, 2):
                one = replace(result.case, threads=1)
                seconds = found.times.get(("threads", one, alone or contender))
                if seconds is not None:
                    yield Ratio(seconds / result.best, f"{result.case.label()}, {contender}")

    return ratios


def over_two_calls(found):
    """fastlse on two threads over two calls at once: what sharing out costs."""
    for result in found.ours("threads", threads=[2]):
        yield from found.over(result, AT_ONCE)


def two_threads_disturbed(found):
    """Two threads over one, each at its median: the best round is one that nothing disturbed."""
    for two, one in _pairs(found, "threads, busy"):
        ratio = statistics.median(two.seconds) / statistics.median(one.seconds)
        yield Ratio(ratio, two.case.label())


def one_thread_disturbed(found):
    """One thread over itself, the slower one over the other: what medians tell apart."""
    alone = {r.case: r for r in found.ours("threads, busy", threads=[1])}
    for result in found.results:
        if (result.suite, result.contender) == ("threads, busy", AGAIN):
            medians = [statistics.median(r.seconds) for r in (result, alone[result.case])]
            yield Ratio(max(medians) / min(medians), result.case.label())


def _pairs(found, suite):
    alone = {r.case: r for r in found.ours(suite, threads=[1])}
    for two in found.ours(suite, threads=[2]):
        yield two, alone[replace(two.case, threads=1)]


def after_idling(contender, threads):
    wanted = "idle", contender, threads

    def ratios(found):
        for result in found.results:
            if (result.suite, result.contender, result.case.threads) == wanted:
                first, steady = result.seconds
                yield Ratio(first / steady, result.case.label())

    return ratios


TARGETS = {
    1: [
        Target(
            "logsumexp in cache against the intrinsics limit",
            1.15,
            True,
            in_cache(["logsumexp"], "limit max and sum"),
        ),
        Target(
            "... against the intrinsics loop that keeps the same promises",
            1.15,
            True,
            over_intrinsics("limits", operation=["logsumexp"], shape=CACHED_SHAPES),
        ),
        Target(
            "softmax, log_softmax, cross_entropy_and_grad in cache against store and rescale",
            1.2,
            True,
            in_cache(STORING, "limit store and rescale"),
        ),
        Target(
            "... against the loops that do the same and keep the same promises",
            1.2,
            True,
            over_intrinsics("limits", operation=STORING, shape=CACHED_SHAPES),
        ),
        Target("... less a call on 1x10", 1.2, True, in_cache_without_the_call),
        Target(
            "logsumexp out of cache against reading once or the arithmetic",
            1.15,
            True,
            logsumexp_out_of_cache,
        ),
        Target(
            "the others out of cache, rows within L2, against the faster copy",
            1.3,
            True,
            out_of_cache(LONG_ROWS, "limit copy", "limit copy, streaming"),
        ),
        Target(
            "... against a streaming copy and the arithmetic side by side",
            1.2,
            True,
            out_of_cache(LONG_ROWS, "limit copy beside arithmetic"),
        ),
        Target(
            "... against the loops that do the same and keep the same promises",
            1.2,
            True,
            over_intrinsics("limits", operation=STORING, shape=[LONG_ROWS]),
        ),
        Target(
            "the same, rows of 4 MB and more, against reading twice and writing once",
            1.2,
            True,
            out_of_cache(
                LONGEST_ROWS,
                "limit read twice, write once",
                "limit read twice, write once, streaming",
            ),
        ),
        Target(
            "... against the loops that do the same and keep the same promises",
            1.2,
            True,
            over_intrinsics("limits", operation=STORING, shape=[LONGEST_ROWS]),
        ),
        Target("100000x2, x3, x5: an element against 1000x1000", 5, True, short_rows(2, 5)),
        Target("... by intrinsics that keep the same promises", 5, True, short_intrinsics(2, 5)),
        Target("... fastlse against those intrinsics", 1.2, True, short_over_intrinsics(2, 5)),
        Target(
            "100000x10, x33, x65, x100: an element against 1000x1000",
            2.5,
            True,
            short_rows(10, 100),
        ),
        Target(
            "... by intrinsics that keep the same promises", 2.5, True, short_intrinsics(10, 100)
        ),
        Target("... fastlse against those intrinsics", 1.2, True, short_over_intrinsics(10, 100)),
        Target(
            "axis 0 and Fortran order against C order", 1.25, True, layouts("axis 0", "Fortran")
        ),
        Target(
            "... by intrinsics that keep the same promises",
            1.25,
            True,
            intrinsics_over_case("layouts", {"layout": "C"}, layout=("axis 0", "Fortran")),
        ),
        Target(
            "... fastlse against those intrinsics",
            1.2,
            True,
            over_intrinsics("layouts", layout=("axis 0", "Fortran")),
        ),
        Target("every other element against C order", 2, True, layouts("strided")),
        Target(
            "... by intrinsics that keep the same promises",
            2,
            True,
            intrinsics_over_case("layouts", {"layout": "C"}, layout=("strided",)),
        ),
        Target(
            "... fastlse against those intrinsics",
            1.2,
            True,
            over_intrinsics("layouts", layout=("strided",)),
        ),
        Target("1x10: logsumexp against np.add.reduce", 1, True, small_call("logsumexp")),
        Target(
            "1x10: cross_entropy_and_grad against np.add.reduce",
            2,
            True,
            small_call("cross_entropy_and_grad"),
        ),
        Target(
            "each option of cross_entropy_and_grad against the call without",
            1.3,
            True,
            cost_of_options(*LOSS_OPTIONS),
        ),
        Target("... class probabilities", 1.6, True, cost_of_options("probabilities")),
        Target("... softcap", 2, True, cost_of_options("softcap")),
        Target(
            "avx2 backend, logsumexp in cache against its own intrinsics limit",
            1.15,
            True,
            in_cache(["logsumexp"], "limit max and sum", "limits, avx2"),
        ),
    ],
    2: [
        Target("two threads against one on 4 M elements", 1.8, False, two_threads(OURS)),
        Target(
            "... two calls at once, each of half the rows on one thread",
            1.8,
            False,
            two_threads(AT_ONCE, alone=OURS),
        ),
        Target("... fastlse's time over theirs", 1.05, True, over_two_calls),
        Target(
            "... by intrinsics in cache, each thread in its own", 1.8, False, two_threads(LOOPS)
        ),
        Target("... np.copyto of as many, by halves", 1.8, False, two_threads(COPIES)),
        Target(
            "with another busy process: two threads over one, medians",
            1.05,
            True,
            two_threads_disturbed,
        ),
        Target("... one thread over itself", 1.05, True, one_thread_disturbed),
        Target(
            "first call on 1 M elements after 20 ms of idling against the next",
            1.5,
            True,
            after_idling(OURS, 2),
        ),
        Target("... on one thread, which waits for nobody", 1.5, True, after_idling(OURS, 1)),
        Target("... np.copyto by two threads", 1.5, True, after_idling(COPIES, 2)),
    ],
}
PEER_TARGETS = [
    target
    for what, bound, dtypes, is_big in (
        ("fastest peer over fastlse, float32, up to 1000x1000", 3, ["float32"], False),
        ("fastest peer over fastlse, float64, up to 1000x1000", 2.5, ["float64"], False),
        ("fastest peer over fastlse, 256x32000 and 8x1000000", 1.4, DTYPES, True),
    )
    for target in (
        Target(what, bound, False, speed_up(dtypes, is_big)),
        Target(
            "... over intrinsics without promises",
            bound,
            False,
            speed_up_of_intrinsics(dtypes, is_big, 0),
        ),
        Target(
            "... over intrinsics that keep the same promises",
            bound,
            False,
            speed_up_of_intrinsics(dtypes, is_big, 1),
        ),
    )
]


def no_others(entrants):
    return []


def run_suite(name, n_threads, pace, contenders, suite=None, more=no_others):
    """The results of a suite's races, under its own or another suite's name; `more` joins them."""
    races = list(SUITES[name].races(n_threads))
    progress = Progress(len(races))
    for its_race in races:
        progress.start(f"{suite or name}: {its_race.name}")
        entrants = [*its_race.entrants, *more(its_race.entrants)]
        for outcome in run_race(entrants, pace, contenders, limits.scale).values():
            if isinstance(outcome, Result):
                yield replace(outcome, suite=suite or name)
        progress.finish()
    progress.clear()


def run_avx2(pace):
    """The limits once more, for the backend and the loops with AVX2."""
    loops = {name: limits.limit(name, "avx2") for name in limits.functions()}
    with fastlse.use_backend("avx2"):
        yield from run_suite("limits", 1, pace, limits.ALL_CONTENDERS | loops, "limits, avx2")


def run_busy(pace):
    """Beside another process two threads, one thread, and that one once more."""
    with busy_process():
        yield from run_suite("threads", 2, pace, CONTENDERS, "threads, busy", one_thread_again)


def measured(options):
    pace = Pace(options.seconds, warm_up_seconds=warm_up_seconds(options.threads))
    for name in options.only:
        more = bounds_of if name == "threads" else no_others
        yield from run_suite(name, options.threads, pace, CONTENDERS, more=more)
    if options.threads == 1 and "limits" in options.only and "avx2" in fastlse.available_backends():
        yield from run_avx2(pace)
    if options.threads == 2 and "threads" in options.only:
        yield from run_idle()
        yield from run_busy(pace)


def until_stopped(found):
    """What there is when somebody presses Ctrl-C, of a run that takes its time."""
    try:
        yield from found
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument(
        "--only", nargs="+", choices=SUITES, metavar="SUITE", help=", ".join(SUITES)
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="time for a race")
    parser.add_argument("--details", action="store_true", help="print every ratio, too")
    parser.add_argument("--json", type=Path, help="save the results, for bench/pictures.py")
    options = parser.parse_args()
    options.only = options.only or SUITES_BY_THREADS[options.threads]
    limit_threads(options.threads)
    described = machine.describe(options.threads)
    found = Found(until_stopped(measured(options)))
    if options.json:
        commit = machine.commit(Path(__file__).parent)
        results.write(options.json, described, commit, found.results)
    print(machine.title(described))
    if fastlse.backend() != "avx512":
        print("(the targets are for a machine with AVX-512; this one has none or does not use it)")
    print("\n| what | target | worst | where | holds |\n|---|---|---|---|---|")
    targets = [*TARGETS[options.threads], *PEER_TARGETS]
    for target in targets:
        print(target.row(found))
    if options.threads == 1:
        print("| the numerical contract | unchanged | by the tests and bench/accuracy.py | | |")
    if options.details:
        print(*(target.details(found) for target in targets), sep="\n")


if __name__ == "__main__":
    main()
