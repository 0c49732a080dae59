"""Numbers: every result is within (c + gap) ulp of the exact one, for rows of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mpmath
import numpy as np
import pytest
import reference
from reference import (
    DTYPES,
    KINDS,
    LENGTHS,
    assert_flushed_within,
    assert_lse_within,
    assert_within,
    exact,
    exact_loss,
    factor,
    longdouble,
    make_rows,
    n_rows_for,
    needs_longdouble,
)

import fastlse


@dataclass(frozen=True)
class Batch:
    """Rows of one length, their targets, and everything exact about them."""

    x: np.ndarray
    columns: np.ndarray  # the same rows as columns: for the kernel across problems
    rows: reference.Exact
    target: np.ndarray
    losses: reference.ExactLoss


@pytest.fixture(
    scope="module",
    params=[(kind, lengths, dtype) for kind in KINDS for lengths in LENGTHS for dtype in DTYPES],
    ids=lambda param: " ".join(param),
)
def batches(request):
    """Rows of one kind and dtype in several lengths; pytest runs all tests of one together."""
    kind, lengths, dtype = request.param
    result = []
    for n in LENGTHS[lengths]:
        x = make_rows(kind, n_rows_for(n), n, dtype)
        rng = np.random.default_rng(n)
        # Half of the targets are the maximum, so that confident rows are there.
        target = np.where(rng.random(len(x)) < 0.5, x.argmax(axis=1), rng.integers(n, size=len(x)))
        columns = np.ascontiguousarray(x.T)
        result.append(Batch(x, columns, exact(x), target, exact_loss(x, target)))
    return result


@needs_longdouble
class TestEveryRow:
    def test_logsumexp(self, batches, backend):
        for batch in batches:
            for lse in (
                fastlse.logsumexp(batch.x, axis=1),
                fastlse.logsumexp(batch.x, axis=1, n_threads=1),
                fastlse.logsumexp(batch.columns, axis=0),
            ):
                assert_lse_within(lse, batch.rows, factor(backend))

    def test_softmax(self, batches, backend):
        for batch in batches:
            exact, gap = batch.rows.softmax, batch.rows.softmax_gap
            for softmax in (
                fastlse.softmax(batch.x, axis=1),
                fastlse.softmax(batch.columns, axis=0).T,
            ):
                bound = factor(backend) * (reference.SOFTMAX + gap)
                assert_flushed_within(softmax, exact, bound)

    def test_log_softmax(self, batches, backend):
        for batch in batches:
            exact, gap = batch.rows.log_softmax, batch.rows.log_softmax_gap
            for log_softmax in (
                fastlse.log_softmax(batch.x, axis=1),
                fastlse.log_softmax(batch.columns, axis=0).T,
            ):
                bound = factor(backend) * (reference.LOG_SOFTMAX + gap)
                assert_within(log_softmax, exact, bound)

    def test_logsumexp_and_softmax(self, batches, backend):
        for batch in batches:
            bound = factor(backend) * (reference.SOFTMAX + batch.rows.softmax_gap)
            lse, softmax = fastlse.logsumexp_and_softmax(batch.x)
            assert_lse_within(lse, batch.rows, factor(backend))
            assert_flushed_within(softmax, batch.rows.softmax, bound)
            lse, softmax = fastlse.logsumexp_and_softmax(batch.columns, axis=0)
            assert_lse_within(lse, batch.rows, factor(backend))
            assert_flushed_within(softmax.T, batch.rows.softmax, bound)

    def test_cross_entropy_of_each_row(self, batches, backend):
        for batch in batches:
            losses = batch.losses
            bound = factor(backend) * (reference.CROSS_ENTROPY + losses.loss_gap)
            grad_bound = factor(backend) * (reference.GRADIENT + losses.grad_gap)
            loss, grad = fastlse.cross_entropy_and_grad(batch.x, batch.target, reduction="none")
            assert_within(loss, losses.loss, bound)
            assert_flushed_within(grad, losses.grad, grad_bound)
            loss, grad = fastlse.cross_entropy_and_grad(
                batch.columns, batch.target, axis=0, reduction="none"
            )
            assert_within(loss, losses.loss, bound)
            assert_flushed_within(grad.T, losses.grad, grad_bound)
            loss = fastlse.cross_entropy(batch.x, batch.target, reduction="none")
            assert_within(loss, losses.loss, bound)

    def test_mean_loss(self, batches, backend):
        for batch in batches:
            losses, n_rows = batch.losses, len(batch.x)
            bound = factor(backend) * (reference.CROSS_ENTROPY + losses.loss_gap.max())
            grad_bound = factor(backend) * (reference.GRADIENT + losses.grad_gap)
            loss, grad = fastlse.cross_entropy_and_grad(batch.x, batch.target)
            assert_within(loss, losses.loss.mean(), bound)
            assert_flushed_within(grad, losses.grad / n_rows, grad_bound)
            loss = fastlse.cross_entropy(batch.x, batch.target)
            assert_within(loss, losses.loss.mean(), bound)


def columns(x):
    return np.ascontiguousarray(x.T)


@lru_cache(maxsize=1)
def delicate_rows(kind, dtype):
    """Many rows where the maximum is no longer all of logsumexp and its others err alike."""
    rng = np.random.default_rng(0)
    result = []
    for n, n_rows in [(3, 1000), (10, 2000), (64, 1000), (1000, 200), (5000, 50)]:
        if kind == "small maximum":
            # As many differences with the same rounding error as there are elements.
            x = np.repeat(-rng.uniform(0, 25, (n_rows, 1)), n, axis=1)
            x[:, n // 2] = 10 ** rng.uniform(-8, 1, n_rows)
        elif kind == "cancelling":
            x = rng.standard_normal((n_rows, n))
            x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
            x += rng.choice([0, 1e-9, 1e-6, 1e-3, -0.1], (n_rows, 1))
        else:
            x = np.repeat(rng.uniform(-np.log(n) - 1, -np.log(n), (n_rows, 1)), n, axis=1)
            x[:, n // 2] += rng.uniform(0, 3, n_rows)
        x = x.astype(dtype)
        result.append((x, exact(x)))
    return result


@needs_longdouble
@pytest.mark.parametrize("kind", ["small maximum", "cancelling", "tied and cancelling"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_delicate_logsumexp(dtype, kind, backend):
    for x, rows in delicate_rows(kind, dtype):
        assert_lse_within(fastlse.logsumexp(x, axis=1), rows, factor(backend))
        assert_lse_within(fastlse.logsumexp(columns(x), axis=0), rows, factor(backend))
        assert_lse_within(fastlse.logsumexp_and_softmax(x)[0], rows, factor(backend))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_terms_that_underflow(backend, dtype):
    """Terms too small for the dtype one by one still count where their sum is not."""
    depths = np.array([95, 100, 103, 105, 108] if dtype == "float32" else [720, 740, 745, 748])
    for n in (100, 5000, 70_000):
        x = np.repeat(-depths[:, None], n, axis=1).astype(dtype)
        x[:, n // 3] = 0
        rows = exact(x)
        target = np.full(len(x), n // 3)
        losses = exact_loss(x, target)
        bound = factor(backend) * (reference.CROSS_ENTROPY + losses.loss_gap)
        assert_lse_within(fastlse.logsumexp(x, axis=1), rows, factor(backend))
        assert_within(fastlse.cross_entropy(x, target, reduction="none"), losses.loss, bound)
        bound = factor(backend) * (reference.LOG_SOFTMAX + rows.log_softmax_gap)
        assert_within(fastlse.log_softmax(x, axis=1), rows.log_softmax, bound)


@needs_longdouble
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_with_positive_factors(backend, dtype, kind):
    """b > 0 adds log(b) to an element; the largest sum takes the maximum's place."""
    for n in [1, 2, 10, 63, 64, 65, 257, 5000]:
        x = make_rows(kind, 9, n, dtype)
        rng = np.random.default_rng(n)
        b = (10 ** rng.uniform(-30, 30, x.shape)).astype(dtype)
        b[:3] = rng.uniform(0.5, 2, b[:3].shape)
        shifted = x.astype(longdouble) + np.log(b.astype(longdouble))
        rows = exact(shifted)
        leader = shifted.argmax(axis=1)[:, None]
        # Where a and log(b), or their sum and the rest, cancel: 1 ulp of the largest of them.
        largest = np.maximum(
            np.abs(np.take_along_axis(x, leader, 1)[:, 0].astype(longdouble)),
            np.abs(rows.row_max - np.take_along_axis(x, leader, 1)[:, 0]),
        )
        bound = np.maximum(
            reference.LOGSUMEXP, reference.ulp(largest, dtype) / reference.ulp(rows.lse, dtype)
        )
        for lse in (
            fastlse.logsumexp(x, axis=1, b=b),
            fastlse.logsumexp(columns(x), axis=0, b=columns(b)),
        ):
            assert_within(lse, rows.lse, factor(backend) * bound)


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_with_factors_of_both_signs(backend, dtype):
    """A difference is as accurate as its condition (sum of sizes over size of the sum) allows."""
    for n in [2, 3, 10, 64, 65, 1000]:
        rng = np.random.default_rng(n)
        x = rng.standard_normal((200, n)).astype(dtype)
        b = rng.standard_normal((200, n)).astype(dtype)
        terms = b.astype(longdouble) * np.exp(x.astype(longdouble))
        total = terms.sum(axis=1)
        condition = np.abs(terms).sum(axis=1) / np.abs(total)
        distance = (x.max(axis=1, keepdims=True) - x).max(axis=1)
        lse, sign = fastlse.logsumexp(x, axis=1, b=b, return_sign=True)
        np.testing.assert_array_equal(sign, np.sign(total))
        bound = reference.LOGSUMEXP * np.finfo(dtype).eps * (1 + distance) * condition
        within = reference.LOGSUMEXP * reference.ulp(np.log(np.abs(total)), dtype) + bound
        error = np.abs(lse.astype(longdouble) - np.log(np.abs(total)))
        assert np.all(error <= factor(backend) * within)


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 17, 64])
def test_reference_against_mpmath(dtype, n):
    """The reference is itself right: a thousand times nearer than the bounds ask for."""
    eps = np.finfo(dtype).eps
    with mpmath.workdps(700):  # enough that 1 + exp(-1500) is not 1
        for kind in KINDS:
            x = make_rows(kind, 3, n, dtype)
            rows = exact(x)
            for i, row in enumerate(x):
                terms = [mpmath.exp(mpmath.mpf(float(value))) for value in row]
                total = mpmath.fsum(terms)
                lse = mpmath.log(total)
                scale = max(abs(lse), abs(mpmath.mpf(float(rows.row_max[i]))))
                if rows.row_max[i] == 0:
                    scale = lse  # nothing cancels: to the last bits of the smallest of numbers
                assert abs(_mpf(rows.lse[i]) - lse) <= eps / 1000 * (1 + rows.lse_gap[i]) * scale
                for j, term in enumerate(terms):
                    p = term / total
                    error = abs(_mpf(rows.softmax[i, j]) - p)
                    assert error <= eps / 1000 * (1 + rows.softmax_gap[i, j]) * p
                    error = abs(_mpf(rows.log_softmax[i, j]) - mpmath.log(p)) if p else 0
                    bound = 1 + rows.log_softmax_gap[i, j]
                    assert error <= eps / 1000 * bound * abs(mpmath.log(p) if p else 0)


def _mpf(value):
    """A longdouble as an mpmath number, exactly, below the range of float64 too."""
    mantissa, exponent = np.frexp(value)
    high = float(mantissa)
    low = float(mantissa - longdouble(high))
    return (mpmath.mpf(high) + mpmath.mpf(low)) * mpmath.mpf(2) ** int(exponent)


@pytest.mark.parametrize("dtype", DTYPES)
def test_confident_rows_against_mpmath(backend, dtype):
    """Short rows against mpmath alone, where numpy.longdouble may be no wider than float64."""
    times = factor(backend)
    with mpmath.workdps(60):
        for distance in [1, 10, 20, 40, 80]:
            x = np.array([distance, 0, 0], dtype)
            rest = 2 * mpmath.exp(-distance)
            ulp = float(np.spacing(np.dtype(dtype).type(rest)))
            loss, grad = fastlse.cross_entropy_and_grad(x, 0, reduction="sum")
            assert abs(loss - mpmath.log1p(rest)) <= times * (3 + distance) * ulp
            assert abs(-grad[0] - rest / (1 + rest)) <= times * (6 + distance) * ulp
            assert (
                abs(-fastlse.log_softmax(x)[0] - mpmath.log1p(rest)) <= times * (3 + distance) * ulp
            )


class TestNamedExamples:
    def test_confident_loss(self, backend):
        assert f"{fastlse.cross_entropy([40.0, 0.0, 0.0], 0):.4e}" == "8.4967e-18"
        confident = np.array([20, 0, 0], np.float32)
        assert f"{fastlse.cross_entropy(confident, 0):.4e}" == "4.1223e-09"

    def test_target_gradient_is_the_others_share(self, backend):
        _, grad = fastlse.cross_entropy_and_grad([40.0, 0.0, 0.0], 0)
        assert grad[0] == pytest.approx(-2 * np.exp(-40), rel=1e-14)
        assert grad[0] == pytest.approx(-(grad[1] + grad[2]), rel=1e-15)

    def test_confident_logsumexp(self, backend):
        assert f"{fastlse.logsumexp([0.0, -40.0]):.4e}" == "4.2484e-18"
        assert fastlse.logsumexp([0.0, -40.0]) == pytest.approx(4.248354255291589e-18, rel=1e-14)

    def test_factors_of_any_size(self, backend):
        assert fastlse.logsumexp([0.0, 0.0], b=[1e308, 1e308]) == pytest.approx(
            709.889355822726, rel=1e-15
        )
        # exp(700) * 5e-324 is about 5e-20, and log(1 + 5e-20) the same.
        lse = fastlse.logsumexp([700.0, 0.0], b=[5e-324, 1.0])
        true = np.exp(700.0) * 5e-324
        assert lse == pytest.approx(true, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 8, 64, 100])
@needs_longdouble
def test_subnormal_values(backend, dtype, n):
    """Logarithms are not flushed: the smallest of them are as accurate as their grid allows."""
    deepest = 103 if dtype == "float32" else 744
    start = 87 if dtype == "float32" else 708
    depths = np.linspace(start, deepest, 40)
    x = np.full((len(depths), n), -np.inf, dtype)
    x[:, n // 2] = 0
    x[:, n // 2 - 1] = -depths
    rows = exact(x)
    tiny = np.finfo(dtype).tiny
    assert np.count_nonzero(rows.lse < tiny) > 30
    assert_lse_within(fastlse.logsumexp(x, axis=1), rows, factor(backend))
    bound = factor(backend) * (reference.LOG_SOFTMAX + rows.log_softmax_gap)
    assert_within(fastlse.log_softmax(x, axis=1), rows.log_softmax, bound)
    target = np.full(len(x), n // 2)
    losses = exact_loss(x, target)
    bound = factor(backend) * (reference.CROSS_ENTROPY + losses.loss_gap)
    assert_within(fastlse.cross_entropy(x, target, reduction="none"), losses.loss, bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_results_are_positive_zero(backend, dtype):
    """Softmax and gradients below the smallest normal number are +0, never subnormal or -0."""
    tiny = np.finfo(dtype).tiny
    deepest = 120 if dtype == "float32" else 800
    for n in [2, 5, 70, 300]:
        x = np.full((64, n), -np.inf, dtype)
        x[:, 0] = 0
        x[:, -1] = -np.linspace(deepest / 2, deepest, 64)
        below = np.exp(x[:, -1].astype(longdouble)) < tiny
        assert 0 < np.count_nonzero(below) < 64
        softmax = fastlse.softmax(x, axis=1)
        target = np.zeros(64, np.int64)
        _, grad = fastlse.cross_entropy_and_grad(x, target, reduction="sum")
        for small in (softmax[:, -1], grad[:, -1], grad[:, 0]):
            assert np.all(small[below] == 0)
            assert not np.any(np.signbit(small[below]))
            assert np.all(np.abs(small[~below]) >= tiny * (1 - 1e-3))
        # The scale of the mean takes more of them below.
        _, grad = fastlse.cross_entropy_and_grad(x, target)
        small = np.abs(grad) < tiny
        assert np.all(grad[small] == 0)
        assert not np.any(np.signbit(grad[small]))


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["tied", "offset", "random"])
def test_error_does_not_grow_with_the_length(backend, dtype, kind):
    """A million elements; tied ones are where the errors of a plain sum all point one way."""
    x = np.full(10**6, 0.7, dtype) if kind == "tied" else _million(kind, dtype)
    rows, times = _exact_million(kind, dtype), factor(backend)
    x = x[None, :]
    assert_lse_within(fastlse.logsumexp(x, axis=1), rows, times)
    bound = times * (reference.SOFTMAX + rows.softmax_gap)
    assert_flushed_within(fastlse.softmax(x, axis=1), rows.softmax, bound)
    loss = fastlse.cross_entropy(x, np.zeros(1, np.int64), reduction="none")
    loss_bound = times * (reference.CROSS_ENTROPY + rows.log_softmax_gap[:, 0])
    assert_within(loss, -rows.log_softmax[:, 0], loss_bound)


def _million(kind, dtype):
    x = np.random.default_rng(1).standard_normal(10**6)
    return (x + (1000 if kind == "offset" else 0)).astype(dtype)


@lru_cache(maxsize=1)
def _exact_million(kind, dtype):
    x = np.full(10**6, 0.7, dtype) if kind == "tied" else _million(kind, dtype)
    return exact(x[None, :])
