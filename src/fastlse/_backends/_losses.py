"""The cross-entropy of the reference backend, and its gradient.

Every row's loss is made of *pulls*: pull_c is the weight that the loss puts on class c, one number
for each class whether the target is a class or a distribution. With mass = sum_c pull_c,

    loss     = sum_c pull_c * (lse - y_c)  +  z_loss * lse**2
    gradient = (mass + 2 * z_loss * lse) * softmax(y) - pull

where y is x, or softcap * tanh(x / softcap) and the gradient then times 1 - tanh(x / softcap)**2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._blocks import row_blocks
from ._rows import DEEP, Rows, add_up, flushed, work_dtype

if TYPE_CHECKING:
    from ._blocks import Array, Columns, RowBlock


def check_target(
    target: Array,
    n_classes: int,
    weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int,
) -> tuple[int, float]:
    """Find the first row with an invalid target (or -1) and sum the weights of the kept rows."""
    kept = target != ignore_index
    invalid = kept & ((target < 0) | (target >= n_classes))
    if invalid.any():
        return int(invalid.argmax()), 0.0
    if sample_weight is not None:
        kept &= sample_weight != 0
    row_weights = np.ones(np.count_nonzero(kept))
    if weight is not None:
        row_weights *= weight[target[kept]]
    if sample_weight is not None:
        row_weights *= sample_weight[kept]
    return -1, float(row_weights.sum())


@np.errstate(all="ignore")
def cross_entropy(
    logits: Array,
    target: Array | None,
    probabilities: Array | None,
    loss: Array | None,
    grad: Array | None,
    weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    grad_scale: float,
    n_threads: int,
) -> float:
    """Write each row's loss to `loss` and its scaled gradient to `grad`; return the losses' sum.

    One of `target`, a class for each row, and `probabilities`, rows like those of the logits, is
    given. A `softcap` of 0 is none. With class weights w, K classes, smoothing eps, and q the
    probabilities or 1 at the target,

        pull_c = w_c * (1 - eps) * q_c  +  w_c * eps / K
    """
    work = work_dtype(logits.dtype)
    n_classes = logits.shape[-1]
    weights = np.ones(n_classes, work) if weight is None else weight.astype(work)
    smoothing = weights * (label_smoothing / n_classes)
    weights = (1 - label_smoothing) * weights
    sums = []
    for block in row_blocks(logits.shape, 1):
        rows = CappedRows(logits, block, softcap) if softcap else Rows(logits, None, block)
        row_weight = np.ones(block.n_rows, work)
        if sample_weight is not None:
            row_weight = sample_weight[block.rows].astype(work)
        kept = row_weight != 0
        pulls: _Pulls
        if probabilities is not None:
            pulls = _ProbabilityPulls(rows, probabilities, weights, smoothing)
        else:
            assert target is not None
            kept &= target[block.rows] != ignore_index
            classes = np.where(kept, target[block.rows], 0)
            pulls = _ClassPulls(rows, classes, weights, smoothing)
        lse = rows.logsumexp() if z_loss else np.zeros(block.n_rows, work)
        losses = np.where(kept, row_weight * (pulls.loss() + z_loss * lse**2), 0)
        sums.append(losses.sum())
        if loss is not None:
            loss[block.rows] = losses
        if grad is not None:
            scale = np.where(kept, row_weight * grad_scale, 0)
            pulls.write_gradient(grad, scale, 2 * z_loss * lse)
    return float(np.sum(sums))


class CappedRows(Rows):
    """Rows of softcap * tanh(x / softcap)."""

    def __init__(self, x: Array, block: RowBlock, softcap: float) -> None:
        self.softcap = softcap
        super().__init__(x, None, block)

    def values(self, piece: Columns) -> Array:
        """The capped logits, the same bits at each call."""
        if self._only_piece is not None:
            return self._only_piece
        values = capped(super().values(piece), self.softcap)
        if len(self.block.columns) == 1:
            self._only_piece = values
        return values

    def slope(self, piece: Columns) -> Array:
        """The capped logits' derivative."""
        x = self.block.read(self.x, piece).astype(self.work, copy=False)
        return slope_of_cap(x, self.softcap)


def capped(x: Array, softcap: float) -> Array:
    """The logits softcap * tanh(x / softcap)."""
    return np.asarray(softcap * np.tanh(x / softcap))


def slope_of_cap(x: Array, softcap: float) -> Array:
    """1 - tanh(x / softcap)**2 where that difference has digits left, and where it has none."""
    e = np.exp(-2 * np.abs(x / softcap))
    return np.asarray(4 * e / (1 + e) ** 2)


class _Pulls:
    """What the loss puts on each class of a block's rows.

    Attributes
    ----------
    own : ndarray of int
        The class of each row whose gradient may be a small difference from the mass.
    of_own, others : ndarray
        The pull on that class, and the sum of the pulls on the others.
    mass : ndarray
        The sum of the pulls on all classes.
    """

    own: Array
    of_own: Array
    others: Array
    mass: Array

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        finite = np.isfinite(rows.row_max)
        self.log_total = np.where(finite, rows.log_total, np.nan)
        self.total = np.where(finite, 1 + rows.rest, np.nan)

    def loss(self) -> Array:
        """Each row's loss, but for its own weight and for z_loss."""
        raise NotImplementedError

    def of(self, piece: Columns) -> Array:
        """The pulls on some of the classes; those on the rows' own are in `of_own`."""
        raise NotImplementedError

    def gaps(self, piece: Columns) -> Array:
        """Each pull * (row_max - y): one of 0 drops the class, even where the logit is -inf."""
        pulls = self.of(piece)
        gaps = (self.rows.row_max[:, None] - self.rows.values(piece)) * pulls
        return np.where(pulls == 0, 0, gaps)

    def write_gradient(self, grad: Array, scale: Array, lse_slope: Array) -> None:
        """Write scale * d loss / d logits; rows whose scale is 0 get exact zeros.

        At the row's own class, mass * p - pull is rewritten as others - mass * (1 - p), with 1 - p
        computed as the other classes' share: a difference of two numbers near the mass would lose
        it. Where most of the mass is on the others, it is they who would be such numbers.
        """
        rows = self.rows
        zero = (scale == 0) | (rows.row_max == -np.inf)
        for piece in rows.block.columns:
            terms = rows.exp(piece)
            height = (self.mass + lse_slope) / self.total
            pulls = self.of(piece)
            values = height[:, None] * terms - pulls
            here = np.flatnonzero((self.own >= piece.start) & (self.own < piece.stop))
            place = self.own[here] - piece.start
            values[here, place] = self._at_own(terms[here, place], here, lse_slope[here])
            slope = rows.slope(piece) if isinstance(rows, CappedRows) else 1
            values *= slope
            values *= scale[:, None]
            if (np.abs(scale) > 1).any():  # a weight may lift a subnormal term to where it counts
                deep = (terms < DEEP) & (pulls == 0)
                deep[here, place] = False
                products = rows.deep_products(piece, height * scale) * slope
                values = np.where(deep, products, values)
            values[zero] = 0
            rows.block.write(grad, piece, flushed(values, grad.dtype))

    def _at_own(self, term: Array, rows: Array, lse_slope: Array) -> Array:
        """The gradient of some rows at their own classes, whose exp(y - row_max) is given."""
        mass, total, of_own, others = (
            array[rows] for array in (self.mass, self.total, self.of_own, self.others)
        )
        share = term / total
        share_of_others = ((1 - term) + self.rows.rest[rows]) / total
        at_own = np.where(
            np.abs(of_own) < np.abs(others), mass * share - of_own, others - mass * share_of_others
        )
        return np.asarray(at_own + lse_slope * share)


class _ClassPulls(_Pulls):
    """One class of each row and, smoothed, all."""

    def __init__(self, rows: Rows, classes: Array, weights: Array, smoothing: Array) -> None:
        super().__init__(rows)
        self.own, self.smoothing, self.target_weight = classes, smoothing, weights[classes]
        self.of_own = self.target_weight + smoothing[classes]
        self.others = smoothing.sum() - smoothing[classes]
        self.mass = self.target_weight + smoothing.sum()

    def of(self, piece: Columns) -> Array:
        return self.smoothing[piece.start : piece.stop]

    def loss(self) -> Array:
        """Both terms are sums of non-negative parts."""
        rows = self.rows
        to_target = (rows.row_max - self._target_logit()) + self.log_total
        # A weight of 0 drops the class, even where the logit is -inf.
        losses = np.where(
            self.target_weight == 0, 0 * self.log_total, self.target_weight * to_target
        )
        if self.smoothing.any():
            to_all = add_up([self.gaps(piece).sum(axis=1) for piece in rows.block.columns])
            losses = losses + (to_all + self.smoothing.sum() * self.log_total)
        return losses

    def _target_logit(self) -> Array:
        rows = self.rows
        if isinstance(rows, CappedRows):
            # From the very values whose maximum is taken: a confident row's difference is exact.
            logit = np.empty(rows.block.n_rows, rows.work)
            for piece in rows.block.columns:
                here = np.flatnonzero((self.own >= piece.start) & (self.own < piece.stop))
                logit[here] = rows.values(piece)[here, self.own[here] - piece.start]
            return logit
        logits = rows.x[rows.block.box]
        places = self.own.reshape(*logits.shape[:-1], 1)
        logit = np.take_along_axis(logits, places, axis=-1).reshape(-1)
        return logit.astype(rows.work)


class _ProbabilityPulls(_Pulls):
    """Each class of each row by its probability; the own class is the one of the maximum."""

    def __init__(self, rows: Rows, probabilities: Array, weights: Array, smoothing: Array) -> None:
        super().__init__(rows)
        self.probabilities, self.weights, self.smoothing = probabilities, weights, smoothing
        self.own = rows.position
        self.of_own = np.zeros(rows.block.n_rows, rows.work)
        sums = []
        for piece in rows.block.columns:
            pulls = self.of(piece)
            here = np.flatnonzero((self.own >= piece.start) & (self.own < piece.stop))
            place = self.own[here] - piece.start
            self.of_own[here] = pulls[here, place]
            pulls[here, place] = 0
            sums.append(pulls.sum(axis=1))
        self.others = add_up(sums)
        self.mass = self.others + self.of_own

    def of(self, piece: Columns) -> Array:
        part = slice(piece.start, piece.stop)
        probabilities = self.rows.block.read(self.probabilities, piece).astype(self.rows.work)
        return np.asarray(self.weights[part] * probabilities + self.smoothing[part])

    def loss(self) -> Array:
        gaps = add_up([self.gaps(piece).sum(axis=1) for piece in self.rows.block.columns])
        return np.asarray(gaps + self.mass * self.log_total)
