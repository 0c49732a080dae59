"""A classifier whose classes are split over two processes: loss and gradient from merged states.

Each process holds half of the columns of the logits and the targets of all rows. It sends the other
the state of its columns and the target's logit where it has that: two numbers and one for each row,
however many classes there are. Run it with ``python docs/examples/class_parallel.py``.
"""

from __future__ import annotations

import multiprocessing

import numpy as np

import fastlse
from fastlse import LogSumExpState

N_ROWS, N_CLASSES = 1000, 500


def all_logits():
    """What no process holds in whole; here, so that the result can be checked."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((N_ROWS, N_CLASSES)) * 5
    target = rng.integers(N_CLASSES, size=N_ROWS)
    logits[np.arange(0, N_ROWS, 2), target[::2]] += 60  # confident rows
    return logits, target


def work(first, stop, connection, results):
    """One process: its shard, a message to the other, the loss, and its part of the gradient."""
    logits, target = all_logits()
    shard, target = logits[:, first:stop].copy(), target - first

    state = LogSumExpState.from_array(shard, axis=1)
    here = (target >= 0) & (target < stop - first)
    target_logit = np.where(here, shard[np.arange(N_ROWS), np.where(here, target, 0)], -np.inf)

    connection.send((state, target_logit))
    other_state, other_logit = connection.recv()

    merged = state.merge(other_state)
    loss = merged.cross_entropy(np.maximum(target_logit, other_logit)).mean()
    mean = np.full(N_ROWS, 1 / N_ROWS)
    grad = merged.cross_entropy_grad(shard, target, sample_weight=mean, out=shard)
    results.put((first, loss, grad))


def main():
    context = multiprocessing.get_context("spawn")
    left, right = context.Pipe()
    results = context.Queue()
    half = N_CLASSES // 2
    processes = [
        context.Process(target=work, args=(0, half, left, results)),
        context.Process(target=work, args=(half, N_CLASSES, right, results)),
    ]
    for process in processes:
        process.start()
    parts = sorted((results.get(timeout=50) for _ in processes), key=lambda part: part[0])
    for process in processes:
        process.join()

    loss, grad = fastlse.cross_entropy_and_grad(*all_logits())
    shared = np.concatenate([part[2] for part in parts], axis=1)
    print(f"loss of two processes  {parts[0][1]:.17g}")
    print(f"loss of one            {loss:.17g}")
    print(f"largest difference of the gradients, relative: {relative(shared, grad):.1e}")
    assert abs(parts[0][1] - loss) <= 1e-15 * loss
    assert relative(shared, grad) <= 1e-14


def relative(a, b):
    return np.max(np.abs(a - b) / np.where(b == 0, 1, np.abs(b)))


if __name__ == "__main__":
    main()
