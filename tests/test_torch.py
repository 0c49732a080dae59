"""Cross-entropy means what it means in PyTorch: random options, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastlse

torch = pytest.importorskip("torch")


def random_call(seed):
    """Logits and options as both libraries take them, the class axis second."""
    rng = np.random.default_rng(seed)
    n_classes = int(rng.choice([1, 2, 3, 10, 65, 200]))
    batch = tuple(rng.integers(1, 6, size=rng.integers(1, 4)))
    shape = (batch[0], n_classes, *batch[1:])
    logits = rng.standard_normal(shape) * 10 ** rng.uniform(-2, 2)
    target = rng.integers(n_classes, size=batch)
    ignore_index = int(rng.choice([-100, -1, 0, n_classes - 1]))
    target[rng.random(batch) < rng.choice([0, 0.3])] = ignore_index
    options = {
        "weight": rng.choice([None, "some"]),
        "ignore_index": ignore_index,
        "reduction": str(rng.choice(["mean", "sum", "none"])),
        "label_smoothing": float(rng.choice([0.0, 0.1, 0.5, 1.0])),
    }
    if options["weight"]:
        options["weight"] = rng.uniform(0.1, 3, n_classes)
    return logits, target, options


@pytest.mark.parametrize("seed", range(300))
def test_random_options(seed):
    logits, target, options = random_call(seed)
    given = torch.tensor(logits, requires_grad=True)
    torch_options = dict(options)
    if options["weight"] is not None:
        torch_options["weight"] = torch.tensor(options["weight"])
    expected = torch.nn.functional.cross_entropy(given, torch.tensor(target), **torch_options)
    if torch.isfinite(expected).all():
        expected.sum().backward()
    loss, grad = fastlse.cross_entropy_and_grad(logits, target, axis=1, **options)
    assert_allclose(loss, expected.detach().numpy(), rtol=1e-9, atol=1e-13)
    if given.grad is not None:
        # Beside the package's own accuracy, torch's p - 1 is as accurate as 1.
        assert_allclose(grad, given.grad.numpy(), rtol=1e-9, atol=1e-13)
    else:
        # Every row ignored: torch's gradient would be NaN.
        assert np.isnan(loss)
        assert not grad.any()


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(5, 10), (3, 1000), (4, 3, 2)])
def test_reductions(backend, name, shape):
    x = np.random.default_rng(0).standard_normal(shape) * 5
    for axis in range(len(shape)):
        expected = getattr(torch, name)(torch.tensor(x), dim=axis).numpy()
        result = getattr(fastlse, name)(x, axis=axis)
        assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
