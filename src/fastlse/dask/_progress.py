"""What a fit says after each iteration."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a fit is.

    Attributes
    ----------
    n_iter : int
        Iterations so far; 0 is the start.
    n_evaluations : int
        Passes over the data so far, by this call of `fit`, those before the first left out.
    loss : float
        The objective: the mean loss and the penalty.
    gradient_norm : float
        The largest entry of its gradient.
    seconds : float
        Since the iteration before.
    bytes_read : int
        Of features, by the last pass.
    """

    n_iter: int
    n_evaluations: int
    loss: float
    gradient_norm: float
    seconds: float
    bytes_read: int

    @staticmethod
    def head() -> str:
        """The names of the columns of `row`."""
        return "iteration  evaluations            loss  max |gradient|    seconds    MB read"

    def row(self) -> str:
        """One line of a table."""
        return (
            f"{self.n_iter:9d}  {self.n_evaluations:11d}  {self.loss:14.8f}  "
            f"{self.gradient_norm:14.3e}  {self.seconds:9.2f}  {self.bytes_read / 1e6:9.1f}"
        )


class Clock:
    """Seconds from one look at it to the next."""

    def __init__(self) -> None:
        self.before = time.perf_counter()

    def look(self) -> float:
        """Seconds since the look before."""
        now = time.perf_counter()
        seconds, self.before = now - self.before, now
        return seconds
