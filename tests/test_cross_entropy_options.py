"""Class probabilities, z_loss, softcap with all options: PyTorch, derivatives, bounds."""

from __future__ import annotations

import numpy as np
import pytest
from loss_reference import assert_within_error, exact_rows, kept_rows, pulls_of
from numpy.testing import assert_allclose, assert_array_equal
from reference import DTYPES, KINDS, factor, longdouble, make_rows, n_rows_for, needs_longdouble

import fastlse

CHUNKS, CALLS = 30, 100


def some_probabilities(rng, shape):
    """Rows of probabilities: normalised or not, negative ones, one-hot rows, and many zeros."""
    kind = rng.choice(["normalised", "any", "one-hot", "sparse"])
    q = rng.uniform(0, 1, shape)
    if kind == "any":
        q = rng.standard_normal(shape)
    elif kind == "one-hot":
        q = (q == q.max(axis=-1, keepdims=True)).astype(float)
    elif kind == "sparse":
        q = q * (rng.random(shape) < 0.2)
    return q / q.sum(axis=-1, keepdims=True) if kind == "normalised" else q


def random_call(seed):
    """Rows of logits, their target, every option, and the shape of the batch."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 3, 10, 33, 65, 200]))
    batch = tuple(int(i) for i in rng.integers(1, 6, size=rng.integers(0, 4)))
    n_rows = int(np.prod(batch))
    x = rng.standard_normal((n_rows, n)) * 10 ** rng.uniform(-2, 2)
    options = {
        "weight": rng.uniform(0.1, 3, n) if rng.random() < 0.5 else None,
        "sample_weight": None,
        "ignore_index": int(rng.choice([-100, -1])),
        "reduction": str(rng.choice(["mean", "sum", "none"])),
        "label_smoothing": float(rng.choice([0.0, 0.1, 0.5, 1.0])),
        "z_loss": float(rng.choice([0.0, 1e-4, 0.1])),
        "softcap": rng.choice([None, 0.5, 15.0, 50.0]),
    }
    if rng.random() < 0.5:
        options["sample_weight"] = rng.uniform(0.1, 3, n_rows) * (rng.random(n_rows) < 0.8)
    if rng.random() < 0.5:
        target = some_probabilities(rng, (n_rows, n))
    else:
        options["ignore_index"] = int(rng.choice([-100, -1, 0, n - 1]))
        target = rng.integers(n, size=n_rows)
        target[rng.random(n_rows) < rng.choice([0, 0.3])] = options["ignore_index"]
    return x, target, options, batch


def divisor_of(target, options):
    """What the mean divides by."""
    if target.dtype.kind == "f":
        return float(len(target))
    kept = kept_rows(target, options["sample_weight"], options["ignore_index"])
    weights = np.ones(len(target))
    if options["sample_weight"] is not None:
        weights = weights * options["sample_weight"]
    if options["weight"] is not None:
        weights = weights * options["weight"][np.where(kept, target, 0)]
    return float(weights[kept].sum())


def torch_result(torch, x, target, options):
    """PyTorch's row losses, capped, with z_loss and sample weights, then reduced; its gradient."""
    x = torch.tensor(x, requires_grad=True)
    y = x if options["softcap"] is None else options["softcap"] * torch.tanh(x / options["softcap"])
    losses = torch.nn.functional.cross_entropy(
        y,
        torch.tensor(target),
        weight=None if options["weight"] is None else torch.tensor(options["weight"]),
        ignore_index=options["ignore_index"],
        label_smoothing=options["label_smoothing"],
        reduction="none",
    )
    losses = losses + options["z_loss"] * torch.logsumexp(y, dim=1) ** 2
    kept = kept_rows(target, options["sample_weight"], options["ignore_index"])
    row_weight = np.ones(len(target))
    if options["sample_weight"] is not None:
        row_weight = options["sample_weight"]
    losses = losses * torch.tensor(row_weight * kept)
    divisor = divisor_of(target, options) if options["reduction"] == "mean" else 1.0
    if not divisor:
        return np.nan, np.zeros(x.shape)
    losses = losses / divisor
    losses.sum().backward()
    loss = losses if options["reduction"] == "none" else losses.sum()
    return loss.detach().numpy(), x.grad.numpy()


def with_axes(rows, batch, axis, order):
    """Rows as an array whose class axis is `axis`, laid out in memory in the order given."""
    array = np.moveaxis(rows.reshape(*batch, rows.shape[-1]), -1, axis)
    if order == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]))
        wide[..., ::2] = array
        return wide[..., ::2]
    return array.copy(order=order)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_pytorch(backend, chunk):
    """Random combinations of all options, axes and layouts, apart and in place."""
    torch = pytest.importorskip("torch")
    for seed in range(chunk * CALLS, (chunk + 1) * CALLS):
        x, target, options, batch = random_call(seed)
        loss, grad = torch_result(torch, x, target, options)
        rng = np.random.default_rng(seed)
        axis = int(rng.integers(-len(batch) - 1, len(batch) + 1))
        order = str(rng.choice(["C", "F", "strided"]))
        given = with_axes(x, batch, axis, order)
        if target.dtype.kind == "f":
            shaped = with_axes(target, batch, axis, str(rng.choice(["C", "F", "strided"])))
        else:
            shaped = target.reshape(batch)
        if options["sample_weight"] is not None:
            options["sample_weight"] = options["sample_weight"].reshape(batch)
        result = fastlse.cross_entropy_and_grad(given, shaped, axis=axis, **options)
        # Beside the package's own accuracy: torch's p - 1 is as accurate as 1.
        atol = 1e-13 * max(1, np.abs(x).max())
        if options["reduction"] == "none":
            loss = loss.reshape(batch)
        assert_allclose(result[0], loss, rtol=1e-9, atol=atol, err_msg=f"seed {seed}")
        rows = np.moveaxis(result[1], axis, -1).reshape(x.shape)
        assert_allclose(rows, grad, rtol=1e-9, atol=atol, err_msg=f"seed {seed}")
        alone = fastlse.cross_entropy(given, shaped, axis=axis, **options)
        assert_array_equal(alone, result[0])
        in_place = fastlse.cross_entropy_and_grad(given, shaped, axis=axis, out=given, **options)
        assert in_place[1] is given
        assert_array_equal(in_place[0], result[0])
        assert_array_equal(given, result[1])


# ---- derivatives ----

ALONE = {
    "plain": {},
    "weight": {"weight": np.array([0.5, 2.0, 0.0, 1.5])},
    "sample_weight": {"sample_weight": np.array([2.0, 0.0, 0.3, 1.0, 0.7])},
    "label_smoothing": {"label_smoothing": 0.3},
    "z_loss": {"z_loss": 0.2},
    "softcap": {"softcap": 1.5},
}
ALONE["all"] = {key: value for one in ALONE.values() for key, value in one.items()}


def plain_loss(x, target, options):
    """The summed losses in longdouble, by the formulas as one writes them down."""
    softcap = options.get("softcap")
    y = x if softcap is None else softcap * np.tanh(x / softcap)
    lse = np.log(np.exp(y).sum(axis=1))
    pull = pulls_of(target, x.shape[1], options.get("weight"), options.get("label_smoothing", 0))
    losses = (pull * (lse[:, None] - y)).sum(axis=1) + options.get("z_loss", 0) * lse**2
    losses = losses * options.get("sample_weight", 1)
    return losses[kept_rows(target, None, -100)].sum()


def derivative(function, x):
    """Central differences of eighth order: their error is the step's eighth power, 1e-17."""
    step = longdouble(2) ** -7
    grad = np.zeros(x.shape, longdouble)
    for place in np.ndindex(x.shape):
        for distance, coefficient in enumerate((672, -168, 32, -3), start=1):
            for sign in (1, -1):
                moved = x.copy()
                moved[place] += sign * distance * step
                grad[place] += sign * coefficient * function(moved)
    return grad / (840 * step)


@needs_longdouble
@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_gradient_is_the_derivative(backend, kind, name):
    rng = np.random.default_rng(len(name))
    x, options = rng.standard_normal((5, 4)) * 1.5, ALONE[name]
    target = np.array([0, 3, -100, 1, 2])
    if kind == "probabilities":
        target = rng.uniform(-0.2, 1, x.shape)
    exact = derivative(lambda values: plain_loss(values, target, options), x.astype(longdouble))
    loss, grad = fastlse.cross_entropy_and_grad(x, target, reduction="sum", **options)
    assert_allclose(grad, exact.astype(float), rtol=1e-13, atol=2e-15)
    assert loss == pytest.approx(
        float(plain_loss(x.astype(longdouble), target, options)), rel=1e-14
    )
    mean, mean_grad = fastlse.cross_entropy_and_grad(x, target, **options)
    divisor = divisor_of(
        target, {"weight": None, "sample_weight": None, "ignore_index": -100, **options}
    )
    assert mean == pytest.approx(loss / divisor, rel=1e-14)
    assert_allclose(mean_grad, grad / divisor, rtol=1e-14)


# ---- accuracy ----

BOUNDED = {
    "z_loss": {"z_loss": 1e-2},
    "softcap": {"softcap": 20.0},
    "small softcap": {"softcap": 0.75},
    "all": {"z_loss": 1e-3, "softcap": 30.0, "label_smoothing": 0.1, "weight": True},
}
TARGETS = ["indices", "one-hot", "normalised", "sparse", "signed"]

# Around the lanes (32, 64), the summation of short rows (16), the kernels' thresholds and blocks.
LENGTHS = {
    "short": [1, 2, 3, 10, 15, 16, 17, 23, 24, 27, 28, 31, 32, 33, 39, 40, 41, 63, 64, 65, 96],
    "middle": [128, 129, 1000, 2559, 2560, 2561],
    "long": [32768, 32769, 65535, 65536, 65537],
}


def targets_for(x, kind, rng):
    """Targets of a kind; the largest logit is often the target, where it counts."""
    n_rows, n = x.shape
    classes = np.where(rng.random(n_rows) < 0.5, x.argmax(axis=1), rng.integers(n, size=n_rows))
    if kind == "indices":
        return classes
    one_hot = (classes[:, None] == np.arange(n)).astype(x.dtype)
    if kind == "one-hot":
        return one_hot
    q = rng.uniform(0, 1, x.shape)
    if kind == "normalised":
        q /= q.sum(axis=1, keepdims=True)
    elif kind == "sparse":
        q *= rng.random(x.shape) < 0.1
    else:
        q = rng.standard_normal(x.shape)
    return np.where(np.isneginf(x), 0, q).astype(x.dtype)


def assert_bounds_hold(x, target, options, times):
    exact = exact_rows(x, target, **options)
    loss, grad = fastlse.cross_entropy_and_grad(x, target, reduction="none", **options)
    assert loss.dtype == grad.dtype == x.dtype
    assert_within_error(loss, exact.loss, times * exact.loss_error)
    assert_within_error(grad, exact.grad, times * exact.grad_error)


@needs_longdouble
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
class TestBounds:
    @pytest.mark.parametrize("kind", TARGETS)
    def test_targets(self, backend, dtype, lengths, kind):
        """Class probabilities are as accurate as class indices."""
        for n in LENGTHS[lengths]:
            for of_rows in KINDS if n < 100 else ("random", "confident", "ramp"):
                x = make_rows(of_rows, n_rows_for(n), n, dtype)
                rng = np.random.default_rng([n, TARGETS.index(kind)])
                target = targets_for(x, kind, rng)
                assert_bounds_hold(x, target, {}, factor(backend))
                options = {
                    "weight": rng.uniform(0, 2, n).astype(dtype),
                    "sample_weight": rng.uniform(0.1, 2, len(x)).astype(np.float32).astype(float),
                }
                assert_bounds_hold(x, target, options, factor(backend))

    @pytest.mark.parametrize("name", BOUNDED)
    def test_options(self, backend, dtype, lengths, name):
        """Saturated logits, and those far below 0, under a cap; logsumexp that cancels."""
        for n in LENGTHS[lengths]:
            for of_rows in KINDS if n < 100 else ("random", "confident", "offset"):
                x = make_rows(of_rows, n_rows_for(n), n, dtype)
                rng = np.random.default_rng([n, len(name)])
                options = dict(BOUNDED[name])
                if "weight" in options:
                    options["weight"] = rng.uniform(0.1, 2, n).astype(dtype)
                if "softcap" in options or "label_smoothing" in options:
                    x = np.where(np.isneginf(x), x.dtype.type(-900), x)
                for kind in ("indices", "one-hot", "normalised"):
                    assert_bounds_hold(x, targets_for(x, kind, rng), options, factor(backend))


@needs_longdouble
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_great_weights_beside_small_probabilities(backend, dtype, order):
    """Of a probability that is subnormal a great weight makes an entry that is not."""
    deepest, weight = (-120, 1e15) if dtype == "float32" else (-760, 1e25)
    for n in (3, 11, 20, 33, 100, 300, 3000):
        for n_rows in (1, 7, 70):
            rng = np.random.default_rng([n, n_rows])
            x = np.asarray(rng.uniform(deepest, deepest / 2, (n_rows, n)), dtype, order)
            x[:, 0] = deepest / 3  # so that the loss is a normal number, whatever its weight
            x[:, n // 2] = 0
            target = np.full(n_rows, n // 2)
            weights = weight * 2.0 ** -rng.integers(0, 100, n_rows)
            for options in ({}, {"softcap": -4.0 * deepest}):
                options["sample_weight"] = weights
                assert_bounds_hold(x, target, options, factor(backend))


@needs_longdouble
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_weights(backend, dtype, order):
    """They are normal numbers still where the product with a kernel's own scale would not be."""
    smallest, largest = (-34, -20) if dtype == "float32" else (-304, -275)
    for n in (2, 3, 11, 20, 33, 100, 300, 3000):
        for n_rows in (1, 7, 70):
            rng = np.random.default_rng([n, n_rows])
            x = np.asarray(rng.uniform(-3, 0, (n_rows, n)), dtype, order)
            weights = 10.0 ** rng.uniform(smallest, largest, n_rows)
            for options in ({}, {"label_smoothing": 0.1}):
                target = rng.integers(n, size=n_rows)
                options["sample_weight"] = weights
                assert_bounds_hold(x, target, options, factor(backend))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_rows_are_class_indices(backend, dtype):
    """Confident rows included, to a few ulp, in the loss and in the gradient at the target."""
    for kind in ("confident", "random", "wide", "tied"):
        x = make_rows(kind, 200, 10, dtype)
        classes = x.argmax(axis=1)
        q = (classes[:, None] == np.arange(10)).astype(dtype)
        expected = fastlse.cross_entropy_and_grad(x, classes, reduction="none")
        loss, grad = fastlse.cross_entropy_and_grad(x, q, reduction="none")
        eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
        assert_allclose(loss, expected[0], rtol=4 * eps, atol=tiny)
        assert_allclose(grad, expected[1], rtol=4 * eps, atol=tiny)
    loss, grad = fastlse.cross_entropy_and_grad(np.array([40, 0, 0], dtype), np.array([1.0, 0, 0]))
    assert f"{loss:.5e}" == "8.49671e-18"
    assert f"{grad[0]:.5e}" == "-8.49671e-18"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_slope_of_a_saturated_cap_keeps_its_digits(backend, dtype):
    """Where tanh is 1 in the logits' dtype, 1 - tanh**2 is not 0."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    x = np.array([[35.0, -30.0, 3.0], [-20.0, 33.0, 40.0]], dtype)
    _, grad = fastlse.cross_entropy_and_grad(x, [1, 0], softcap=1.0, reduction="sum")
    for row, target in enumerate([1, 0]):
        y = [mpmath.tanh(mpmath.mpf(float(value))) for value in x[row]]
        total = sum(mpmath.exp(value) for value in y)
        for c in range(3):
            exact = (mpmath.exp(y[c]) / total - (c == target)) * (1 - y[c] ** 2)
            rtol = 2 * float(np.finfo(dtype).eps) * (6 + 2 * abs(float(x[row, c])))
            assert grad[row, c] == pytest.approx(float(exact), rel=rtol)
            assert grad[row, c] != 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cap_far_beyond_all_logits_is_none(backend, dtype):
    largest = float(np.finfo(np.float32).max)
    for x in (
        np.array([[-0.4, 0.3, 0.2], [0.1, -0.2, 0.4]]) * largest,
        np.random.default_rng(0).standard_normal((70, 40)),
    ):
        x = x.astype(dtype)
        target = np.zeros(len(x), int)
        expected = fastlse.cross_entropy_and_grad(x, target, reduction="none")
        for softcap in (1e100, 1e307) if dtype == "float32" else (1e150,):
            loss, grad = fastlse.cross_entropy_and_grad(
                x, target, softcap=softcap, reduction="none"
            )
            eps = np.finfo(dtype).eps
            assert_allclose(loss, expected[0], rtol=8 * eps)
            assert_allclose(grad, expected[1], rtol=0, atol=8 * eps)


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_around_three_quarters_of_the_cap(backend, dtype):
    """Beyond it, kernels cap the whole row by another formula."""
    for n in (7, 40, 300):
        for softcap in (0.5, 4.0, 100.0):
            shares = np.linspace(-0.75, 0.75, n) * np.array([[0.5], [0.999], [1.001], [1.5]])
            x = np.tile(shares * softcap, (20, 1)).astype(dtype)
            target = np.arange(len(x)) % n
            assert_bounds_hold(x, target, {"softcap": softcap}, factor(backend))
