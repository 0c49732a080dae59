"""How the pointwise losses, their gradients and hessians are written.

With p = softmax(raw_prediction) a gradient is p_k - [k is the target]. The kernels give the
target's as the negated share of the others, so that a hessian, p_k (1 - p_k), has both its factors:

    of the target:     exp(-loss) and -gradient,
    of another class:  gradient and 1 - gradient.

What the kernels do not write themselves, a hessian or numbers of another dtype, is made block by
block, in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlse import _backends, _threads

from ._arrays import (
    IGNORE_NONE,
    apart,
    as_classes,
    as_inputs,
    check_outputs,
    run_blocks,
)

if TYPE_CHECKING:
    from fastlse._problem import Array

# Error bounds of p (1 - p) in ulp. To the first adds three times the gap of softmax's entry; and a
# class other than the target that is nearly sure leaves 1 - p an error of an ulp of 1, as it does
# in scikit-learn: the bound is for those of at most 1/2.
MULTINOMIAL_HESSIAN_ULP = 8
BINOMIAL_HESSIAN_ULP = 5


class _Pointwise:
    """A checked problem: what is read, of one dtype."""

    ndim: int

    def __init__(
        self, y_true: object, raw_prediction: object, sample_weight: object, **outputs: object
    ) -> None:
        y, raw, weight = as_inputs(y_true, raw_prediction, sample_weight, self.ndim)
        given = check_outputs(raw, outputs)
        self.y = apart(y, given)
        self.raw = apart(raw, given)
        self.weight = None if weight is None else apart(weight, given)

    def kernel(
        self, rows: slice, loss: Array | None, grad: Array | None, weighted: bool, n_threads: int
    ) -> None:
        """Have the backend write some rows' losses and gradients, in the input's dtype."""
        raise NotImplementedError

    def write(self, loss_out: Array | None, gradient_out: Array | None, n_threads: int) -> None:
        """Write losses and gradients: at once where the dtype is the kernels', else by blocks."""
        if not len(self.raw):
            return
        if all(out is None or out.dtype == self.raw.dtype for out in (loss_out, gradient_out)):
            threads = _threads.resolve(n_threads, self.raw.size)
            self.kernel(slice(None), loss_out, gradient_out, True, threads)
            return

        def work(rows: slice, room: Array) -> None:
            loss = None if loss_out is None else np.empty(len(room), room.dtype)
            grad = None if gradient_out is None else room
            self.kernel(rows, loss, grad, True, 1)
            if loss_out is not None:
                loss_out[rows] = loss
            if gradient_out is not None:
                gradient_out[rows] = grad

        run_blocks(self.raw, n_threads, 1, work)

    def write_product(self, rows: slice, p: Array, rest: Array, out: Array) -> None:
        """Write a block's p (1 - p) times their rows' weights; `p` is used up."""
        if self.weight is None:
            np.multiply(p, rest, out=out[rows])
        else:
            np.multiply(p, rest, out=p)
            self.multiply(rows, p, out)

    def multiply(self, rows: slice, values: Array, out: Array) -> None:
        """Write a block's values times their rows' weights; those of weight 0 are 0."""
        into = out[rows]
        if self.weight is None:
            if not np.may_share_memory(values, into):
                into[...] = values
            return
        weight = self.weight[rows]
        np.multiply(values, weight[:, np.newaxis] if self.ndim == 2 else weight, out=into)
        if not weight.all():
            into[weight == 0] = 0


class Multinomial(_Pointwise):
    """Rows of logits, and a class for each."""

    ndim = 2

    def __init__(self, *inputs: object, **outputs: object) -> None:
        super().__init__(*inputs, **outputs)
        self.classes = as_classes(self.y, self.raw.shape[1])

    def kernel(
        self, rows: slice, loss: Array | None, grad: Array | None, weighted: bool, n_threads: int
    ) -> None:
        weight = self.weight if weighted else None
        losses = loss if loss is None or loss.flags.c_contiguous else np.empty_like(loss)
        _backends.active.cross_entropy(
            self.raw[rows],
            self.classes[rows],
            None,
            losses,
            grad,
            None,
            None if weight is None else np.ascontiguousarray(weight[rows], np.float64),
            IGNORE_NONE,
            0.0,
            0.0,
            0.0,
            1.0,
            n_threads,
        )
        if loss is not None and losses is not loss:
            loss[...] = losses

    def write_gradient_hessian(
        self, gradient_out: Array, hessian_out: Array, n_threads: int
    ) -> None:
        """Write gradients and the hessians' diagonals."""
        own = gradient_out.dtype == self.raw.dtype

        def work(rows: slice, p: Array, rest: Array, *room: Array) -> None:
            grad = gradient_out[rows] if own else room[0]
            loss = np.empty(len(grad), grad.dtype)
            self.kernel(rows, loss, grad, False, 1)
            np.abs(grad, out=p)
            np.subtract(1, p, out=rest)
            self.write_of_target(rows, rest, loss)
            self.write_product(rows, p, rest, hessian_out)
            self.multiply(rows, grad, gradient_out)

        run_blocks(self.raw, n_threads, 2 if own else 3, work)

    def write_of_target(self, rows: slice, out: Array, loss: Array) -> None:
        """Write the probability of each row's target to its place; `loss` is used up."""
        np.negative(loss, out=loss)
        out[np.arange(len(out)), self.classes[rows]] = np.exp(loss, out=loss)

    def write_gradient_proba(self, gradient_out: Array, proba_out: Array, n_threads: int) -> None:
        """Write gradients and probabilities; the target's is exp(-loss)."""
        own = gradient_out.dtype == self.raw.dtype

        def work(rows: slice, *room: Array) -> None:
            grad = gradient_out[rows] if own else room[0]
            loss = np.empty(len(grad), grad.dtype)
            self.kernel(rows, loss, grad, False, 1)
            proba = proba_out[rows]
            proba[...] = grad
            self.write_of_target(rows, proba, loss)
            self.multiply(rows, grad, gradient_out)

        run_blocks(self.raw, n_threads, 0 if own else 1, work)


class Binomial(_Pointwise):
    """Log-odds, and a label for each."""

    ndim = 1

    def kernel(
        self, rows: slice, loss: Array | None, grad: Array | None, weighted: bool, n_threads: int
    ) -> None:
        weight = self.weight[rows] if weighted and self.weight is not None else None
        _backends.active.binary_cross_entropy(
            self.raw[rows], self.y[rows], loss, grad, weight, None, 1.0, n_threads
        )

    def write_gradient_hessian(
        self, gradient_out: Array, hessian_out: Array, n_threads: int
    ) -> None:
        """Write gradients and hessians, from q = expit(-abs(z)).

        A gradient is expit(z) - y. Where z is positive that is (1 - y) - q, else q - y: for
        targets of 0 and 1 the first difference is exact.
        """

        def work(rows: slice, q: Array, rest: Array, negative: Array) -> None:
            z = self.raw[rows]
            np.copysign(z, -1, out=q)
            _backends.active.elementwise("expit", q, q, 1)
            np.subtract(1, q, out=rest)
            np.copysign(q, z, out=negative)
            self.write_product(rows, q, rest, hessian_out)
            np.subtract(1, self.y[rows], out=rest)
            np.subtract(rest, np.signbit(z), out=rest)
            np.subtract(rest, negative, out=rest)
            self.multiply(rows, rest, gradient_out)

        run_blocks(self.raw, n_threads, 3, work)
