"""LogSumExpState: the mergeable pair behind every streamed, chunked or distributed logsumexp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _threads
from ._problem import (
    Array,
    Problem,
    as_array,
    as_axis,
    backend_for,
    broadcast,
    can_write_to,
    cast,
    check_out,
    compute_dtype,
    describe,
    finish,
    reduction_problem,
    result_dtype,
)
from ._targets import as_sample_weight

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

# Error bounds in ulp, to which the gap of the difference of two elements adds (see the Notes).
STATE_ULP = 3
STATE_SOFTMAX_ULP = 4
STATE_GRADIENT_ULP = 6

Axis = int | tuple[int, ...] | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LogSumExpState:
    """A part's share in a logsumexp, or an array of them: mergeable in any order.

    A state is the pair of a maximum and of the sum of ``exp(x - max)``, batched like the result of
    `logsumexp`. Make one with `from_array` or `empty`, go on with `update` and `merge`, which
    return new ones, and end with `result`. It pickles, so that threads, processes and machines can
    each reduce what they hold and merge what they found.

    Parameters
    ----------
    states : ndarray
        Maxima, and high and low parts of `rest`: not for callers, who have `from_array`.
    dtype : dtype
        The result's dtype.
    axis : int, tuple of ints or None
        The axes that `update`, `softmax` and `cross_entropy_grad` reduce.

    Raises
    ------
    TypeError, ValueError
        By the methods: see there.

    See Also
    --------
    logsumexp : Everything at once.

    Notes
    -----
    A state keeps `rest`, the sum without the maximum's own element, with twice the digits: what
    little the others add to a dominant element survives all merging. The error of a result, merged
    or not, is within ``STATE_ULP`` ulp of the larger of the result and log(sum), plus half an ulp
    of log(sum) times the mean of ``|x - max|`` over the other elements, weighted by
    ``exp(x - max)``: no more than the rounding of `x` does. It does not grow with the number of
    merges. Where the maximum and log(sum) cancel, a state that was not merged does better, as
    `logsumexp` does: there all of a row is at hand.

    Merging is associative and commutative but for the last rounding. A NaN anywhere gives NaN, else
    +inf gives +inf; empty states and those of -inf alone change nothing.

    **Classes split over processes.** Each process holds some of the columns of the logits. It sends
    the state of its columns and, for the rows whose target it holds, the target's logit (-inf for
    the others). From the merged state everybody has the loss, and each the gradient of its own
    columns::

        state = LogSumExpState.from_array(shard, axis=1)
        ...  # merged: the states of all processes; target_logit: the largest of theirs
        loss = merged.cross_entropy(target_logit)
        grad = merged.cross_entropy_grad(shard, target - first_column)

    Examples
    --------
    >>> import numpy as np
    >>> from fastlse import LogSumExpState
    >>> state = LogSumExpState.from_array([1000.0, 1000.0])
    >>> state = state.update([1000.0, 1000.0])
    >>> print(f"{state.result():.6f}")
    1001.386294
    >>> left, right = np.array([[0.0, 1.0], [40.0, 0.0]]), np.array([[2.0], [0.0]])
    >>> merged = LogSumExpState.from_array(left, axis=1).merge(
    ...     LogSumExpState.from_array(right, axis=1)
    ... )
    >>> merged.shape
    (2,)
    >>> print(" ".join(f"{loss:.4e}" for loss in merged.cross_entropy([2.0, 40.0])))
    4.0761e-01 8.4967e-18
    """

    states: Array
    dtype: np.dtype[Any]
    axis: Axis = None

    def __post_init__(self) -> None:
        self.states.flags.writeable = False

    @classmethod
    def from_array(
        cls,
        x: ArrayLike,
        axis: Axis = None,
        *,
        where: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> LogSumExpState:
        """The state of an array along some of its axes.

        Parameters
        ----------
        x : array_like
            Real numbers of any dtype; see `logsumexp`.
        axis : int, tuple of ints or None, default None
            Axes to reduce; None is all of them. The state remembers it.
        where : array_like of bool, optional
            Elements to include, broadcastable to the shape of `x`.
        n_threads : int, optional
            The most threads to use; None uses the setting of `set_num_threads`.

        Returns
        -------
        LogSumExpState
            Of the shape and dtype that ``logsumexp(x, axis)`` has.

        Raises
        ------
        TypeError
            If `x` is not an array of real numbers, or `where` not of bools.
        ValueError
            If a shape does not fit.
        numpy.exceptions.AxisError
            If an axis is out of range.
        """
        problem = _real_problem(x, axis, where)
        states = _nothing((problem.n_rows,), problem.dtype)
        if problem.x.size:
            backend_for(problem.dtype).row_states(
                problem.rows(problem.x),
                problem.n_reduced,
                states,
                None if problem.where is None else problem.rows(problem.where),
                _threads.resolve(n_threads, problem.x.size),
            )
        return cls(states.reshape(3, *problem.kept_shape), problem.dtype, axis)

    @classmethod
    def empty(
        cls, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64, axis: Axis = None
    ) -> LogSumExpState:
        """The states of nothing at all, which change nothing they are merged with.

        Parameters
        ----------
        shape : int or tuple of ints, default ()
            The batch's shape.
        dtype : dtype, default float64
            A floating dtype. Merging promotes: start with the dtype of what will come.
        axis : int, tuple of ints or None, default None
            The axes that `update` will reduce.

        Returns
        -------
        LogSumExpState

        Raises
        ------
        TypeError
            If `dtype` is not floating.
        """
        kind = np.dtype(dtype)
        if kind.kind != "f":
            raise TypeError(f"dtype must be a floating dtype, got {kind}")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return cls(_nothing(shape, kind), kind.newbyteorder("="), axis)

    def update(
        self, x: ArrayLike, *, where: ArrayLike | None = None, n_threads: int | None = None
    ) -> LogSumExpState:
        """A new state with `x` taken in, reduced along the axes that `from_array` was given.

        Parameters
        ----------
        x, where, n_threads
            As for `from_array`.

        Returns
        -------
        LogSumExpState

        Raises
        ------
        TypeError, ValueError
            As by `from_array` and `merge`.
        """
        return self.merge(LogSumExpState.from_array(x, self.axis, where=where, n_threads=n_threads))

    def merge(self, other: LogSumExpState) -> LogSumExpState:
        """A new state with what `other` saw taken in.

        Parameters
        ----------
        other : LogSumExpState
            Of a shape that broadcasts with this one's.

        Returns
        -------
        LogSumExpState
            Of the promoted dtype, and this one's axis.

        Raises
        ------
        TypeError
            If `other` is not a LogSumExpState.
        ValueError
            If the shapes do not broadcast.
        """
        if not isinstance(other, LogSumExpState):
            raise TypeError(f"other must be a LogSumExpState, got {describe(other)}")
        try:
            ours, theirs = _aligned(self.states, other.states)
        except ValueError:
            raise ValueError(
                f"other must have a shape that broadcasts with {self.shape}, got shape "
                f"{other.shape}"
            ) from None
        merged = _merged(ours, theirs)
        return LogSumExpState(merged, np.promote_types(self.dtype, other.dtype), self.axis)

    def result(self) -> Any:
        """The logsumexp of everything that was taken in.

        Returns
        -------
        scalar or ndarray
            Of the state's shape and dtype; -inf for an empty state.
        """
        return self._log_sums(None, self.dtype)

    def softmax(
        self,
        x: ArrayLike,
        *,
        out: NDArray[Any] | None = None,
        n_threads: int | None = None,
    ) -> Any:
        """The shard's probabilities, ``exp(x - result())``.

        Parameters
        ----------
        x : array_like
            A part of what was taken in: no element is larger than `max`.
        out : ndarray, optional
            Array of the shape of `x` and the result's dtype to write to. It may be `x`.
        n_threads : int, optional
            The most threads to use; None uses the setting of `set_num_threads`.

        Returns
        -------
        ndarray or scalar
            Of the shape of `x`, within ``STATE_SOFTMAX_ULP`` ulp plus the rounding of ``x - max``;
            +0 below the smallest normal number; NaN where the maximum is not finite.

        Raises
        ------
        TypeError
            If `x` is not an array of real numbers, or `out` has the wrong dtype.
        ValueError
            If `x`, reduced along the state's axes, has another shape than the state.
        """
        problem = self._shard(x, "x")
        dtype = np.promote_types(problem.dtype, self.dtype)
        given = check_out(out, problem.shape, dtype)
        values = cast(problem.x, compute_dtype(dtype))
        result = _writeable(given, values, problem.shape, [])
        if values.size:
            backend_for(dtype).softmax_of_states(
                problem.rows(values),
                problem.n_reduced,
                self.states.reshape(3, -1),
                problem.rows(np.atleast_1d(result)),
                _threads.resolve(n_threads, values.size),
            )
        return finish(result, dtype, given)

    def cross_entropy(self, target_logit: ArrayLike) -> Any:
        """Each row's cross-entropy, ``result() - target_logit``, accurate on confident rows too.

        Parameters
        ----------
        target_logit : array_like
            The logit of each row's target, broadcastable to the state's shape.

        Returns
        -------
        scalar or ndarray
            Losses of the state's shape; NaN where the maximum is not finite, +inf where the
            target's logit alone is -inf.

        Raises
        ------
        TypeError
            If `target_logit` is not an array of real numbers.
        ValueError
            If its shape does not broadcast to the state's.
        """
        given = as_array(target_logit, "target_logit", "biuf")
        dtype = np.promote_types(self.dtype, result_dtype((target_logit, given)))
        minus = broadcast(given, "target_logit", self.shape)
        return self._log_sums(minus.astype(self.states.dtype, order="C"), dtype)

    def cross_entropy_grad(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        n_threads: int | None = None,
    ) -> NDArray[Any]:
        """The gradient of each row's cross-entropy with respect to this shard's logits.

        Parameters
        ----------
        logits : array_like
            A part of the classes that were taken in, along the state's axis, which must be one.
        target : array_like of int
            The target's place within this shard, of the state's shape; whatever is no class of this
            shard is in another.
        sample_weight : array_like, optional
            What each row's gradient is multiplied by, of the state's shape: 1 / n_rows makes it
            that of a mean. Rows of weight 0 get exact zeros, whatever they hold.
        out : ndarray, optional
            Array of the shape of `logits` and the result's dtype to write to. It may be `logits`.
        n_threads : int, optional
            The most threads to use; None uses the setting of `set_num_threads`.

        Returns
        -------
        ndarray
            ``softmax - one_hot``, within ``STATE_GRADIENT_ULP`` ulp plus the rounding of
            differences of two logits; the target's entry is the negated share of the other
            classes, those of other shards included, never the difference ``p - 1``. Rows of only
            -inf are 0.

        Raises
        ------
        TypeError
            If an argument is not an array of numbers, or `target` is not of integers.
        ValueError
            If a shape does not fit, or the state reduces several axes.
        """
        problem = self._shard(logits, "logits")
        if problem.n_reduced != 1 or problem.shape == ():
            raise ValueError(
                f"logits must have one class axis, got shape {problem.shape} and a state that "
                f"reduces axis {self.axis}"
            )
        classes = self._classes(target, problem)
        dtype = np.promote_types(problem.dtype, self.dtype)
        weights = as_sample_weight(sample_weight, self.shape)
        given = check_out(out, problem.shape, dtype)
        values = cast(problem.x, compute_dtype(dtype))
        result = _writeable(given, values, problem.shape, [weights])
        if values.size:
            backend_for(dtype).gradient_of_states(
                problem.rows(values),
                self.states.reshape(3, -1),
                classes,
                weights,
                problem.rows(result),
                _threads.resolve(n_threads, values.size),
            )
        return np.asarray(finish(result, dtype, given))

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch's shape."""
        return self.states.shape[1:]

    @property
    def max(self) -> Any:
        """The largest element; -inf for an empty state, NaN if a NaN was taken in."""
        return self.states[0][()]

    @property
    def rest(self) -> Any:
        """The sum of ``exp(x - max)`` without the maximum's own element, which adds 1."""
        return self.states[1][()]

    @property
    def sum(self) -> Any:
        """The sum of ``exp(x - max)``: at least 1, but 0 for an empty state."""
        return np.where(self.states[0] == -np.inf, 0, 1 + self.states[1])[()]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogSumExpState):
            return NotImplemented
        same = np.array_equal(self.states, other.states, equal_nan=True)
        return same and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"LogSumExpState(max={self.max!r}, sum={self.sum!r}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return LogSumExpState, (self.states, self.dtype, self.axis)

    def _log_sums(self, minus: Array | None, dtype: np.dtype[Any]) -> Any:
        result = np.empty(self.shape, self.states.dtype)
        if result.size:
            backend_for(dtype).log_sums(
                self.states.reshape(3, -1),
                None if minus is None else minus.reshape(-1),
                None,
                result.reshape(-1),
            )
        return finish(result, dtype, None)

    def _shard(self, x: object, name: str) -> Problem:
        """Check an array that was part of what this state saw; masked elements are -inf."""
        problem = _real_problem(x, self.axis, None, name)
        if problem.kept_shape != self.shape:
            raise ValueError(
                f"{name} must have the state's shape {self.shape} besides axis {self.axis}, "
                f"got shape {problem.shape}"
            )
        if problem.where is None:
            return problem
        values = np.where(problem.where, problem.x, -np.inf).astype(problem.x.dtype)
        return Problem(values, None, None, problem.shape, problem.axes, problem.dtype)

    def _classes(self, target: object, problem: Problem) -> Array:
        """Targets as a flat int64 array, -1 for those that are no class of the shard."""
        array = as_array(target, "target", "biufc")
        if array.dtype.kind not in "iu":
            raise TypeError(f"target must be an integer array, got dtype {array.dtype}")
        if array.shape != self.shape:
            raise ValueError(
                f"target must have the state's shape {self.shape}, got shape {array.shape}"
            )
        n_classes = problem.x.shape[as_axis(problem.axes[0], problem.x.ndim)]
        here = (array >= 0) & (array < n_classes)
        return np.where(here, array, -1).astype(np.int64).reshape(-1)


def _real_problem(x: object, axis: object, where: object, name: str = "x") -> Problem:
    problem = reduction_problem(x, name, axis, where=where)
    if problem.dtype.kind != "f":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {problem.dtype}")
    return problem


def _nothing(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    states = np.zeros((3, *shape), np.promote_types(dtype, np.float64))
    states[0] = -np.inf
    return states


def _writeable(
    given: Array | None, x: Array, shape: tuple[int, ...], others: list[Array | None]
) -> Array:
    """Where a backend may write results: `given` if it can, else a new array."""
    if given is not None and can_write_to(given, x, others):
        return given
    return np.empty(shape, x.dtype.newbyteorder("="))


def _aligned(a: Array, b: Array) -> tuple[Array, Array]:
    """Two arrays of states broadcast to one shape: the batch axes, not the first."""
    shape = np.broadcast_shapes(a.shape[1:], b.shape[1:])
    ours, theirs = (
        np.broadcast_to(s.reshape(3, *(1,) * (len(shape) + 1 - s.ndim), *s.shape[1:]), (3, *shape))
        for s in (a, b)
    )
    return ours, theirs


# From this distance of two maxima on, exp(d) times the smaller sum may be subnormal.
# It is multiplied by exp(d / 2) twice.
_DEEP = -600


@np.errstate(all="ignore")
def _merged(a: Array, b: Array) -> Array:
    """(1 + rest) exp(max) of both parts added up: rest is the larger's plus all of the smaller.

    What scales the smaller part, exp(d) for a d <= 0, is as good as exact where d is small, as
    1 + expm1(d): otherwise a stream whose maximum rises in small steps would be rounded at each.
    """
    swap = b[0] > a[0]
    larger, smaller = np.where(swap, b, a), np.where(swap, a, b)
    d, d_low = _two_sum(smaller[0], -larger[0])
    d_low = np.where(np.isfinite(d_low), d_low, 0)
    total, total_low = _two_sum(np.ones_like(d), smaller[1])
    total_low = total_low + smaller[2]

    excess = np.expm1(d) + d_low * np.exp(d)
    high, low = _two_sum(total, total * excess)
    low = low + total_low * (1 + excess)
    far = d < -0.5
    if far.any():
        root = np.exp(np.where(d < _DEEP, d / 2, d))
        scaled = (total + total_low) * root * (1 + d_low)
        high = np.where(far, np.where(d < _DEEP, scaled * root, scaled), high)
        low = np.where(far, 0, low)

    merged = np.empty_like(larger)
    merged[0] = np.maximum(a[0], b[0])
    rest, rest_low = _two_sum(larger[1], high)
    rest_low = rest_low + (larger[2] + low)
    merged[1] = rest + rest_low
    merged[2] = rest_low - (merged[1] - rest)
    nothing_added = (smaller[0] == -np.inf) | ~np.isfinite(merged[0])
    merged[1:] = np.where(
        nothing_added, np.where(np.isfinite(merged[0]), larger[1:], 0), merged[1:]
    )
    return merged


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The exact sum of two numbers, high and low (Knuth)."""
    high = a + b
    from_b = high - a
    return high, (a - (high - from_b)) + (b - from_b)
