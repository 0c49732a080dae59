"""Losses and gradients with every option, against the plain formula and against its derivative."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import DTYPES, exact_loss, longdouble, needs_longdouble

import fastlse

N_ROWS, N_CLASSES = 23, 10

CHOICES = {
    "weight": [None, "some"],
    "sample_weight": [None, "some"],
    "ignore_index": [-100, 3],
    "reduction": ["mean", "sum", "none"],
    "label_smoothing": [0.0, 0.1, 1.0],
}
COMBINATIONS = [
    dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())
]


def problem(options, dtype, shape=(N_ROWS, N_CLASSES), seed=0):
    """Logits with confident rows, targets with ignored ones, and the options' arrays."""
    rng = np.random.default_rng([seed, *shape])
    logits = rng.standard_normal(shape) * 5
    logits[::3, 2] += 30
    target = rng.integers(shape[1], size=shape[0])
    target[rng.random(shape[0]) < 0.2] = options["ignore_index"]
    options = dict(options)
    if options["weight"]:
        options["weight"] = rng.uniform(0, 3, shape[1]).astype(dtype)
        options["weight"][1] = 0
    if options["sample_weight"]:
        options["sample_weight"] = rng.uniform(0.1, 3, shape[0])
        options["sample_weight"][rng.random(shape[0]) < 0.2] = 0
    return logits.astype(dtype), target, options


def expected_result(logits, target, options):
    """Loss and gradient in longdouble, and the size that the errors may be compared with."""
    weight, sample_weight = options["weight"], options["sample_weight"]
    eps, reduction = options["label_smoothing"], options["reduction"]
    rows = exact_loss(logits, target, weight, sample_weight, options["ignore_index"], eps)
    if reduction == "none":
        return rows.loss, rows.grad
    if reduction == "sum":
        return rows.loss.sum(), rows.grad
    kept = target != options["ignore_index"]
    divisor = np.where(kept, 1.0, 0.0).astype(longdouble)
    if weight is not None:
        divisor *= weight.astype(longdouble)[np.where(kept, target, 0)]
    if sample_weight is not None:
        divisor *= sample_weight
    return rows.loss.sum() / divisor.sum(), rows.grad / divisor.sum()


def assert_right(result, expected, dtype):
    """Losses to their relative accuracy; gradients, which smoothing makes differences, to 1's."""
    eps = np.finfo(dtype).eps
    loss, grad = result
    assert np.asarray(loss).dtype == dtype
    assert grad.dtype == dtype
    assert_allclose(loss, expected[0].astype(dtype), rtol=50 * eps)
    scale = np.abs(expected[1]).max(axis=-1, keepdims=True).astype(float)
    assert np.all(np.abs(grad - expected[1]) <= 50 * eps * np.maximum(scale, np.finfo(dtype).tiny))


def name(options):
    return " ".join(f"{key}={value}" for key, value in options.items() if value)


@needs_longdouble
@pytest.mark.parametrize("options", COMBINATIONS, ids=name)
class TestEveryCombination:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_value_and_gradient(self, backend, options, dtype):
        for shape in [(N_ROWS, N_CLASSES), (5, 300), (70, 3)]:
            logits, target, options_here = problem(options, dtype, shape)
            target[0] = 0  # a row that is kept
            expected = expected_result(logits, target, options_here)
            result = fastlse.cross_entropy_and_grad(logits, target, **options_here)
            assert_right(result, expected, dtype)
            loss = fastlse.cross_entropy(logits, target, **options_here)
            assert_array_equal(loss, result[0])

    def test_axis_and_out(self, backend, options):
        logits, target, options = problem(options, "float64", (24, 10))
        loss, grad = fastlse.cross_entropy_and_grad(logits, target, **options)
        options = dict(options)
        if options["sample_weight"] is not None:
            options["sample_weight"] = options["sample_weight"].reshape(2, 3, 4)
        shaped = logits.reshape(2, 3, 4, 10)
        target = target.reshape(2, 3, 4)
        for axis in (0, 1, 2, 3, -1, -3):
            moved = np.moveaxis(shaped, -1, axis)
            for given in (moved, np.ascontiguousarray(moved)):
                given = given.copy(order="K")
                result = fastlse.cross_entropy_and_grad(given, target, axis=axis, **options)
                self.assert_same(result, loss, grad, axis)
                out = np.empty(given.shape)
                result = fastlse.cross_entropy_and_grad(
                    given, target, axis=axis, out=out, **options
                )
                assert result[1] is out
                self.assert_same(result, loss, grad, axis)
                result = fastlse.cross_entropy_and_grad(
                    given, target, axis=axis, out=given, **options
                )
                assert result[1] is given
                self.assert_same(result, loss, grad, axis)

    def assert_same(self, result, loss, grad, axis):
        assert_allclose(np.ravel(result[0]), np.ravel(loss), rtol=1e-14)
        rows = np.moveaxis(result[1], axis, -1).reshape(24, 10)
        assert_allclose(rows, grad, rtol=1e-13, atol=1e-17)


@needs_longdouble
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_is_the_derivative(backend, reduction, smoothing):
    """Central differences of the loss in longdouble."""
    options = {
        "weight": "some",
        "sample_weight": "some",
        "ignore_index": -100,
        "reduction": reduction,
        "label_smoothing": smoothing,
    }
    logits, target, options = problem(options, "float64", (4, 5))
    logits[::3, 2] -= 30
    target[:2] = [0, 2]
    _, grad = fastlse.cross_entropy_and_grad(logits, target, **options)
    step = longdouble(2) ** -20

    def loss_of(values):
        return expected_result(values, target, options)[0]

    for place in np.ndindex(logits.shape):
        above, below = logits.astype(longdouble), logits.astype(longdouble)
        above[place] += step
        below[place] -= step
        rise = loss_of(above) - loss_of(below)
        assert grad[place] == pytest.approx(float(rise / (2 * step)), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row(backend, dtype):
    """1-D logits and a scalar target, of any kind."""
    logits = np.array([1, 3, 2], dtype)
    expected, grads = fastlse.cross_entropy_and_grad(logits[None], [1])
    for target in (1, np.int8(1), np.array(1)):
        loss, grad = fastlse.cross_entropy_and_grad(logits, target)
        assert loss == expected
        assert loss.shape == ()
        assert_array_equal(grad, grads[0])
        assert fastlse.cross_entropy(logits, target, reduction="none") == expected
    loss = fastlse.cross_entropy(logits, 1, sample_weight=2.0, reduction="sum")
    assert loss == pytest.approx(2 * expected, rel=1e-6)
    assert fastlse.cross_entropy(logits, -100, reduction="sum") == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_sums_to_zero(backend, dtype):
    logits, target, _ = problem(COMBINATIONS[0], dtype)
    for smoothing in (0.0, 0.3):
        _, grad = fastlse.cross_entropy_and_grad(
            logits, target, label_smoothing=smoothing, reduction="none"
        )
        total = grad.astype(longdouble).sum(axis=1)
        assert np.all(np.abs(total) <= 20 * np.finfo(dtype).eps)


def test_reductions_agree(backend):
    """The sum is the sum of the rows' losses, the mean the sum over the summed weights."""
    options = {**COMBINATIONS[0], "weight": "some", "sample_weight": "some"}
    logits, target, options = problem(options, "float64")
    rows = {}
    for reduction in ("none", "sum", "mean"):
        options["reduction"] = reduction
        rows[reduction] = fastlse.cross_entropy_and_grad(logits, target, **options)
    kept = target != -100
    divisor = np.sum(options["weight"][target[kept]] * options["sample_weight"][kept])
    assert rows["sum"][0] == pytest.approx(rows["none"][0].sum(), rel=1e-14)
    assert rows["mean"][0] == pytest.approx(rows["sum"][0] / divisor, rel=1e-14)
    assert_array_equal(rows["none"][1], rows["sum"][1])
    assert_allclose(rows["mean"][1], rows["sum"][1] / divisor, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [255, 256, 257, 1000])
@pytest.mark.parametrize("given", [("weight",), ("sample_weight",), ("weight", "sample_weight")])
def test_mean_of_many_weighted_rows(backend, dtype, n_rows, given):
    """The mean divides by the sum of all kept rows' weights, each with its class's."""
    rng = np.random.default_rng(n_rows)
    x = rng.standard_normal((n_rows, 3)).astype(dtype)
    target = np.where(rng.random(n_rows) < 0.1, -100, rng.integers(3, size=n_rows))
    options = {
        "weight": rng.uniform(0.1, 3, 3).astype(dtype),
        "sample_weight": rng.uniform(0.1, 3, n_rows) * (rng.random(n_rows) > 0.1),
    }
    options = {name: options[name] for name in given}
    of_rows = np.float64(options.get("sample_weight", np.ones(n_rows)))
    of_rows = of_rows * np.float64(options.get("weight", np.ones(3)))[target.clip(0)]
    divisor = math.fsum(of_rows[target >= 0])
    total = fastlse.cross_entropy(x, target, reduction="sum", **options)
    mean = fastlse.cross_entropy(x, target, **options)
    assert_allclose(mean, total / divisor, rtol=4 * np.finfo(dtype).eps)


def test_weight_zero_drops_a_class_that_cannot_be(backend):
    """Smoothing spreads nothing on a class of weight 0, even where its logit is -inf."""
    logits = np.array([[1.0, 2.0, -np.inf]])
    weight = np.array([1.0, 1.0, 0.0])
    loss, grad = fastlse.cross_entropy_and_grad(logits, [0], weight, label_smoothing=0.2)
    assert np.isfinite(loss)
    assert np.isfinite(grad).all()
    assert grad[0, 2] == 0
    loss = fastlse.cross_entropy(logits, [0], label_smoothing=0.2)
    assert loss == np.inf


def test_negative_ignore_index_that_is_not_used(backend):
    logits, target = np.zeros((3, 4)), [0, 1, 2]
    for ignore_index in (-1, -(2**63), 2**63 - 1, np.int32(7)):
        loss = fastlse.cross_entropy(logits, target, ignore_index=ignore_index)
        assert loss == pytest.approx(np.log(4), rel=1e-15)


def test_losses_of_many_rows_add_up(backend):
    """A mean over a million rows keeps its digits; a plain float32 sum would lose four."""
    logits = np.broadcast_to(np.array([0.3, 0.1], np.float32), (10**6, 2))
    target = np.zeros(10**6, np.int64)
    loss = fastlse.cross_entropy(logits, target)
    row = fastlse.cross_entropy(logits[:1], target[:1])
    assert abs(loss - row) <= np.spacing(row)
