"""Print one-thread ratios to SciPy and PyTorch: both sides alternately, the best of each.

    python bench/speed.py [--rounds 40]

Run it on a quiet machine and more than once.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.special
import torch

import fastlse


def race(contenders, rounds):
    """Best seconds of each contender, run in turn."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def show(title, contenders, rounds):
    best = race(contenders, rounds)
    ours = best.pop("fastlse")
    ratios = ", ".join(f"{name} / fastlse {seconds / ours:.2f}" for name, seconds in best.items())
    print(f"{title:<46}{ours * 1e6:10.1f} us   {ratios}")


def repeated(call, times=2000):
    return lambda: [call() for _ in range(times)]


def torch_loss(logits, target):
    leaf = logits.clone().requires_grad_()
    torch.nn.functional.cross_entropy(leaf, target).backward()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    fastlse.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(f"{fastlse.backend()}, torch {torch.__version__}, SciPy {scipy.__version__}")
    for dtype in ("float32", "float64"):
        for shape in ((1000, 1000), (100000, 10)):
            x = rng.normal(size=shape).astype(dtype)
            t = rng.integers(0, shape[1], shape[0])
            out, xt, tt = np.empty_like(x), torch.from_numpy(x), torch.from_numpy(t)
            name = f"{shape[0]}x{shape[1]} {dtype}"
            contenders = {
                "fastlse": lambda x=x: fastlse.logsumexp(x, axis=1),
                "SciPy": lambda x=x: scipy.special.logsumexp(x, axis=1),
                "torch": lambda xt=xt: torch.logsumexp(xt, 1),
            }
            show(f"logsumexp {name}", contenders, rounds)
            contenders = {
                "fastlse": lambda x=x, out=out: fastlse.softmax(x, axis=1, out=out),
                "torch": lambda xt=xt: torch.softmax(xt, 1),
            }
            show(f"softmax {name}", contenders, rounds)
            contenders = {
                "fastlse": lambda x=x, t=t, out=out: fastlse.cross_entropy_and_grad(x, t, out=out),
                "torch": lambda xt=xt, tt=tt: torch_loss(xt, tt),
            }
            show(f"cross_entropy_and_grad {name}", contenders, rounds)
        x = rng.normal(size=(1, 10)).astype(dtype)
        contenders = {
            "fastlse": repeated(lambda x=x: fastlse.logsumexp(x, axis=1)),
            "np.add.reduce": repeated(lambda x=x: np.add.reduce(x, axis=1)),
        }
        show(f"2000 x logsumexp 1x10 {dtype}", contenders, rounds)


if __name__ == "__main__":
    main()
