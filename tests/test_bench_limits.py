"""The loops of bench/limits.c compile for each instruction set and compute what they should."""

from __future__ import annotations

import gc
import os
import platform
import shlex
import shutil
import sys
import weakref
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastlse._bench.cases import (
    ARITHMETIC_LIMITS,
    COLUMN_LIMITS,
    LIMITS,
    STRIDED_LIMITS,
    Case,
    Entrant,
)
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


def computed(name, case, inputs=None):
    """What a loop leaves in the output, and the rows that it went over."""
    inputs = inputs or make_inputs(case)
    try:
        limits.limit(name)(case, inputs)[case.operation]()
    except SkippedError as error:
        pytest.skip(str(error))
    n_rows, length = limits.shape_of_loop(name, case)
    rows = inputs.x.ravel()[: n_rows * length].reshape(n_rows, length)
    out = inputs.out.ravel()
    size = n_rows if case.operation == "logsumexp" else rows.size
    return out[:size].reshape(n_rows, -1), rows.astype(np.float64)


def exact(x, axis):
    """logsumexp and softmax of float64 numbers."""
    row_max = x.max(axis=axis, keepdims=True)
    exponentials = np.exp(x - row_max)
    total = exponentials.sum(axis=axis, keepdims=True)
    return (row_max + np.log(total)).squeeze(axis), exponentials / total


def expected_of(operation, rows, target):
    """An operation's results, row by row; the gradient is of the mean loss."""
    lse, softmax = exact(rows, 1)
    if operation == "logsumexp":
        return lse[:, np.newaxis]
    if operation == "log_softmax":
        return np.log(softmax)
    if operation == "cross_entropy_and_grad":
        kept = target[: len(rows)] >= 0
        softmax[kept, target[: len(rows)][kept]] -= 1
        softmax *= kept[:, np.newaxis] / kept.sum()
    return softmax


SHAPES = [*((150, n) for n in (2, 3, 4, 5, 10, 33)), *((9, n) for n in (64, 65, 100, 128, 300))]


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.parametrize("operation", ARITHMETIC_LIMITS)
def test_rows(dtype, shape, operation):
    case = Case(operation, dtype, shape)
    inputs = make_inputs(case)
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    for name in ARITHMETIC_LIMITS[operation]:
        out, rows = computed(name, case, inputs)
        assert rows.shape == (128 if shape[1] < 64 else shape[0], shape[1])
        expected = expected_of(operation, rows, inputs.target)
        if name == "limit max and sum" and shape[1] >= 64:  # which takes no logarithm
            row_max = rows.max(axis=1, keepdims=True)
            expected = row_max + np.exp(expected - row_max)
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance, err_msg=name)


@each_dtype
@pytest.mark.parametrize("length", [3, 10, 65, 100])
def test_promises(dtype, length):
    """Rows with -inf, confident ones and ignored ones, which the loops without promises leave."""
    case = Case("cross_entropy_and_grad", dtype, (64, length))
    inputs = make_inputs(case)
    inputs.x[::2, 1] = -np.inf
    inputs.x[::4, 0] += 60
    inputs.target[::4] = 0
    inputs.target[3::8] = -100
    out, rows = computed(ARITHMETIC_LIMITS[case.operation][1], case, inputs)
    expected = expected_of(case.operation, rows, inputs.target)
    with np.errstate(under="ignore"):
        others = np.exp(rows[::4, 1:] - rows[::4, :1]).sum(axis=1)  # whose total is 1 to a digit
    expected[::4, 0] = -others / (1 + others) / (inputs.target >= 0).sum()
    tolerance = 3e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(out[::4, 0], expected[::4, 0], rtol=tolerance)
    np.testing.assert_array_equal(out[3::8], 0)


@each_dtype
def test_columns(dtype):
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    case = Case("softmax", dtype, (150, 41), layout="Fortran")
    n_rows, length = limits.shape_of_loop("limit columns max and sum", case)
    assert (n_rows, length) == (128, 40)
    inputs = make_inputs(case)
    memory = inputs.x.ravel(order="K")[: n_rows * length].reshape(length, n_rows)
    lse, softmax = exact(memory.astype(np.float64), 0)
    expected_of_operation = {"logsumexp": lse, "log_softmax": np.log(softmax).ravel()}
    for operation, names in COLUMN_LIMITS.items():
        for name in names:
            limits.limit(name)(case, inputs)[case.operation]()
            out = inputs.out.ravel(order="K")
            expected = expected_of_operation.get(operation, softmax.ravel())
            np.testing.assert_allclose(
                out[: expected.size], expected, rtol=tolerance, atol=tolerance, err_msg=name
            )


@each_dtype
def test_every_other_element(dtype):
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    case = Case("softmax", dtype, (9, 300), layout="strided")
    inputs = make_inputs(case)
    for operation, names in STRIDED_LIMITS.items():
        for name in names:
            n_rows, length = limits.shape_of_loop(name, case)
            rows = inputs.x.ravel()[: n_rows * length].reshape(n_rows, length).astype(np.float64)
            row_max = rows.max(axis=1, keepdims=True)
            limits.limit(name)(case, inputs)[case.operation]()
            if "read once" in name:
                expected = row_max
            else:
                expected = expected_of(operation, rows, inputs.target)
            if "loss" in name:
                expected *= n_rows  # each row's own loss
            if name == "limit strided max and sum":
                expected = row_max + np.exp(expected - row_max)
            np.testing.assert_allclose(
                inputs.out.ravel()[: expected.size],
                expected.ravel(),
                rtol=tolerance,
                atol=tolerance,
                err_msg=name,
            )


@each_dtype
def test_loops_that_move_memory(dtype):
    case = Case("softmax", dtype, (9, 300))
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for name in LIMITS["softmax"]:
        if "copy" in name or "read" in name:
            out, rows = computed(name, case)
            copied = rows if "copy" in name else rows * rows.max(axis=1, keepdims=True)
            np.testing.assert_allclose(out, copied, rtol=tolerance, err_msg=name)
    out, rows = computed("limit read once", Case("logsumexp", dtype, (9, 300)))
    np.testing.assert_array_equal(out, rows.max(axis=1, keepdims=True))


def test_shapes_of_loops():
    """Whole steps, never more elements than the array has, and almost as many."""

    def shape_of(name, *shape, layout="C"):
        return limits.shape_of_loop(
            f"limit {name}", Case("softmax", "float32", shape, layout=layout)
        )

    assert shape_of("copy", 1000, 1000) == (976, 1024)
    assert shape_of("store and rescale", 1000, 1000) == (1000, 1000)
    assert shape_of("copy", 4, 4096) == (4, 4096)
    assert shape_of("copy", 256, 32000) == (256, 32000)
    assert shape_of("read once", 1, 1000) == (1, 896)
    assert shape_of("max and sum", 100000, 10) == (99968, 10)
    assert shape_of("columns max and sum", 1000, 1000, layout="axis 0") == (960, 1000)
    for shape in ((1, 1000), (32, 1000), (8, 1000000)):
        n_rows, length = shape_of("copy", *shape)
        assert length % limits.STEP == 0
        assert 0.85 * np.prod(shape) <= n_rows * length <= np.prod(shape)


def test_times_are_scaled_to_all_elements():
    """A call that goes twice over 896 of 1000 elements takes 2 * 896 / 1000 times as long."""
    case = Case("logsumexp", "float32", (1, 1000))
    assert limits.scale(Entrant(case, "fastlse")) == 1
    factor = 1000 / (896 * limits.repeats(case))
    assert limits.scale(Entrant(case, "limit read once")) == pytest.approx(factor)
    assert limits.scale(Entrant(case, "limit max and sum")) == pytest.approx(896 * factor / 1000)
    assert limits.repeats(case) > 100
    assert limits.repeats(Case("logsumexp", "float32", (1000, 1000))) == 1


def test_a_loop_holds_its_arrays():
    case = Case("softmax", "float32", (16, 1000))
    inputs = make_inputs(case)
    arrays = [weakref.ref(array) for array in (inputs.x, inputs.target, inputs.out)]
    try:
        call = limits.limit("limit store and rescale")(case, inputs)["softmax"]
    except SkippedError as error:
        pytest.skip(str(error))
    del inputs
    gc.collect()
    assert all(array() is not None for array in arrays)
    del call
    gc.collect()
    assert all(array() is None for array in arrays)
