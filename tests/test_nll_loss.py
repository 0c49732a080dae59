"""nll_loss: after log_softmax it is cross_entropy; PyTorch's options, values and edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastlse

inf, nan = np.inf, np.nan


def random_problem(seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    n_classes = int(rng.choice([1, 2, 10, 200]))
    batch = tuple(int(n) for n in rng.integers(1, 6, size=rng.integers(0, 4)))
    axis = int(rng.integers(len(batch) + 1))
    logits = rng.standard_normal((*batch, n_classes)) * 5
    logits = np.moveaxis(logits, -1, axis).astype(dtype)
    ignore_index = int(rng.choice([-100, 0]))
    target = rng.integers(n_classes, size=batch)
    target = np.where(rng.random(batch) < 0.2, ignore_index, target)
    options = {
        "weight": rng.uniform(0.1, 3, n_classes) if rng.random() < 0.5 else None,
        "sample_weight": rng.uniform(0, 2, batch).round() if rng.random() < 0.5 else None,
        "ignore_index": ignore_index,
        "reduction": str(rng.choice(["mean", "sum", "none"])),
    }
    return logits, target, axis, options


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_softmax_and_nll_loss_are_cross_entropy(backend, dtype):
    for seed in range(100):
        logits, target, axis, options = random_problem(seed, dtype)
        loss = fastlse.nll_loss(
            fastlse.log_softmax(logits, axis=axis), target, axis=axis, **options
        )
        expected = fastlse.cross_entropy(logits, target, axis=axis, **options)
        assert loss.dtype == dtype
        assert np.shape(loss) == np.shape(expected)
        assert_allclose(loss, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


def test_as_in_torch(backend):
    torch = pytest.importorskip("torch")
    for seed in range(100):
        logits, target, axis, options = random_problem(seed)
        del options["sample_weight"]
        log_probs = np.moveaxis(fastlse.log_softmax(logits, axis=axis), axis, min(1, target.ndim))
        given = dict(options)
        if options["weight"] is not None:
            given["weight"] = torch.tensor(options["weight"])
        expected = torch.nn.functional.nll_loss(
            torch.tensor(log_probs), torch.tensor(target), **given
        )
        loss = fastlse.nll_loss(log_probs, target, axis=min(1, target.ndim), **options)
        assert_allclose(loss, expected.numpy(), rtol=1e-13, atol=0)


def test_rows_that_do_not_count_are_zero(backend):
    log_probs = np.array([[nan, nan], [inf, -inf], [-1.0, -2.0], [nan, -3.0]])
    target, sample_weight = [-100, 1, 1, 1], [1.0, 0.0, 2.0, 1.0]
    losses = fastlse.nll_loss(log_probs, target, sample_weight=sample_weight, reduction="none")
    assert_array_equal(losses, [0, 0, 4, 3])
    assert not np.signbit(losses).any()
    assert fastlse.nll_loss(log_probs, target, sample_weight=sample_weight) == 7 / 3
    assert fastlse.nll_loss(log_probs, target, sample_weight=sample_weight, reduction="sum") == 7
    ignored = {"target": [-100] * 4}
    assert np.isnan(fastlse.nll_loss(log_probs, **ignored))
    assert fastlse.nll_loss(log_probs, reduction="sum", **ignored) == 0
    assert np.isnan(fastlse.nll_loss(np.ones((0, 3)), []))


def test_what_is_no_number(backend):
    assert fastlse.nll_loss([-inf, -1.0], 0) == inf
    assert np.isnan(fastlse.nll_loss([nan, -1.0], 0))
    assert fastlse.nll_loss([nan, -1.0], 1) == 1
    # as in PyTorch, and unlike a sample's weight, a class's weight of 0 is a factor
    assert np.isnan(fastlse.nll_loss([-inf, -1.0], 0, [0.0, 1.0], reduction="sum"))


def test_sums_keep_their_digits(backend):
    log_probs = np.full((10**6, 2), np.float32(-0.1))
    loss = fastlse.nll_loss(log_probs, np.zeros(10**6, np.int64))
    assert loss == np.float32(0.1)
    loss = fastlse.nll_loss(log_probs.astype(float), np.zeros(10**6, np.int8), reduction="sum")
    assert abs(loss - 10**6 * float(np.float32(0.1))) <= 2 * np.spacing(loss)


def test_dtypes_and_masks(backend):
    for dtype, expected in (("float16", "float16"), ("int8", "float64"), (">f8", "float64")):
        log_probs = np.array([[-1, -2], [-3, -4]], dtype)
        loss = fastlse.nll_loss(log_probs, np.array([1, 0], np.uint8), reduction="none")
        assert loss.dtype == expected
        assert_array_equal(loss, [2, 3])
    masked = np.ma.array([1, 0], mask=[False, True])
    assert_array_equal(fastlse.nll_loss(log_probs, masked, reduction="none"), [2, 0])
    assert fastlse.nll_loss(np.ma.array([-1.0, -2.0], mask=[1, 0]), 0) == inf


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": [0, 3]}, IndexError, r"target must be in \[0, 3\).*got 3 in row 1"),
        ({"target": [0, -1]}, IndexError, "got -1 in row 1"),
        ({"target": [0.0, 1.0]}, TypeError, "target must be an integer array"),
        ({"target": [0]}, ValueError, "target must have"),
        ({"target": [0, 1], "weight": [1.0]}, ValueError, r"weight must have shape \(3,\)"),
        ({"target": [0, 1], "sample_weight": [1.0]}, ValueError, "sample_weight must have shape"),
        ({"target": [0, 1], "reduction": "avg"}, ValueError, "reduction must be"),
        ({"target": [0, 1], "axis": 2}, np.exceptions.AxisError, "axis"),
        ({"target": [0, 1], "ignore_index": 0.5}, TypeError, "ignore_index must be an int"),
    ],
)
def test_errors(backend, arguments, error, message):
    with pytest.raises(error, match=message):
        fastlse.nll_loss(np.zeros((2, 3)), **arguments)
    with pytest.raises(ValueError, match="log_probs must have a class axis"):
        fastlse.nll_loss(1.0, 0)
    with pytest.raises(TypeError, match="log_probs must be an array of real numbers"):
        fastlse.nll_loss([1j], 0)
