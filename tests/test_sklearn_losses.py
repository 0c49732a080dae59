"""scikit-learn's losses by fastlse's kernels: values, accuracy, layouts, dtypes, estimators."""

from __future__ import annotations

import copy
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from operations import assert_same_bits
from reference import DTYPES, factor, longdouble, needs_longdouble
from sklearn._loss import _loss as theirs
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from fastlse.sklearn import (
    CyHalfBinomialLoss,
    CyHalfMultinomialLoss,
    HalfBinomialLoss,
    HalfMultinomialLoss,
    _arrays,
    _pointwise,
)

MULTINOMIAL = {
    "loss": ("row",),
    "gradient": ("class",),
    "loss_gradient": ("row", "class"),
    "gradient_hessian": ("class", "class"),
    "gradient_proba": ("class", "class"),
}
BINOMIAL = {name: ("row",) * len(outs) for name, outs in list(MULTINOMIAL.items())[:4]}

each_method = pytest.mark.parametrize("method", MULTINOMIAL)
each_binomial_method = pytest.mark.parametrize("method", BINOMIAL)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that small problems have several."""
    monkeypatch.setattr(_arrays, "BLOCK_ELEMENTS", 64)


def problem(n=200, n_classes=5, dtype="float64", order="C", seed=0):
    rng = np.random.default_rng(seed)
    raw = np.asarray(4 * rng.normal(size=(n, n_classes)), dtype=dtype, order=order)
    y = rng.integers(0, n_classes, n).astype(dtype)
    weight = rng.normal(size=n).astype(dtype)
    return y, raw, weight


def binary_problem(n=200, dtype="float64", seed=0):
    y, raw, weight = problem(n, 2, dtype, seed=seed)
    return y, raw[:, 0].copy(), weight


def outputs(raw, kinds, dtype, order="C"):
    """Arrays to write to, full of what nothing gives."""
    return [
        np.full(raw.shape if kind == "class" else len(raw), 99, dtype=dtype, order=order)
        for kind in kinds
    ]


def results(loss, method, y, raw, weight, out_dtype=None, order="C", n_threads=1):
    kinds = (MULTINOMIAL if raw.ndim == 2 else BINOMIAL)[method]
    outs = outputs(raw, kinds, out_dtype or raw.dtype, order)
    assert getattr(loss, method)(y, raw, weight, *outs, n_threads) is None
    return outs


@each_method
@each_dtype
@pytest.mark.parametrize("out_dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("weighted", [False, True])
def test_multinomial_is_scikit_learns(
    backend, small_blocks, method, dtype, out_dtype, order, weighted
):
    y, raw, weight = problem(dtype=dtype, order=order)
    args = (y, raw, weight if weighted else None, out_dtype, order)
    ours = results(CyHalfMultinomialLoss(), method, *args)
    expected = results(theirs.CyHalfMultinomialLoss(), method, *args)
    eps = max(np.finfo(dtype).eps, np.finfo(out_dtype).eps)
    for a, b in zip(ours, expected, strict=True):
        assert_allclose(a, b, rtol=1000 * eps, atol=100 * eps)


@each_binomial_method
@each_dtype
@pytest.mark.parametrize("out_dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_binomial_is_scikit_learns(backend, small_blocks, method, dtype, out_dtype, weighted, soft):
    y, raw, weight = binary_problem(dtype=dtype)
    y = (y + 1) / 4 if soft else y
    args = (y, raw, weight if weighted else None, out_dtype)
    ours = results(CyHalfBinomialLoss(), method, *args)
    expected = results(theirs.CyHalfBinomialLoss(), method, *args)
    eps = max(np.finfo(dtype).eps, np.finfo(out_dtype).eps)
    for a, b in zip(ours, expected, strict=True):
        assert_allclose(a, b, rtol=1000 * eps, atol=100 * eps)


def ulps(actual, exact):
    """Errors in units of the last place; results that are flushed to 0 have none."""
    finfo = np.finfo(actual.dtype)
    unit = np.abs(exact) * finfo.eps / 2
    kept = np.abs(exact) >= 2 * finfo.tiny
    return np.where(kept, np.abs(actual - exact) / np.where(kept, unit, 1), 0) / 2


@needs_longdouble
@each_dtype
def test_multinomial_hessians_keep_their_digits(backend, dtype):
    rng = np.random.default_rng(1)
    raw = np.concatenate([scale * rng.normal(size=(500, 6)) for scale in (1, 10, 30)])
    raw = raw.astype(dtype)
    y = raw.argmax(axis=1)  # confident and right
    y[::7] = rng.integers(0, 6, len(y[::7]))
    (_, hessian) = results(CyHalfMultinomialLoss(), "gradient_hessian", y.astype(dtype), raw, None)
    x = raw.astype(longdouble)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rest = np.stack([np.delete(e, k, axis=1).sum(axis=1) for k in range(6)], axis=1)
    rest /= e.sum(axis=1, keepdims=True)
    promised = (p <= 0.5) | (np.arange(6) == y[:, None])
    gap = x.max(axis=1, keepdims=True) - x
    others = np.where(gap == 0, 0, e)
    mean_gap = (others * gap).sum(axis=1, keepdims=True) / others.sum(axis=1, keepdims=True)
    gap = np.where(gap == 0, mean_gap, gap)
    bound = factor(backend) * (_pointwise.MULTINOMIAL_HESSIAN_ULP + 3 * gap)
    errors = ulps(hessian, p * rest)
    assert promised.mean() > 0.9
    assert (errors <= bound)[promised].all()
    assert_allclose(hessian, (p * rest).astype(dtype), atol=4 * np.finfo(dtype).eps)


@needs_longdouble
@each_dtype
def test_binomial_hessians_and_gradients_keep_their_digits(backend, dtype):
    z = np.linspace(-80, 80, 4001).astype(dtype)
    exact_e = np.exp(-np.abs(z.astype(longdouble)))
    for target in (0, 1):
        y = np.full_like(z, target)
        grad, hessian = results(CyHalfBinomialLoss(), "gradient_hessian", y, z, None)
        confident = exact_e / (1 + exact_e)
        right = (z > 0) == target
        bound = factor(backend) * _pointwise.BINOMIAL_HESSIAN_ULP
        assert (ulps(hessian, exact_e / (1 + exact_e) ** 2) <= bound).all()
        sign = 1 - 2 * target
        assert (ulps(grad, sign * np.where(right, confident, 1 / (1 + exact_e))) <= bound).all()


def test_confident_rows_have_losses_gradients_and_hessians(backend):
    y, raw = np.array([0.0]), np.array([[40.0, 0.0]])
    loss, grad = results(CyHalfMultinomialLoss(), "loss_gradient", y, raw, None)
    _, hessian = results(CyHalfMultinomialLoss(), "gradient_hessian", y, raw, None)
    _, proba = results(CyHalfMultinomialLoss(), "gradient_proba", y, raw, None)
    share = 4.248354255291589e-18
    assert_allclose(loss, [share], rtol=1e-15)
    assert_allclose(grad, [[-share, share]], rtol=1e-15)
    assert_allclose(hessian, [[share, share]], rtol=1e-15)
    assert_allclose(proba, [[1, share]], rtol=1e-15)


@each_method
def test_rows_of_weight_0_give_0(backend, method):
    y, raw, _ = problem(6, 3)
    raw[2] = np.nan
    weight = np.ones(6)
    weight[2] = 0
    for out in results(CyHalfMultinomialLoss(), method, y, raw, weight)[:2]:
        if method != "gradient_proba":
            assert_array_equal(out[2], np.zeros_like(out[2]))
        assert not np.isnan(out[[0, 1, 3, 4, 5]]).any()


@each_binomial_method
def test_elements_of_weight_0_give_0(backend, method):
    y, raw, weight = binary_problem(6)
    raw[2], weight[2] = np.nan, 0
    for out in results(CyHalfBinomialLoss(), method, y, raw, weight):
        assert out[2] == 0
        assert not np.isnan(out).any()


@each_method
@pytest.mark.parametrize("out_dtype", DTYPES)
def test_threads_and_blocks_change_no_bit(
    backend, threads_for_small_problems, monkeypatch, method, out_dtype
):
    y, raw, weight = problem(503, 7)
    one = results(CyHalfMultinomialLoss(), method, y, raw, weight, out_dtype)
    monkeypatch.setattr(_arrays, "BLOCK_ELEMENTS", 100)
    three = results(CyHalfMultinomialLoss(), method, y, raw, weight, out_dtype, n_threads=3)
    for a, b in zip(one, three, strict=True):
        assert_same_bits(a, b)


@each_method
def test_views_give_what_their_copies_do(backend, small_blocks, method):
    y, raw, weight = problem(400, 10)
    y, raw, weight = y % 5, raw[:, ::2], weight
    strided = results(CyHalfMultinomialLoss(), method, y[::2], raw[::2], weight[::2])
    y, raw, weight = y[::2].copy(), raw[::2].copy(), weight[::2].copy()
    for a, b in zip(strided, results(CyHalfMultinomialLoss(), method, y, raw, weight), strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("method", ["gradient", "loss_gradient", "gradient_hessian"])
def test_outputs_that_are_inputs(backend, small_blocks, method):
    y, raw, weight = problem()
    expected = results(CyHalfMultinomialLoss(), method, y, raw, weight)
    outs = outputs(raw, MULTINOMIAL[method], "float64")
    outs[-1] = raw
    getattr(CyHalfMultinomialLoss(), method)(y, raw, weight, *outs)
    for a, b in zip(outs, expected, strict=True):
        assert_same_bits(a, b)


def test_an_output_that_overlaps_in_part(backend, small_blocks):
    y, raw, _ = problem(100, 4, "float64")
    (expected,) = results(CyHalfMultinomialLoss(), "gradient", y, raw, None)
    room = np.empty((103, 4))
    room[:100] = raw  # of which each block's gradient covers what the next one reads
    CyHalfMultinomialLoss().gradient(y, room[:100], None, room[3:])
    assert_same_bits(room[3:].copy(), expected)


@each_method
def test_no_rows(backend, method):
    y, raw, weight = problem(0, 3)
    for out in results(CyHalfMultinomialLoss(), method, y, raw, weight, "float32"):
        assert out.size == 0


@each_method
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": -1.0}, IndexError, r"y_true must be in \[0, 5\), got -1.0 in row 150"),
        ({"y": 5.0}, IndexError, r"y_true must be in \[0, 5\), got 5.0 in row 150"),
        ({"y": 0.5}, ValueError, r"y_true must hold class indices, got 0.5 in row 150"),
    ],
)
def test_nothing_is_written_for_a_wrong_target(
    backend, small_blocks, method, change, error, message
):
    y, raw, weight = problem()
    y[150] = change["y"]
    outs = outputs(raw, MULTINOMIAL[method], "float32")
    with pytest.raises(error, match=message):
        getattr(CyHalfMultinomialLoss(), method)(y, raw, weight, *outs)
    for out in outs:
        assert (out == 99).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_a_target_of_nan(backend):
    y, raw, _ = problem()
    y[3] = np.nan
    with pytest.raises(IndexError, match="got nan in row 3"):
        results(CyHalfMultinomialLoss(), "loss", y, raw, None)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"raw": [[0.0]]}, TypeError, r"raw_prediction must be a numpy.ndarray, got list"),
        ({"raw": np.zeros(4)}, ValueError, r"raw_prediction must have 2 dimensions, got shape"),
        ({"raw": np.zeros((4, 0))}, ValueError, r"raw_prediction must have at least one class"),
        ({"raw": np.zeros((4, 3), int)}, TypeError, r"raw_prediction must be float32 or float64"),
        ({"raw": np.zeros((4, 3), ">f8")}, TypeError, r"must be float32 or float64, got .*>f8"),
        ({"raw": np.ma.zeros((4, 3))}, TypeError, r"raw_prediction must be a numpy.ndarray"),
        ({"y": np.zeros(3)}, ValueError, r"y_true must have shape \(4,\), got shape \(3,\)"),
        ({"y": np.zeros(4, "f4")}, TypeError, r"y_true must have raw_prediction's dtype float64"),
        ({"weight": np.ones(5)}, ValueError, r"sample_weight must have shape \(4,\)"),
        ({"weight": np.ones(4, "f4")}, TypeError, r"sample_weight must have raw_prediction's"),
        ({"loss": np.ones(5)}, ValueError, r"loss_out must have shape \(4,\), got shape \(5,\)"),
        ({"loss": np.ones(4, "f4")}, TypeError, r"loss_out and gradient_out must have the same"),
        ({"loss": None}, TypeError, r"loss_out must be a numpy.ndarray, got None"),
        ({"grad": np.ones((4, 2))}, ValueError, r"gradient_out must have shape \(4, 3\)"),
        ({"grad": np.broadcast_to(1.0, (4, 3))}, ValueError, r"gradient_out must be writeable"),
        ({"n_threads": 0}, ValueError, r"n_threads must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_arguments(backend, threads_for_small_problems, changed, error, message):
    if "n_threads" in changed:  # small problems never ask
        given = dict(zip(("y", "raw", "weight"), problem(), strict=True))
        given |= {"loss": np.zeros(200), "grad": np.zeros((200, 5)), "n_threads": 0}
    else:
        given = {"y": np.zeros(4), "raw": np.zeros((4, 3)), "weight": None}
        given |= {"loss": np.zeros(4), "grad": np.zeros((4, 3)), "n_threads": 1} | changed
    with pytest.raises(error, match=message):
        CyHalfMultinomialLoss().loss_gradient(*given.values())


def test_memory_is_bounded():
    y, raw, _ = problem(100_000, 10, order="F")
    outs = outputs(raw, ("class", "class"), "float32", "F")
    CyHalfMultinomialLoss().gradient_hessian(y, raw, None, *outs)
    tracemalloc.start()
    try:
        CyHalfMultinomialLoss().gradient_hessian(y, raw, None, *outs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # int64 classes, the comparison's bools, and three blocks
    assert peak < 9.5 * len(y) + 3 * 8 * _arrays.BLOCK_ELEMENTS + 50_000 < raw.nbytes / 3


def test_calls_from_several_threads(backend):
    y, raw, weight = problem(2000, 10)
    expected = results(CyHalfMultinomialLoss(), "gradient_hessian", y, raw, weight)
    loss, found = CyHalfMultinomialLoss(), []

    def call():
        for _ in range(5):
            found.append(results(loss, "gradient_hessian", y, raw, weight))  # noqa: PERF401

    workers = [threading.Thread(target=call) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    for outs in found:
        for a, b in zip(outs, expected, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize(
    "loss",
    [CyHalfMultinomialLoss(), CyHalfBinomialLoss(), HalfMultinomialLoss(), HalfBinomialLoss()],
)
@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_losses_are_copied_and_pickled(loss, way):
    again = way(loss)
    assert type(again) is type(loss)
    if hasattr(loss, "closs"):
        assert type(again.closs) is type(loss.closs)
        assert again.closs.__module__.startswith("fastlse")


def test_loss_objects_have_scikit_learns_values(backend):
    from sklearn._loss.loss import HalfBinomialLoss as Binomial
    from sklearn._loss.loss import HalfMultinomialLoss as Multinomial

    y, raw, weight = problem(150, 4)
    ours, expected = HalfMultinomialLoss(n_classes=4), Multinomial(n_classes=4)
    assert isinstance(ours, Multinomial)
    weight = np.abs(weight)
    assert_allclose(ours(y, raw, weight), expected(y, raw, weight), rtol=1e-14)
    assert_allclose(ours.predict_proba(raw), expected.predict_proba(raw), rtol=1e-13)
    assert_array_equal(ours.fit_intercept_only(y, weight), expected.fit_intercept_only(y, weight))
    y, raw, weight = binary_problem(150)
    ours, expected = HalfBinomialLoss(), Binomial()
    assert_allclose(ours.predict_proba(raw), expected.predict_proba(raw), rtol=1e-13)
    assert_array_equal(ours.predict_proba(raw[:, None]), ours.predict_proba(raw))
    assert ours.predict_proba(raw.astype("float32")).dtype == np.float32


DATA = {
    "iris": (load_iris, HalfMultinomialLoss(n_classes=3)),
    "digits": (load_digits, HalfMultinomialLoss(n_classes=10)),
    "breast_cancer": (load_breast_cancer, HalfBinomialLoss()),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_hist_gradient_boosting_gives_the_same_model(name, early_stopping):
    load, loss = DATA[name]
    X, y = load(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y)) if early_stopping else None
    options = {"max_iter": 10, "random_state": 0, "early_stopping": early_stopping}
    with threadpool_limits(1):  # whose threads wait for each other where others work, too
        ours = HistGradientBoostingClassifier(loss=loss, **options).fit(X, y, weight)
        expected = HistGradientBoostingClassifier(**options).fit(X, y, weight)
        assert ours._loss is loss
        assert ours.n_iter_ == expected.n_iter_
        assert_array_equal(ours.predict(X), expected.predict(X))
        assert_allclose(ours.decision_function(X), expected.decision_function(X), atol=1e-9)
        assert_allclose(ours.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-10)
