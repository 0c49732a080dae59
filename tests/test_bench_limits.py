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

from fastlse._bench.cases import COLUMN_LIMITS, LIMITS, STRIDED_LIMITS, Case, Entrant
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
    n_rows, length = limits.neighbouring_shape(case)
    rows = inputs.x.ravel()[: n_rows * length].reshape(n_rows, length)
    return inputs.out.ravel(), rows.astype(np.float64)


def exact(x, axis):
    """logsumexp and softmax of float64 numbers."""
    row_max = x.max(axis=axis, keepdims=True)
    exponentials = np.exp(x - row_max)
    total = exponentials.sum(axis=axis, keepdims=True)
    return (row_max + np.log(total)).squeeze(axis), exponentials / total


@each_dtype
@pytest.mark.parametrize("length", [2, 3, 5, 10, 33])
def test_short_rows(dtype, length):
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    for suffix in ("", ", as promised"):
        name = f"limit max and sum{suffix}"
        out, rows = computed(name, "logsumexp", dtype, (150, length))
        assert rows.shape == (128, length)
        np.testing.assert_allclose(out[:128], exact(rows, 1)[0], rtol=tolerance, atol=tolerance)
        name = f"limit store and rescale{suffix}"
        out, rows = computed(name, "softmax", dtype, (150, length))
        softmax = exact(rows, 1)[1]
        np.testing.assert_allclose(out[: rows.size], softmax.ravel(), rtol=tolerance)
        name = f"limit log of softmax{suffix}"
        out, rows = computed(name, "log_softmax", dtype, (150, length))
        np.testing.assert_allclose(out[: rows.size], np.log(softmax).ravel(), rtol=tolerance)
        name = f"limit loss and gradient{suffix}"
        case = Case("cross_entropy_and_grad", dtype, (150, length))
        out, rows = computed(name, case.operation, dtype, case.shape)
        softmax[np.arange(128), make_inputs(case).target[:128]] -= 1
        np.testing.assert_allclose(
            out[: rows.size], softmax.ravel() / len(rows), rtol=tolerance, atol=tolerance
        )


@each_dtype
def test_columns(dtype):
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    case = Case("softmax", dtype, (150, 41), layout="Fortran")
    n_rows, length = limits.neighbouring_shape(case)
    assert (n_rows, length) == (128, 40)
    inputs = make_inputs(case)
    memory = inputs.x.ravel(order="K")[: n_rows * length].reshape(length, n_rows)
    lse, softmax = exact(memory.astype(np.float64), 0)
    for operation, names in COLUMN_LIMITS.items():
        for name in names:
            limits.limit(name)(case, inputs)[case.operation]()
            out = inputs.out.ravel(order="K")
            expected = lse if operation == "logsumexp" else softmax.ravel()
            np.testing.assert_allclose(
                out[: expected.size], expected, rtol=tolerance, atol=tolerance, err_msg=name
            )


@each_dtype
def test_every_other_element(dtype):
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    case = Case("softmax", dtype, (9, 300), layout="strided")
    n_rows, length = limits.neighbouring_shape(case)
    inputs = make_inputs(case)
    rows = inputs.x.ravel()[: n_rows * length].reshape(n_rows, length).astype(np.float64)
    row_max = rows.max(axis=1)
    sums = row_max + np.exp(rows - row_max[:, np.newaxis]).sum(axis=1)
    softmax = exact(rows, 1)[1].ravel()
    for operation, names in STRIDED_LIMITS.items():
        for name in names:
            limits.limit(name)(case, inputs)[case.operation]()
            expected = sums if operation == "logsumexp" else softmax
            expected = row_max if "read once" in name else expected
            np.testing.assert_allclose(
                inputs.out.ravel()[: expected.size], expected, rtol=tolerance, err_msg=name
            )


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

    def neighbour(*shape, layout="C"):
        return limits.neighbouring_shape(Case("softmax", "float32", shape, layout=layout))

    assert neighbour(1000, 1000) == (976, 1024)
    assert neighbour(4, 4096) == (4, 4096)
    assert neighbour(256, 32000) == (256, 32000)
    assert neighbour(1, 1000) == (1, 896)
    assert neighbour(100000, 10) == (99968, 10)
    assert neighbour(1000, 1000, layout="axis 0") == (960, 1000)
    for shape in ((1, 1000), (32, 1000), (8, 1000000)):
        n_rows, length = neighbour(*shape)
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
