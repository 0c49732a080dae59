"""The loops of bench/limits.c compile for each instruction set and compute what they should."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastlse._bench.cases import LIMITS, Case, Entrant
from fastlse._bench.contenders import SkippedError
from fastlse._bench.inputs import make_inputs

BENCH = Path(__file__).parent.parent / "bench"
COMPILER = shlex.split(os.environ.get("CC", "cc"))
if not (BENCH / "limits.py").is_file():
    pytest.skip("the tests are not beside the benchmarks", allow_module_level=True)
if os.name != "posix" or platform.machine() not in ("x86_64", "AMD64"):
    pytest.skip("the loops are for x86-64 and a Unix compiler", allow_module_level=True)
if shutil.which(COMPILER[0]) is None:
    pytest.skip("there is no C compiler", allow_module_level=True)
sys.path.insert(0, str(BENCH))
limits = import_module("limits")

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@each_dtype
@pytest.mark.parametrize("instructions", limits.FLAGS)
def test_compiles(tmp_path, instructions, dtype):
    target = tmp_path / "limits.so"
    bits = {"float32": 32, "float64": 64}[dtype]
    limits.compile_to(target, COMPILER, [f"-DBITS={bits}", *limits.FLAGS[instructions]])
    assert target.stat().st_size > 0


def computed(name, operation, dtype, shape):
    """What a loop leaves in the output, and the rows that it went over."""
    case = Case(operation, dtype, shape)
    inputs = make_inputs(case)
    try:
        limits.limit(name)(case, inputs)[operation]()
    except SkippedError as error:
        pytest.skip(str(error))
    n_rows, length = limits.neighbouring_shape(shape)
    rows = inputs.x.ravel()[: n_rows * length].reshape(n_rows, length)
    return inputs.out.ravel(), rows.astype(np.float64)


@each_dtype
def test_loops_that_store(dtype):
    shape = (9, 300)
    for name in LIMITS["softmax"]:
        out, rows = computed(name, "softmax", dtype, shape)
        exponentials = np.exp(rows - rows.max(axis=1, keepdims=True))
        expected = {
            "limit copy": rows,
            "limit copy, streaming": rows,
            "limit store and rescale": exponentials / exponentials.sum(axis=1, keepdims=True),
            "limit store and rescale, as promised": (
                exponentials / exponentials.sum(axis=1, keepdims=True)
            ),
        }.get(name, rows * rows.max(axis=1, keepdims=True))
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(out[: rows.size], expected.ravel(), rtol=tolerance)


@each_dtype
def test_loops_that_reduce(dtype):
    out, rows = computed("limit read once", "logsumexp", dtype, (9, 300))
    np.testing.assert_array_equal(out[: len(rows)], rows.max(axis=1))
    for name in ("limit max and sum", "limit max and sum, as promised"):
        out, rows = computed(name, "logsumexp", dtype, (9, 300))
        row_max = rows.max(axis=1)
        expected = row_max + np.exp(rows - row_max[:, np.newaxis]).sum(axis=1)
        np.testing.assert_allclose(out[: len(rows)], expected, rtol=1e-5)


def test_neighbouring_shapes():
    """Whole steps, never more elements than the array has, and almost as many."""
    assert limits.neighbouring_shape((1000, 1000)) == (976, 1024)
    assert limits.neighbouring_shape((4, 4096)) == (4, 4096)
    assert limits.neighbouring_shape((256, 32000)) == (256, 32000)
    assert limits.neighbouring_shape((1, 1000)) == (1, 896)
    for shape in ((1, 1000), (32, 1000), (8, 1000000)):
        n_rows, length = limits.neighbouring_shape(shape)
        assert length % limits.STEP == 0
        assert 0.85 * np.prod(shape) <= n_rows * length <= np.prod(shape)


def test_times_are_scaled_to_all_elements():
    """A call that goes twice over 896 of 1000 elements takes 2 * 896 / 1000 times as long."""
    case = Case("logsumexp", "float32", (1, 1000))
    assert limits.scale(Entrant(case, "fastlse")) == 1
    factor = 1000 / (896 * limits.repeats(case))
    assert limits.scale(Entrant(case, "limit max and sum")) == pytest.approx(factor)
    assert limits.repeats(case) > 100
    assert limits.repeats(Case("logsumexp", "float32", (1000, 1000))) == 1
