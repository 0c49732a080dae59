"""The benchmarks' machinery: what is timed, in which order, who is skipped, what is kept."""

from __future__ import annotations

import gc
import io
import json
from collections import Counter
from itertools import count, groupby

import numpy as np
import pytest
import subprocesses

import fastlse
from fastlse._bench import machine, races, report, results, timing
from fastlse._bench.cases import LAYOUTS, OPTIONS, OURS, PEERS, SUITES, Case, Entrant, command_suite
from fastlse._bench.contenders import CONTENDERS, SkippedError, library, prepare
from fastlse._bench.inputs import ALIGNMENT, bytes_needed, make_inputs
from fastlse._bench.progress import Progress
from fastlse._bench.results import Result
from fastlse._bench.timing import Pace, race

SHORT = Pace(seconds=0, least_rounds=2, turn_seconds=0)
CASE = Case("softmax", "float32", (20, 7))
OPERATIONS = list(OPTIONS)

each_operation = pytest.mark.parametrize("operation", OPERATIONS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def test_importing_the_package_leaves_the_benchmarks_alone():
    loaded = "print([name for name in sys.modules if '_bench' in name or 'matplotlib' in name])"
    process = subprocesses.run(f"import sys, fastlse\n{loaded}", flags=["-W", "ignore"])
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_table(name, threads):
    """An entrant is in one race of its suite; fastlse is in every race."""
    suite_races = list(SUITES[name].races(threads))
    entrants = [entrant for entry in suite_races for entrant in entry.entrants]
    assert suite_races or threads == 2
    assert Counter(entrants).total() == len(set(entrants))
    labels = [(entrant.case.label(), entrant.contender) for entrant in entrants]
    assert len(set(labels)) == len(labels)
    for entry in suite_races:
        assert OURS in {entrant.contender for entrant in entry.entrants}


@pytest.mark.parametrize("quick", [True, False])
def test_the_command_races_each_case_alone(quick):
    suite = command_suite(1, ["NumPy"], quick)
    for entry in suite.races(1):
        assert [entrant.contender for entrant in entry.entrants] == [OURS, "NumPy"]


def test_labels():
    assert CASE.label() == "softmax float32 20x7"
    other = Case("softmax", "float64", (2, 3), threads=2, layout="strided", option="where")
    assert other.label() == "softmax float64 2x3 2 threads strided where"
    assert other.label(["dtype", "threads", "layout"]) == "softmax 2x3 where"


def test_contenders_take_turns():
    """Round after round in the same order, each turn in one piece."""
    log = []
    timings = race({name: lambda name=name: log.append(name) for name in "abc"}, SHORT)
    turns = [name for name, _ in groupby(log)]
    prepared = 3
    assert turns[:prepared] == list("abc")
    assert turns[prepared:] == list("abc") * 2
    assert {len(its.seconds) for its in timings.values()} == {2}


@pytest.mark.parametrize(
    ("seconds", "preparing", "warming_up"),
    [(0.001, 3, timing.WARM_UP_CALLS), (0.01, 3, 1), (0.1, 2, 0)],
)
def test_a_turn_begins_with_calls_that_are_not_timed(monkeypatch, seconds, preparing, warming_up):
    """The longer they take, the fewer."""
    clock = count()
    monkeypatch.setattr(timing, "perf_counter", lambda: seconds * next(clock))
    log = []
    race({"a": lambda: log.append("a")}, Pace(seconds=0, least_rounds=1, turn_seconds=0))
    timed = 1
    assert len(log) == preparing + warming_up + timed


def test_on_several_threads_a_turn_warms_up_for_a_while(monkeypatch):
    tick = 2.0**-10  # seconds, of a clock that goes on whenever somebody looks at it
    clock = count()
    monkeypatch.setattr(timing, "perf_counter", lambda: tick * next(clock))
    log = []
    pace = Pace(0, least_rounds=1, turn_seconds=0, warm_up_seconds=20 * tick)
    race({"a": lambda: log.append("a")}, pace)
    preparing, warming_up, timed = 3, timing.WARM_UP_CALLS - 1 + 20, 1
    assert len(log) == preparing + warming_up + timed
    assert timing.warm_up_seconds(1) == 0 < timing.warm_up_seconds(2)


def test_rounds_end():
    assert len(race({"a": int}, Pace(seconds=60, most_rounds=7, turn_seconds=0))["a"].seconds) == 7


def test_the_garbage_collector_is_off_and_comes_back():
    states = []
    race({"a": lambda: states.append(gc.isenabled())}, SHORT)
    assert not any(states)
    assert gc.isenabled()


def run(names, contenders, case=CASE):
    """The outcomes of a race by contender."""
    entrants = [Entrant(case, name) for name in names]
    outcomes = races.run_race(entrants, SHORT, contenders)
    return {entrant.contender: outcome for entrant, outcome in outcomes.items()}


def test_who_cannot_run_is_skipped_with_the_reason():
    def failing(case, inputs):
        return {case.operation: lambda: 1 / 0}

    contenders = {
        **CONTENDERS,
        "missing": lambda case, inputs: library("a_library_that_nobody_has.part"),
        "without": lambda case, inputs: {},
        "failing": failing,
    }
    found = run([OURS, "missing", "without", "failing"], contenders)
    assert isinstance(found[OURS], Result)
    assert found["missing"].reason == "a_library_that_nobody_has is not installed"
    assert found["without"].reason == "without has no softmax"
    assert found["failing"].reason.startswith("failing failed: ZeroDivisionError")


def test_our_own_failure_is_an_error():
    with pytest.raises(ZeroDivisionError):
        run([OURS], {OURS: lambda case, inputs: {"softmax": lambda: 1 / 0}})


def test_what_does_not_fit_in_memory_is_skipped_with_its_size(monkeypatch):
    monkeypatch.setattr(races, "available_memory", lambda: float(1 << 20))
    case = Case("softmax", "float64", (2000, 1000))
    found = run([OURS, "NumPy"], CONTENDERS, case)
    for outcome in found.values():
        assert case.label() in outcome.reason
        assert "GiB" in outcome.reason


def test_memory():
    assert bytes_needed(CASE, is_lean=True) == 2 * 4 * CASE.n_elements
    assert bytes_needed(CASE, is_lean=False) > bytes_needed(CASE, is_lean=True)
    assert machine.available_memory() > 0


def test_a_scale_turns_a_call_into_a_case():
    entrant = Entrant(CASE, OURS)
    times = [races.run_race([entrant], SHORT, scale=lambda _, s=s: s)[entrant] for s in (0.0, 1.0)]
    assert times[0].best == 0
    assert times[1].best > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs(layout):
    """The same numbers in every layout, at the start of a cache line."""
    inputs = make_inputs(Case("softmax", "float32", (6, 5), layout=layout))
    plain = make_inputs(Case("softmax", "float32", (6, 5)))
    rows = inputs.x if inputs.axis == 1 else inputs.x.T
    np.testing.assert_array_equal(rows, plain.x)
    assert inputs.x.ctypes.data % ALIGNMENT == inputs.out.ctypes.data % ALIGNMENT == 0
    assert inputs.out.shape == inputs.x.shape
    assert inputs.x.flags.c_contiguous == (layout in ("C", "axis 0"))
    assert inputs.x.flags.f_contiguous == (layout == "Fortran")


def arrays(result):
    parts = result if isinstance(result, tuple | list) else (result,)
    return [np.asarray(part) for part in parts]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "torch.compile" else [])
        for name in PEERS
    ],
)
@each_operation
@each_dtype
def test_every_peer_computes_the_same(name, operation, dtype):
    case = Case(operation, dtype, (30, 17))
    exact = arrays(prepare(OURS, case, make_inputs(case), CONTENDERS)())
    inputs = make_inputs(case)
    try:
        found = arrays(prepare(name, case, inputs, CONTENDERS)())
    except SkippedError as error:
        pytest.skip(str(error))
    if name == "scikit-learn" and operation == "cross_entropy_and_grad":
        losses, gradients = found
        found = [losses.mean(), gradients / len(losses)]
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    assert len(found) == len(exact)
    for peers, ours in zip(found, exact, strict=True):
        assert peers.shape == ours.shape
        np.testing.assert_allclose(peers, ours, rtol=tolerance, atol=tolerance / 100)


@each_operation
def test_every_option_runs(operation):
    for option in OPTIONS[operation]:
        case = Case(operation, "float64", (8, 5), option=option)
        assert arrays(prepare(OURS, case, make_inputs(case), CONTENDERS)())


@each_operation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_usual_formulas_take_every_layout(operation, layout):
    case = Case(operation, "float64", (8, 5), layout=layout)
    inputs = make_inputs(case)
    exact = [part.copy() for part in arrays(prepare(OURS, case, inputs, CONTENDERS)())]
    for peers, ours in zip(
        arrays(prepare("NumPy", case, inputs, CONTENDERS)()), exact, strict=True
    ):
        np.testing.assert_allclose(peers, ours, rtol=1e-9, atol=1e-12)


def result(contender=OURS, case=CASE, seconds=(2e-6, 1e-6), suite="peers"):
    return Result(case, contender, seconds, 1.0, suite)


def test_a_result_is_its_best_round():
    assert result().best == 1e-6
    assert result().ns_per_element == pytest.approx(1e3 / 140)


def test_saved_results_come_back(tmp_path):
    path = tmp_path / "results.json"
    described = machine.describe(1)
    results.write(path, described, {"id": None}, [result(), result("NumPy")])
    read = results.read(path)
    assert read.machine == described
    assert [(r.case, r.contender, r.best, r.suite) for r in read.results] == [
        (CASE, OURS, 1e-6, "peers"),
        (CASE, "NumPy", 1e-6, "peers"),
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"benchmarks": [{}]}', "no JSON"])
def test_a_file_without_results_is_named(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json holds no results"):
        results.read(path)


def test_the_machine_is_described():
    described = machine.describe(2)
    assert described["backend"] == fastlse.backend()
    assert described["versions"]["numpy"] == np.__version__
    assert described["cpu"]
    assert json.loads(json.dumps(described)) == described
    assert "2 threads" in machine.title(described)


def test_another_machine_is_warned_of():
    here = machine.describe(1)
    assert machine.warning(here, here) == ""
    assert machine.warning(here, {**here, "versions": {}, "threads": 2}) == ""
    warning = machine.warning(here, {**here, "cpu": "Another CPU"})
    assert warning.startswith("these results are from another machine: cpu")
    assert "Another CPU" in warning


def test_no_commit_outside_version_control(tmp_path):
    (tmp_path / "module.py").touch()
    assert machine.commit(tmp_path) == {"id": None, "dirty": None}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_without_a_terminal_is_a_line_for_each_step():
    stream = io.StringIO()
    progress = Progress(2, stream)
    for step in ("one", "two"):
        progress.start(step)
        progress.finish()
    progress.clear()
    assert stream.getvalue().split() == ["1/2", "one", "2/2", "two"]


def test_progress_on_a_terminal_is_one_line():
    stream = Terminal()
    progress = Progress(2, stream)
    progress.start("one")
    progress.finish()
    progress.start("two")
    assert "\n" not in stream.getvalue()
    assert "1/2  two" in stream.getvalue()
    progress.clear()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_the_report():
    cases = [Case("softmax", dtype, (20, 7)) for dtype in ("float32", "float64")]
    outcomes = {Entrant(case, OURS): result(case=case) for case in cases}
    outcomes[Entrant(cases[0], "NumPy")] = result("NumPy", cases[0], (3e-6,))
    outcomes[Entrant(cases[1], "NumPy")] = races.Skipped("NumPy is tired")
    outcomes[Entrant(cases[0], "SciPy")] = races.Skipped("scipy is not installed")
    outcomes[Entrant(cases[1], "SciPy")] = races.Skipped("scipy is not installed")
    lines = report.operation_table("softmax", outcomes).splitlines()
    assert lines[2].split() == ["20x7"]
    assert lines[3].split() == ["float32", "float64"]
    assert lines[4].split() == [OURS, "7.14", "7.14"]
    assert lines[5].split() == ["NumPy", "21.4", "3.00x"]
    assert len(lines) == 6
    assert report.reasons(outcomes.values()) == ["NumPy is tired", "scipy is not installed"]
