"""Every operation in one form, for the tests that must hold for all of them.

An operation takes rows `x` and what goes with them (`Extras`), and gives arrays that have one
entry, or one row, for each row of `x`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import fastlse


@dataclass(frozen=True)
class Extras:
    """What goes with the rows: one entry per row, but for `weight` with one per class."""

    b: np.ndarray
    where: np.ndarray
    target: np.ndarray
    sample_weight: np.ndarray
    weight: np.ndarray

    def of(self, rows) -> Extras:
        """The extras of some of the rows."""
        return replace(
            self,
            b=self.b[rows],
            where=self.where[rows],
            target=self.target[rows],
            sample_weight=self.sample_weight[rows],
        )


def rows_and_extras(n_rows, n, dtype, seed=0):
    """Rows with a -inf, an ignored target and a masked element here and there."""
    rng = np.random.default_rng([seed, n_rows, n])
    x = rng.standard_normal((n_rows, n)) * 10 ** rng.uniform(-2, 1.5, (n_rows, 1))
    x[rng.random((n_rows, n)) < 0.02] = -np.inf
    extras = Extras(
        b=rng.standard_normal((n_rows, n)).astype(dtype),
        where=rng.random((n_rows, n)) < 0.7,
        target=np.where(rng.random(n_rows) < 0.1, -100, rng.integers(n, size=n_rows)),
        sample_weight=rng.uniform(0.1, 2, n_rows) * (rng.random(n_rows) > 0.1),
        weight=rng.uniform(0, 2, n).astype(dtype),
    )
    return x.astype(dtype), extras


def _logsumexp(x, extras, axis=-1, **options):
    return (fastlse.logsumexp(x, axis=axis, **options),)


def _logsumexp_with_where(x, extras, axis=-1, **options):
    return (fastlse.logsumexp(x, axis=axis, where=_like(extras.where, axis), **options),)


def _logsumexp_with_b(x, extras, axis=-1, **options):
    b = _like(extras.b, axis)
    return fastlse.logsumexp(x, axis=axis, b=b, return_sign=True, **options)


def _softmax(x, extras, axis=-1, **options):
    return (_rows(fastlse.softmax(x, axis=axis, **options), axis),)


def _softmax_with_where(x, extras, axis=-1, **options):
    where = _like(extras.where, axis)
    return (_rows(fastlse.softmax(x, axis=axis, where=where, **options), axis),)


def _log_softmax(x, extras, axis=-1, **options):
    return (_rows(fastlse.log_softmax(x, axis=axis, **options), axis),)


def _log_softmax_with_where(x, extras, axis=-1, **options):
    where = _like(extras.where, axis)
    return (_rows(fastlse.log_softmax(x, axis=axis, where=where, **options), axis),)


def _logsumexp_and_softmax(x, extras, axis=-1, **options):
    lse, softmax = fastlse.logsumexp_and_softmax(x, axis=axis, **options)
    return lse, _rows(softmax, axis)


def _cross_entropy(x, extras, axis=-1, **options):
    loss = fastlse.cross_entropy(x, extras.target, axis=axis, reduction="none", **options)
    return (loss,)


def _cross_entropy_and_grad(x, extras, axis=-1, **options):
    loss, grad = fastlse.cross_entropy_and_grad(
        x, extras.target, axis=axis, reduction="none", **options
    )
    return loss, _rows(grad, axis)


def _cross_entropy_and_grad_with_options(x, extras, axis=-1, **options):
    loss, grad = fastlse.cross_entropy_and_grad(
        x,
        extras.target,
        extras.weight,
        sample_weight=extras.sample_weight,
        label_smoothing=0.1,
        axis=axis,
        reduction="none",
        **options,
    )
    return loss, _rows(grad, axis)


def _cross_entropy_and_grad_of_probabilities(x, extras, axis=-1, **options):
    # No class that cannot be is pulled: the losses are finite.
    target = np.where(np.isneginf(x), 0, np.abs(_like(extras.b, axis)))
    loss, grad = fastlse.cross_entropy_and_grad(
        x,
        target,
        extras.weight,
        sample_weight=extras.sample_weight,
        z_loss=1e-3,
        axis=axis,
        reduction="none",
        **options,
    )
    return loss, _rows(grad, axis)


def _cross_entropy_and_grad_with_softcap(x, extras, axis=-1, **options):
    loss, grad = fastlse.cross_entropy_and_grad(
        x, extras.target, z_loss=1e-3, softcap=20.0, axis=axis, reduction="none", **options
    )
    return loss, _rows(grad, axis)


def _like(rows, axis):
    return rows.T if axis == 0 else rows


def _rows(result, axis):
    return result.T if axis == 0 else result


OPERATIONS = {
    function.__name__[1:]: function
    for function in (
        _logsumexp,
        _logsumexp_with_where,
        _logsumexp_with_b,
        _softmax,
        _softmax_with_where,
        _log_softmax,
        _log_softmax_with_where,
        _logsumexp_and_softmax,
        _cross_entropy,
        _cross_entropy_and_grad,
        _cross_entropy_and_grad_with_options,
        _cross_entropy_and_grad_of_probabilities,
        _cross_entropy_and_grad_with_softcap,
    )
}

# Those whose rows of results can be written into, or over, an array of the caller's.
WITH_ROWS_OUT = {
    name: function for name, function in OPERATIONS.items() if "softmax" in name or "grad" in name
}


def assert_same_bits(results, expected):
    """Assert that two tuples of arrays are equal to the last bit, -0 and +0 apart; NaN is NaN."""
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        result, other = np.asarray(result), np.asarray(other)
        assert result.dtype == other.dtype
        assert result.shape == other.shape
        same = (result == other) & (np.signbit(result) == np.signbit(other))
        same |= np.isnan(result) & np.isnan(other)
        if not same.all():
            place = tuple(int(i) for i in np.argwhere(~np.atleast_1d(same))[0])
            raise AssertionError(
                f"{np.count_nonzero(~same)} of {same.size} differ, the first at {place}: "
                f"{np.atleast_1d(result)[place]!r} and {np.atleast_1d(other)[place]!r}"
            )
