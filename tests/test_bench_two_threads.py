"""What races beside fastlse on two threads computes what it says, on as many threads as it says."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fastlse
from fastlse._bench.cases import OPERATIONS, OURS, Case, Entrant
from fastlse._bench.contenders import SkippedError
from fastlse._bench.inputs import make_inputs
from fastlse._bench.results import Result

BENCH = Path(__file__).parent.parent / "bench"
if not (BENCH / "two_threads.py").is_file():
    pytest.skip("the tests are not beside the benchmarks", allow_module_level=True)
sys.path.insert(0, str(BENCH))
two_threads = import_module("two_threads")
targets = import_module("targets")

on_one_and_two = pytest.mark.parametrize("n_threads", [1, 2])


def case_of(operation, n_threads):
    return Case(operation, "float32", (40, 1000), threads=n_threads)


@on_one_and_two
def test_two_calls_run_on_as_many_threads(n_threads):
    seen = []
    call = two_threads.together(
        lambda: seen.append(threading.get_ident()),
        lambda: seen.append(threading.get_ident()),
        n_threads,
    )
    call()
    assert len(seen) == 2
    assert len(set(seen)) == n_threads


def test_an_error_on_the_other_thread_is_raised():
    def fail():
        raise ValueError("on the other thread")

    with pytest.raises(ValueError, match="on the other thread"):
        two_threads.together(fail, lambda: None, 2)()


@on_one_and_two
@pytest.mark.parametrize("operation", OPERATIONS)
def test_two_calls_of_fastlse_compute_both_halves(operation, n_threads):
    case = case_of(operation, n_threads)
    inputs = make_inputs(case)
    two_threads.CONTENDERS[two_threads.AT_ONCE](case, inputs)[operation]()
    if operation == "cross_entropy_and_grad":
        halves = [slice(0, 20), slice(20, 40)]
        expected = np.concatenate(
            [fastlse.cross_entropy_and_grad(inputs.x[h], inputs.target[h])[1] for h in halves]
        )
    else:
        expected = getattr(fastlse, operation)(inputs.x, axis=1)
    out = inputs.row_out if operation == "logsumexp" else inputs.out
    np.testing.assert_array_equal(out, expected)


@on_one_and_two
def test_copies(n_threads):
    case = case_of("softmax", n_threads)
    inputs = make_inputs(case)
    two_threads.CONTENDERS[two_threads.COPIES](case, inputs)["softmax"]()
    np.testing.assert_array_equal(inputs.out, inputs.x)


@on_one_and_two
def test_loops_in_cache_run(n_threads):
    case = case_of("logsumexp", n_threads)
    try:
        call = two_threads.CONTENDERS[two_threads.LOOPS](case, make_inputs(case))["logsumexp"]
    except SkippedError as error:
        pytest.skip(str(error))
    assert call() is None


def test_each_bound_races_on_one_thread_and_on_two():
    entrants = [Entrant(case_of("softmax", n), OURS, "threads") for n in (1, 2)]
    bounds = two_threads.bounds_of(entrants)
    names = {two_threads.AT_ONCE, two_threads.LOOPS, two_threads.COPIES}
    assert {(e.contender, e.case.threads) for e in bounds} == {
        (n, t) for n in names for t in (1, 2)
    }


def found(times):
    """Results of (contender, threads): seconds."""
    return targets.Found(
        Result(case_of("softmax", n_threads), contender, (seconds,), 0.0, "threads")
        for (contender, n_threads), seconds in times.items()
    )


def test_ratios():
    at_once = two_threads.AT_ONCE
    times = found({(OURS, 1): 3.0, (OURS, 2): 2.0, (at_once, 1): 4.0, (at_once, 2): 1.6})
    assert [r.value for r in targets.two_threads(OURS)(times)] == [1.5]
    assert [r.value for r in targets.two_threads(at_once, alone=OURS)(times)] == [3.0 / 1.6]
    assert [r.value for r in targets.over_two_calls(times)] == [2.0 / 1.6]


def test_one_thread_once_more():
    entrants = [Entrant(case_of("softmax", n), OURS, "threads") for n in (1, 2)]
    [again] = two_threads.one_thread_again(entrants)
    assert again == replace(entrants[0], contender=two_threads.AGAIN)
