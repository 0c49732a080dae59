"""The suites' machinery: each test is an entrant of the case table; a race is timed as a whole.

pytest-benchmark times one test after the other, while contenders must take turns. So the first test
of a race runs all of it, and every test replays its own rounds through a clock that shows what
was measured: tables, groups, JSON and comparisons are pytest-benchmark's.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import limits

from fastlse._bench import machine
from fastlse._bench.cases import SUITES
from fastlse._bench.contenders import limit_threads
from fastlse._bench.races import Skipped, run_race
from fastlse._bench.results import extra_info
from fastlse._bench.timing import Pace, warm_up_seconds

ONE_ROUND = Pace(seconds=0, least_rounds=1, turn_seconds=0)
BUSY = 0.5  # processors more than threads, above which a contender did not keep to them


class ReplayClock:
    """A timer that shows what was measured, not what passes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


CLOCK = ReplayClock()


def pytest_addoption(parser):
    group = parser.getgroup("fastlse")
    group.addoption("--threads", type=int, default=1, help="threads of the cases (1 or 2)")
    group.addoption(
        "--seconds", type=float, default=2.0, help="time for a race, all contenders together"
    )


def pytest_configure(config):
    limit_threads(config.option.threads)


def pytest_report_header(config):
    return machine.title(machine.describe(config.option.threads))


def pytest_generate_tests(metafunc):
    suite = metafunc.function.__name__.removeprefix("test_")
    metafunc.parametrize(("race", "entrant"), parameters(suite, metafunc.config.option.threads))


def parameters(suite, n_threads):
    return [
        pytest.param(
            race,
            entrant,
            id=f"{entrant.case.label()}-{entrant.contender}".replace(" ", "_"),
            marks=pytest.mark.benchmark(timer=CLOCK, group=f"{suite}: {race.name}"),
        )
        for race in SUITES[suite].races(n_threads)
        for entrant in race.entrants
    ]


def pace_of(option):
    return Pace(option.seconds, warm_up_seconds=warm_up_seconds(option.threads))


@pytest.fixture(scope="session")
def outcomes():
    """What the races that were run have given, by entrant."""
    return {}


@pytest.fixture
def compete(request, benchmark, race, entrant, outcomes):
    """Time the race if it was not yet, and report the entrant's rounds."""

    def run():
        if entrant not in outcomes:
            pace = pace_of(request.config.option) if benchmark.enabled else ONE_ROUND
            outcomes.update(
                run_race(selected(request, race), pace, limits.ALL_CONTENDERS, limits.scale)
            )
        report(benchmark, entrant, outcomes[entrant])

    return run


def selected(request, race):
    """The entrants of a race that -k and the like have left, in the table's order."""
    chosen = {
        item.callspec.params["entrant"]
        for item in request.session.items
        if item.callspec.params["race"] == race
    }
    return [entrant for entrant in race.entrants if entrant in chosen]


def report(benchmark, entrant, outcome):
    if isinstance(outcome, Skipped):
        pytest.skip(outcome.reason)
    if outcome.processors > entrant.case.threads + BUSY:
        message = f"{entrant.contender} kept {outcome.processors} processors busy"
        warnings.warn(f"{message} on {entrant.case.threads} threads", stacklevel=2)
    rounds = iter(outcome.seconds)
    benchmark.extra_info.update(extra_info(outcome))
    benchmark.pedantic(lambda: CLOCK.advance(next(rounds)), rounds=len(outcome.seconds))


def pytest_benchmark_generate_machine_info(config):
    return machine.describe(config.option.threads)


def pytest_benchmark_generate_commit_info(config):
    return machine.commit(Path(__file__).parent)


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_compare_machine_info(config, machine_info, compared_benchmark):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest-benchmark warns of another library's version, too
        yield
    message = machine.warning(machine_info, compared_benchmark["machine_info"])
    if message:
        config.get_terminal_writer().line(f"WARNING: {message}", red=True, bold=True)


def pytest_benchmark_update_json(output_json):
    for benchmark in output_json["benchmarks"]:
        del benchmark["params"], benchmark["options"]  # said by extra_info, or of the replay
