"""Time the losses that are no operation of the suites, against the least that they could cost.

    python bench/losses.py [linear] [large] [binary] [--threads 1] [--seconds 2]

- linear: ``linear_cross_entropy_and_grad`` against its three matrix products, with 10 classes;
- large: the same with 30522 classes, and the memory it takes beyond inputs and gradients;
- binary: ``binary_cross_entropy_with_logits_and_grad`` on a million logits against the formula on
  SciPy's expit and log_expit, and against PyTorch.

PyTorch and SciPy are optional. The table is Markdown.
"""

from __future__ import annotations

import argparse
import tracemalloc

import numpy as np

import fastlse
from fastlse._bench.contenders import SkippedError, library
from fastlse._bench.timing import Pace, race

FEW_CLASSES = ((65536, 64, 10), (200000, 20, 10))
MANY_CLASSES = (4096, 384, 30522)
N_LOGITS = 10**6


def layer(shape, dtype):
    """Features, the weight of a linear layer, and targets."""
    n_rows, n_features, n_classes = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_rows, n_features)).astype(dtype)
    weight = (rng.standard_normal((n_classes, n_features)) / n_features**0.5).astype(dtype)
    return x, weight, rng.integers(n_classes, size=n_rows)


def products(x, weight):
    """The three matrix products alone, into arrays that are there already."""
    logits = np.empty((len(x), len(weight)), x.dtype)
    grad = np.random.default_rng(1).standard_normal(logits.shape).astype(x.dtype)
    grad_x, grad_weight = np.empty_like(x), np.empty_like(weight)

    def call():
        np.matmul(x, weight.T, out=logits)
        np.matmul(grad, weight, out=grad_x)
        np.matmul(grad.T, x, out=grad_weight)

    return call


def linear_calls(shape, dtype):
    x, weight, target = layer(shape, dtype)
    bias = np.zeros(len(weight), dtype)
    loss = fastlse.linear_cross_entropy_and_grad
    return {
        "products": products(x, weight),
        "loss": lambda: loss(x, weight, target),
        "loss, bias": lambda: loss(x, weight, target, linear_bias=bias),
    }


def linear(pace):
    for shape in FEW_CLASSES:
        for dtype in ("float32", "float64"):
            times = best(linear_calls(shape, dtype), pace)
            name = "linear {}x{}x{} ".format(*shape) + dtype
            yield name, times["loss"] / times["products"], "<= 1.5", "of the products"
            yield name + ", bias", times["loss, bias"] / times["products"], "", "of the products"


def large(pace):
    name = "linear {}x{}x{} float32".format(*MANY_CLASSES)
    calls = linear_calls(MANY_CLASSES, "float32")
    del calls["loss, bias"]
    tracemalloc.start()  # before anything is kept from another call
    before = tracemalloc.get_traced_memory()[0]
    _, gradients = calls["loss"]()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    returned = sum(grad.nbytes for grad in gradients if grad is not None)
    yield name, (peak - before - returned) / 1e6, "<= 64", "MB beyond inputs and gradients"
    del gradients
    times = best(calls, pace)
    yield name, times["loss"] / times["products"], "<= 1.1", "of the products"


def binary(pace):
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        logits = rng.normal(0, 5, N_LOGITS).astype(dtype)
        target = (rng.random(N_LOGITS) < 0.5).astype(dtype)
        times = best(binary_calls(logits, target), pace)
        for peer, least in (("SciPy", ">= 5"), ("PyTorch", ">= 2")):
            if peer in times:
                ratio = times[peer] / times["fastlse"]
                yield f"binary loss and gradient, {dtype}", ratio, least, f"times as fast as {peer}"


def binary_calls(logits, target):
    out = np.empty_like(logits)
    ours = fastlse.binary_cross_entropy_with_logits_and_grad
    calls = {"fastlse": lambda: ours(logits, target, out=out)}
    for name, maker in (("SciPy", scipy_formula), ("PyTorch", torch_loss)):
        try:
            calls[name] = maker(logits, target)
        except SkippedError as error:
            print(f"({name} left out: {error})")
    return calls


def scipy_formula(logits, target):
    special = library("scipy.special")

    def call():
        loss = -(target * special.log_expit(logits) + (1 - target) * special.log_expit(-logits))
        return loss.mean(), (special.expit(logits) - target) / len(logits)

    return call


def torch_loss(logits, target):
    torch = library("torch")
    torch.set_num_threads(fastlse.get_num_threads())
    x, y = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target)

    def call():
        x.grad = None
        torch.nn.functional.binary_cross_entropy_with_logits(x, y).backward()

    return call


def best(calls, pace):
    return {name: min(timing.seconds) for name, timing in race(calls, pace).items()}


PARTS = {"linear": linear, "large": large, "binary": binary}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for a race")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    fastlse.set_num_threads(options.threads)
    pool = library("threadpoolctl")
    print(f"{options.threads} thread(s), backend {fastlse.backend()}\n")
    print("| what | measured | target | |\n|---|---|---|---|")
    with pool.threadpool_limits(options.threads, "blas"):
        for part in options.parts or PARTS:
            for what, value, target, unit in PARTS[part](Pace(options.seconds)):
                print(f"| {what} | {value:.2f} | {target} | {unit} |", flush=True)


if __name__ == "__main__":
    main()
