"""Running Python code in a process of its own, where a hang is a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

# What a user's shell may hold and a test must not depend on.
_SETTINGS = ("FASTLSE_BACKEND", "FASTLSE_NUM_THREADS", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")


def run(code, *, timeout=60, check=True, flags=(), **environment):
    """Run code in a new interpreter; return the finished process, or fail with what it said."""
    clean = {key: value for key, value in os.environ.items() if key not in _SETTINGS}
    process = subprocess.Popen(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        raise AssertionError(f"still running after {timeout} seconds") from None
    if check:
        assert process.returncode == 0, stdout + stderr
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def kill(process):
    """End a process, and the children that hang with it."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
