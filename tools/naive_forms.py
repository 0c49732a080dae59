"""Where the naive and the usual forms of the losses break: tables, data and pictures.

    python tools/naive_forms.py                          # the tables, in Markdown
    python tools/naive_forms.py --data errors.csv        # error in ulp against the logit
    python tools/naive_forms.py --pictures docs/pictures [--suffix .svg]

The naive form takes the probability and then its logarithm; the usual one starts from the logits,
as good NumPy code and the frameworks do. Exact results are computed in numpy.longdouble, which has
to have 11 bits more than float64. The pictures need matplotlib.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastlse

Array = np.ndarray[Any, Any]
Form = Callable[[Array], tuple[Array, Array]]  # from logits to losses and gradients

N_BINS, LOGITS_PER_BIN = 160, 64
DEEPEST = 48.0  # logits of the pictures: from minus this on
NO_DIGIT = {"float32": 2.0**24, "float64": 2.0**53}  # a relative error of 1, in ulp, at most

TABLE_LOGITS = (10, 100, 1000)
CONFIDENT_LOGITS = (5, 10, 20, 40, 100)


# ---- the forms: binary of target 0 and 1, and softmax of [z, 0, 0] with target 0 ----


def naive_binary_0(z: Array) -> tuple[Array, Array]:
    """-log(1 - p), and its derivative by the chain rule."""
    one = z.dtype.type(1)
    p = one / (one + np.exp(-z))
    e = np.exp(z)
    return -np.log(one - p), one / (one - p) * e / ((one + e) * (one + e))


def naive_binary_1(z: Array) -> tuple[Array, Array]:
    """-log(p), and its derivative by the chain rule."""
    one = z.dtype.type(1)
    p = one / (one + np.exp(-z))
    e = np.exp(z)
    return -np.log(p), -one / p * e / ((one + e) * (one + e))


def naive_softmax(z: Array) -> tuple[Array, Array]:
    """-log(softmax), and p - y."""
    one = z.dtype.type(1)
    p = np.exp(z) / (np.exp(z) + one + one)
    return -np.log(p), p - one


def usual_binary(z: Array, target: int) -> tuple[Array, Array]:
    """max(z, 0) - z y + log1p(exp(-|z|)) and expit(z) - y."""
    one, y, e = z.dtype.type(1), z.dtype.type(target), np.exp(-np.abs(z))
    expit = np.where(z < 0, e, one) / (one + e)
    return np.maximum(z, 0) - z * y + np.log1p(e), expit - y


def usual_softmax(z: Array) -> tuple[Array, Array]:
    """-log_softmax and softmax - y, the maximum subtracted."""
    one, row_max = z.dtype.type(1), np.maximum(z, 0)
    sums = np.exp(z - row_max) + 2 * np.exp(-row_max)
    log_probability = (z - row_max) - np.log(sums)
    return -log_probability, np.exp(log_probability) - one


def fastlse_binary(z: Array, target: int) -> tuple[Array, Array]:
    y = np.full_like(z, target)
    return fastlse.binary_cross_entropy_with_logits_and_grad(z, y, reduction="none")


def fastlse_softmax(z: Array) -> tuple[Array, Array]:
    logits = np.stack([z, np.zeros_like(z), np.zeros_like(z)], axis=1)
    target = np.zeros(len(z), np.int64)
    loss, grad = fastlse.cross_entropy_and_grad(logits, target, reduction="none")
    return loss, grad[:, 0]


def exact_binary(z: Array, target: int) -> tuple[Array, Array]:
    sign = 1 - 2 * target
    z = sign * z.astype(np.longdouble)
    e = np.exp(-np.abs(z))
    return np.maximum(z, 0) + np.log1p(e), sign * np.where(z < 0, e, 1) / (1 + e)


def exact_softmax(z: Array) -> tuple[Array, Array]:
    """The others' share is 2 exp(-z): that of a binary logit of log(2) - z."""
    e = 2 * np.exp(-np.abs(z.astype(np.longdouble)))
    others = np.where(z < 0, 2 / (2 + e / 2), e / (1 + e))
    loss = np.where(z < 0, np.log(np.longdouble(2)) + np.log1p(e / 4) - z, np.log1p(e))
    return loss, -others


PANELS: dict[str, tuple[Form, dict[str, Form]]] = {
    "binary, target 0": (
        lambda z: exact_binary(z, 0),
        {
            "naive": naive_binary_0,
            "usual": lambda z: usual_binary(z, 0),
            "fastlse": lambda z: fastlse_binary(z, 0),
        },
    ),
    "binary, target 1": (
        lambda z: exact_binary(z, 1),
        {
            "naive": naive_binary_1,
            "usual": lambda z: usual_binary(z, 1),
            "fastlse": lambda z: fastlse_binary(z, 1),
        },
    ),
    "softmax of [z, 0, 0], target 0": (
        exact_softmax,
        {"naive": naive_softmax, "usual": usual_softmax, "fastlse": fastlse_softmax},
    ),
}
RESULTS = ("loss", "gradient")


# ---- tables ----


@np.errstate(all="ignore")
def print_tables() -> None:
    print("Binary cross-entropy of target 0, the naive form and what is right:\n")
    print("| dtype | logit | naive loss | naive gradient | loss | gradient |")
    print("|---|---|---|---|---|---|")
    for dtype in NO_DIGIT:
        for logit in TABLE_LOGITS:
            z = np.array([logit], dtype)
            values = [*naive_binary_0(z), *fastlse_binary(z, 0)]
            cells = " | ".join(digits(value[0]) for value in values)
            print(f"| {dtype} | {logit} | {cells} |")
    for number, result in enumerate(RESULTS):
        print(f"\nThe {result} of confident rows in float64, softmax of [z, 0, 0]:\n")
        print("| z | naive | usual | fastlse | exact |")
        print("|---|---|---|---|---|")
        exact, forms = PANELS["softmax of [z, 0, 0], target 0"]
        for logit in CONFIDENT_LOGITS:
            z = np.array([logit], "float64")
            values = [form(z)[number] for form in (*forms.values(), exact)]
            print(f"| {logit} | " + " | ".join(f"{float(v[0]):.16e}" for v in values) + " |")


def digits(value: Any) -> str:
    return np.format_float_positional(value, unique=False, precision=20, trim="-")


# ---- error against the logit ----


@np.errstate(all="ignore")
def error_in_ulp(result: Array, exact: Array) -> Array:
    """Of the exact result; what is no number or infinite has no digit right."""
    spacing = np.spacing(np.abs(exact.astype(result.dtype))).astype(np.longdouble)
    error = (np.abs(result - exact) / spacing).astype(float)
    worst = NO_DIGIT[str(result.dtype)]
    return np.where(error < worst, error, worst)


@np.errstate(all="ignore")
def curves(dtype: str) -> tuple[Array, dict[tuple[str, str, str], Array]]:
    """The middle of each bin of logits, and by (panel, result, form) the worst error in each."""
    edges = np.linspace(-DEEPEST, DEEPEST, N_BINS + 1)
    rng = np.random.default_rng(0)
    width = edges[1] - edges[0]
    z = (edges[:-1, None] + width * rng.random((N_BINS, LOGITS_PER_BIN))).astype(dtype)
    found = {}
    for panel, (exact, forms) in PANELS.items():
        right = exact(z.ravel())
        for form, function in forms.items():
            values = function(z.ravel())
            for result, value, truth in zip(RESULTS, values, right, strict=True):
                error = error_in_ulp(value, truth).reshape(z.shape)
                found[panel, result, form] = error.max(axis=1)
    return edges[:-1] + width / 2, found


def write_data(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dtype", "problem", "result", "form", "logit", "worst_error_in_ulp"])
        for dtype in NO_DIGIT:
            logits, found = curves(dtype)
            for key, errors in found.items():
                for logit, error in zip(logits, errors, strict=True):
                    writer.writerow([dtype, *key, f"{logit:.3f}", f"{error:.4g}"])


# ---- pictures ----


def draw(dtype: str, theme: Any) -> Any:
    from matplotlib import pyplot as plt

    from fastlse._bench import pictures

    logits, found = curves(dtype)
    colors = dict(zip(("fastlse", "usual", "naive"), theme.series, strict=False))
    figure, axes = plt.subplots(
        len(RESULTS), len(PANELS), figsize=(pictures.WIDTH, 5.2), sharex=True, sharey=True
    )
    for row, result in zip(axes, RESULTS, strict=True):
        for axis, panel in zip(row, PANELS, strict=True):
            for order, form in enumerate(("naive", "usual", "fastlse")):
                errors = np.maximum(found[panel, result, form], 0.1)
                axis.plot(logits, errors, color=colors[form], linewidth=1.6, zorder=2 + order)
            axis.axhline(NO_DIGIT[dtype], color=theme.ink, linewidth=1, linestyle=":", zorder=1)
            axis.set_yscale("log")
            axis.set_xlim(-DEEPEST, DEEPEST)
            axis.set_xticks([-40, -20, 0, 20, 40])
            axis.set_title(f"{result}: {panel}", fontsize=8.5)
        row[0].set_ylabel("worst error, ulp")
    axes[0, 1].annotate(
        "no digit right",
        (-DEEPEST, NO_DIGIT[dtype]),
        xytext=(4, -3),
        textcoords="offset points",
        verticalalignment="top",
        color=theme.faint_ink,
    )
    for axis in axes[-1]:
        axis.set_xlabel("logit z")
    handles = [plt.Line2D([], [], color=color, label=form) for form, color in colors.items()]
    height = figure.get_figheight()
    title = f"Error of loss and gradient against the logit, {dtype}"
    figure.text(0.5, 1 - 0.25 / height, title, fontsize=11, horizontalalignment="center")
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.3 / height),
        ncols=len(handles),
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.58 / height))
    return figure


def save_pictures(directory: Path, suffix: str) -> None:
    from fastlse._bench import pictures

    directory.mkdir(parents=True, exist_ok=True)
    for dtype in NO_DIGIT:
        for theme in pictures.THEMES:
            with pictures.drawing(theme):
                path = directory / f"error-{dtype}-{theme.name}{suffix}"
                pictures.save(draw(dtype, theme), path)
                print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="write the errors to this CSV file")
    parser.add_argument("--pictures", type=Path, help="draw the errors into this directory")
    parser.add_argument("--suffix", default=".svg", choices=(".svg", ".png"))
    options = parser.parse_args()
    if np.finfo(np.longdouble).nmant < 63:
        sys.exit("the exact results need a numpy.longdouble of at least 64 bits")
    if options.data is not None:
        write_data(options.data)
    if options.pictures is not None:
        save_pictures(options.pictures, options.suffix)
    if options.data is None and options.pictures is None:
        print_tables()


if __name__ == "__main__":
    main()
