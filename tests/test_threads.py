"""Threads: how many, and that calls from forks, workers and many threads are right and never hang.

What may hang runs in a process of its own, with a time limit.
"""

from __future__ import annotations

import contextvars
import os
import textwrap
import threading
from pathlib import Path

import pytest
from subprocesses import run

import fastlse
from fastlse import _threads

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
has_openmp = pytest.mark.skipif(
    not (fastlse._backends._runtime and fastlse._backends._runtime.OPENMP),
    reason="the kernels were built without OpenMP, or not at all",
)
has_tasks = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="the system does not list a process's threads"
)

# A problem large enough for threads, and the same answer from one thread.
SETUP = """
import os
import numpy as np
import fastlse

x = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32)
target = np.arange(1000)
results = [
    lambda n=None: fastlse.logsumexp(x, axis=1, n_threads=n),
    lambda n=None: fastlse.logsumexp(x, axis=0, n_threads=n),
    lambda n=None: fastlse.logsumexp(x, n_threads=n),
    lambda n=None: fastlse.softmax(x, axis=1, n_threads=n),
    lambda n=None: fastlse.cross_entropy_and_grad(x, target, reduction="none", n_threads=n)[1],
    lambda n=None: fastlse.binary_cross_entropy_with_logits_and_grad(x, x, n_threads=n)[1],
]
expected = [result(1) for result in results]

def is_right(n=None):
    return all(np.array_equal(a(n), b) for a, b in zip(results, expected))
"""


@pytest.fixture(autouse=True)
def _restore_settings(monkeypatch):
    """Start without settings, and leave none behind."""
    monkeypatch.setattr(_threads, "_for_process", None)
    monkeypatch.delenv("FASTLSE_NUM_THREADS", raising=False)


class TestSettings:
    def test_set_num_threads(self):
        fastlse.set_num_threads(3)
        assert fastlse.get_num_threads() == 3
        fastlse.set_num_threads(1)
        assert fastlse.get_num_threads() == 1

    def test_threads_holds_inside_its_block(self):
        fastlse.set_num_threads(4)
        with fastlse.threads(2):
            assert fastlse.get_num_threads() == 2
            with fastlse.threads(5):
                assert fastlse.get_num_threads() == 5
            assert fastlse.get_num_threads() == 2
        assert fastlse.get_num_threads() == 4

    def test_threads_ends_with_an_exception(self):
        before = fastlse.get_num_threads()
        with pytest.raises(KeyError), fastlse.threads(before + 3):
            raise KeyError
        assert fastlse.get_num_threads() == before

    def test_threads_holds_for_its_own_thread(self):
        fastlse.set_num_threads(4)
        seen = []
        with fastlse.threads(2):
            context = contextvars.Context()  # of its own on any Python version
            other = threading.Thread(
                target=lambda: seen.append(context.run(fastlse.get_num_threads))
            )
            other.start()
            other.join()
        assert seen == [4]

    def test_environment(self, monkeypatch):
        monkeypatch.setenv("FASTLSE_NUM_THREADS", "3")
        assert fastlse.get_num_threads() == 3
        fastlse.set_num_threads(2)
        assert fastlse.get_num_threads() == 2
        code = "import fastlse; print(fastlse.get_num_threads())"
        assert run(code, FASTLSE_NUM_THREADS="5").stdout == "5\n"
        assert run(code, FASTLSE_NUM_THREADS="5", OMP_NUM_THREADS="1").stdout == "5\n"
        assert int(run(code, FASTLSE_NUM_THREADS="").stdout) >= 1

    @pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
    def test_bad_environment(self, monkeypatch, text):
        monkeypatch.setenv("FASTLSE_NUM_THREADS", text)
        message = f"FASTLSE_NUM_THREADS must be an integer of at least 1, got '{text}'"
        with pytest.raises(ValueError, match=message):
            fastlse.get_num_threads()

    @has_openmp
    def test_omp_num_threads(self):
        code = "import fastlse; print(fastlse.get_num_threads())"
        assert run(code, OMP_NUM_THREADS="1").stdout == "1\n"

    @has_openmp
    def test_threadpoolctl(self):
        threadpoolctl = pytest.importorskip("threadpoolctl")
        with threadpoolctl.threadpool_limits(1, user_api="openmp"):
            assert fastlse.get_num_threads() == 1

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
    def test_affinity(self):
        code = """
        import os, fastlse
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(fastlse.get_num_threads())
        """
        assert run(code).stdout == "1\n"

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"/sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
            ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
            ({"/sys/fs/cgroup/cpu.max": "1000 100000\n"}, 1),
            ({"/sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
            ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
            ({"/sys/fs/cgroup/cpu.max": ""}, None),
            ({"/sys/fs/cgroup/cpu.max": "nonsense"}, None),
            ({}, None),
            (
                {
                    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                },
                3,
            ),
            (
                {
                    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                },
                None,
            ),
        ],
    )
    def test_cgroup_quota(self, monkeypatch, files, expected):
        class FakePath:
            def __init__(self, name):
                self.name = name

            def read_text(self):
                if self.name not in files:
                    raise FileNotFoundError(self.name)
                return files[self.name]

        monkeypatch.setattr(_threads, "Path", FakePath)
        quota = _threads._read_quota()
        if expected is None:
            assert quota >= _threads.MOST_THREADS
        else:
            assert quota == expected

    def test_quota_bounds_the_default_but_not_what_is_asked_for(self, monkeypatch):
        monkeypatch.setattr(_threads, "_quota", lambda: 1)
        assert fastlse.get_num_threads() == 1
        fastlse.set_num_threads(3)
        assert fastlse.get_num_threads() == 3

    @has_openmp
    def test_what_a_call_uses(self, monkeypatch):
        many = 10**9
        assert _threads.resolve(3, many) == 3
        assert _threads.resolve(3, 100) == 1
        assert _threads.resolve(10**6, many) == _threads.MOST_THREADS
        monkeypatch.setattr(_threads, "_default", lambda: 5)
        assert _threads.resolve(None, many) == 5
        with fastlse.threads(2):
            assert _threads.resolve(None, many) == 2
            assert _threads.resolve(4, many) == 4


@has_openmp
@has_tasks
class TestThreadsThatRun:
    """The system's own list of the process's threads."""

    def count_after(self, call, **environment):
        code = f"""
        before = len(os.listdir("/proc/self/task"))
        {call}
        print(len(os.listdir("/proc/self/task")) - before)
        """
        return int(run(SETUP + textwrap.dedent(code), **environment).stdout)

    def test_one(self):
        assert self.count_after("is_right(1)") == 0
        assert self.count_after("is_right()", FASTLSE_NUM_THREADS="1") == 0
        assert self.count_after("is_right()", OMP_NUM_THREADS="1") == 0

    def test_several(self):
        assert self.count_after("assert is_right(3)") == 2
        assert self.count_after("assert is_right()", FASTLSE_NUM_THREADS="4") == 3
        assert self.count_after("fastlse.set_num_threads(2); assert is_right()") == 1

    def test_small_problems_stay_with_one(self):
        call = "fastlse.logsumexp(x[:10], axis=1, n_threads=4)"
        assert self.count_after(call) == 0


@has_fork
class TestFork:
    def test_threaded_call_in_a_child_after_one_in_the_parent(self):
        code = """
        assert is_right(2)
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0 if is_right(2) and is_right() else 1)
            _, status = os.waitpid(child, 0)
            assert status == 0
            assert is_right(2)
        """
        run(SETUP + textwrap.dedent(code))

    def test_child_of_a_child(self):
        code = """
        assert is_right(2)
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if is_right(2) else 1)
            _, status = os.waitpid(grandchild, 0)
            os._exit(0 if status == 0 and is_right(2) else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        """
        run(SETUP + textwrap.dedent(code))

    def test_multiprocessing(self):
        code = """
        import multiprocessing
        assert is_right(2)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert all(pool.map(is_right, [2, 2, 2, 2]))
        assert is_right(2)
        """
        run(SETUP + textwrap.dedent(code))

    def test_backend_of_joblib_that_forks(self):
        pytest.importorskip("joblib")
        code = """
        import joblib
        assert is_right(2)
        jobs = (joblib.delayed(is_right)(2) for _ in range(4))
        assert all(joblib.Parallel(n_jobs=2, backend="multiprocessing")(jobs))
        assert is_right(2)
        """
        run(SETUP + textwrap.dedent(code))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend):
    pytest.importorskip("joblib")
    code = f"""
    import joblib

    def work(seed):
        # A worker of its own: nothing of the parent's arrays.
        import numpy as np
        import fastlse
        x = np.random.default_rng(seed).standard_normal((1000, 500))
        several = fastlse.logsumexp(x, axis=1), fastlse.logsumexp(x, axis=1, n_threads=2)
        one = fastlse.logsumexp(x, axis=1, n_threads=1)
        return all(np.array_equal(lse, one) for lse in several)

    assert is_right(2)
    jobs = (joblib.delayed(work)(seed) for seed in range(6))
    assert all(joblib.Parallel(n_jobs=2, backend="{backend}")(jobs))
    assert is_right(2)
    """
    run(SETUP + textwrap.dedent(code))


def test_many_python_threads():
    """Eight at once, each call with threads of its own, and the backends' fast lane in between."""
    code = """
    from concurrent.futures import ThreadPoolExecutor

    small = np.ones((1, 10))
    def work(i):
        for _ in range(3):
            assert fastlse.logsumexp(small) == fastlse.logsumexp(small, n_threads=1)
            assert is_right(1 + i % 3)
        with fastlse.threads(1 + i % 3):
            assert fastlse.get_num_threads() == 1 + i % 3
            return is_right()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    """
    run(SETUP + textwrap.dedent(code))


@pytest.mark.parametrize("name", fastlse.available_backends())
def test_gil_is_released(name):
    """Another Python thread goes on during a call.

    With a switch interval of minutes nothing but letting go of the GIL lets the other thread run.
    Whether it then wakes up in time is for the system to say: hence a number of calls. Rows are
    few, so that NumPy, which lets go of the GIL to fill 500 elements, does not do it instead.
    """
    code = """
    import sys, threading, time

    x, target = x.reshape(100, 10_000), np.arange(100)
    calls = [
        lambda n: fastlse.logsumexp(x, axis=1, n_threads=n),
        lambda n: fastlse.softmax(x, axis=1, n_threads=n, out=out),
        lambda n: fastlse.log_softmax(x, axis=1, n_threads=n, out=out),
        lambda n: fastlse.cross_entropy(x, target, n_threads=n),
        lambda n: fastlse.cross_entropy_and_grad(x, target, n_threads=n, out=out),
        lambda n: fastlse.binary_cross_entropy_with_logits(x, x, n_threads=n),
        lambda n: fastlse.expit(x, out=out),
    ]
    out = np.empty_like(x)
    count = 0

    def count_up():
        global count
        while True:
            count += 1
            time.sleep(0)  # gives the GIL back

    sys.setswitchinterval(300)
    threading.Thread(target=count_up, daemon=True).start()
    for call in calls:
        for n_threads in (1, 2):
            before = count
            for _ in range(1000):
                call(n_threads)
                if count > before:
                    break
            assert count > before
    """
    run(SETUP + textwrap.dedent(code), FASTLSE_BACKEND=name)


def test_waiting_threads_do_not_spin():
    """The environment that makes libgomp's threads sleep is as it was after the import."""
    code = """
    import os
    before = dict(os.environ)
    import fastlse
    assert dict(os.environ) == before
    """
    run(code)
    run(code, GOMP_SPINCOUNT="7")
