"""Pictures of results, for a page of about 830 pixels, on light and on dark ground."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlse._bench import machine
from fastlse._bench.cases import DTYPES, OPERATIONS, OURS, PEERS, Case

if TYPE_CHECKING:
    from fastlse._bench.results import Result, Results

WIDTH = 8.3  # inches, of which 100 pixels each on a page


@dataclass(frozen=True)
class Theme:
    """Colours of a ground and of what stands on it."""

    name: str
    ground: str
    ink: str
    faint_ink: str
    grid: str
    series: tuple[str, ...]  # told apart by those who see colours differently, in this order


THEMES = (
    Theme(
        "light",
        ground="#ffffff",
        ink="#1f2328",
        faint_ink="#59636e",
        grid="#d9dee3",
        series=("#2a78d6", "#eb6834", "#1baa7a", "#8a5cc9"),
    ),
    Theme(
        "dark",
        ground="#0d1117",
        ink="#f0f6fc",
        faint_ink="#9198a1",
        grid="#2f353d",
        series=("#4a97ee", "#e2763f", "#1fa97b", "#a986e6"),
    ),
)


def save_all(results: Results, directory: Path, suffix: str = ".svg") -> list[Path]:
    """Draw every picture that the results suffice for, in both themes."""
    written = []
    for name, draw in PICTURES.items():
        for theme in THEMES:
            with drawing(theme):
                figure = draw(results, theme)
                if figure is None:
                    continue
                path = directory / f"{name}-{theme.name}{suffix}"
                save(figure, path)
                written.append(path)
    return written


def save_speed_up(results: Results, path: Path) -> None:
    """Draw the ratios to the peers."""
    with drawing(THEMES[0]):
        figure = draw_speed_up(results, THEMES[0])
        if figure is None:
            raise ValueError("no peer took part: there is no ratio to draw")
        save(figure, path)


def draw_speed_up(results: Results, theme: Theme) -> Any:
    """A panel for each peer: its time over fastlse's, case by case."""
    from matplotlib import pyplot as plt

    ratios = _ratios(results.results)
    names = [name for name in PEERS if name in ratios]
    if not names:
        return None
    shapes = sorted({case.shape for found in ratios.values() for case in found}, key=lambda s: s[1])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    size = (WIDTH, 1.35 + rows * (0.5 + 0.26 * len(shapes)))
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        _speed_up_panel(axis, ratios[name], shapes, theme)
        axis.set_title(name)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes.flat[: len(names)][-columns:]:
        axis.tick_params(labelbottom=True)
    axes[0, 0].xaxis.set_major_locator(_locator([0.5, 1, 2, 5, 10, 20, 50, 100, 200]))
    axes[0, 0].xaxis.set_major_formatter("{x:g}×")
    handles = [
        *(_dot(c, c, name) for name, c in zip(OPERATIONS, theme.series, strict=True)),
        _dot(theme.faint_ink, theme.faint_ink, DTYPES[0]),
        _dot(theme.faint_ink, theme.ground, DTYPES[1]),
    ]
    _finish(
        figure,
        "Time of each library as a multiple of fastlse's: beyond 1×, fastlse is faster",
        handles,
        results,
        theme,
    )
    return figure


def _ratios(results: Iterable[Result]) -> dict[str, dict[Case, float]]:
    """For each peer and case, its time over fastlse's."""
    chosen = [result for result in results if result.suite in ("peers", "command")]
    ours = {result.case: result.best for result in chosen if result.contender == OURS}
    ratios: dict[str, dict[Case, float]] = {}
    for result in chosen:
        if result.contender in PEERS and result.case in ours:
            found = ratios.setdefault(result.contender, {})
            found[result.case] = result.best / ours[result.case]
    return ratios


def _speed_up_panel(
    axis: Any, ratios: Mapping[Case, float], shapes: list[tuple[int, int]], theme: Theme
) -> None:
    axis.axvline(1, color=theme.ink, linewidth=1, zorder=1)
    for case, ratio in ratios.items():
        number = OPERATIONS.index(case.operation)
        color = theme.series[number]
        axis.plot(
            ratio,
            shapes.index(case.shape) + 0.17 * (number - 1.5),
            "o",
            color=color,
            markersize=4.5,
            markerfacecolor=color if case.dtype == DTYPES[0] else theme.ground,
        )
    axis.set_xscale("log")
    axis.set_yticks(range(len(shapes)), [f"{rows}x{n}" for rows, n in shapes])
    axis.set_ylim(len(shapes) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.minorticks_off()


def draw_roofline(results: Results, theme: Theme) -> Any:
    """What share of the speed that the hardware allows fastlse reaches, by size."""
    from matplotlib import pyplot as plt

    curves = [result for result in _scaling(results.results) if result.case.threads == 1]
    if not any(result.contender in LIMIT_NAMES for result in curves):
        return None
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.5), sharey=True)
    for axis, dtype in zip(axes, DTYPES, strict=True):
        for operation, color in zip(OPERATIONS, theme.series, strict=True):
            shares = _shares([r for r in curves if _is_of(r.case, operation, dtype)])
            axis.plot(list(shares), list(shares.values()), "o-", color=color)
        _size_axis(axis, dtype, results.machine, theme)
        axis.axhline(1, color=theme.ink, linewidth=1, zorder=1)
    axes[0].set_ylim(0, 1.19)
    axes[0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes[0].yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    handles = [_line(c, name) for name, c in zip(OPERATIONS, theme.series, strict=True)]
    _finish(figure, "Share of the hardware's speed that fastlse reaches", handles, results, theme)
    return figure


def _shares(curves: Iterable[Result]) -> dict[int, float]:
    """By size: the limit's time over fastlse's.

    The limit is the time to move the array through memory at that size, or the time of the
    arithmetic at the size where that is shortest, whichever is longer.
    """
    times: dict[int, dict[str, float]] = {}
    for result in curves:
        times.setdefault(result.case.n_elements, {})[result.contender] = result.ns_per_element
    arithmetic = min(
        (t for found in times.values() for name, t in found.items() if name in ARITHMETIC),
        default=0.0,
    )
    shares = {}
    for size, found in sorted(times.items()):
        movement = [t for name, t in found.items() if name in MOVEMENT]
        if OURS in found and movement:
            shares[size] = max(min(movement), arithmetic) / found[OURS]
    return shares


def draw_time(results: Results, theme: Theme) -> Any:
    """The time of an element against the size of the array."""
    from matplotlib import pyplot as plt

    curves = [result for result in _scaling(results.results) if result.case.threads == 1]
    if not curves:
        return None
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.2), sharex=True, sharey=True)
    named = dict(zip((OURS, "NumPy", "PyTorch"), theme.series, strict=False))
    for row, operation in zip(axes, ("logsumexp", "cross_entropy_and_grad"), strict=True):
        for axis, dtype in zip(row, DTYPES, strict=True):
            found = [r for r in curves if _is_of(r.case, operation, dtype)]
            for name, color in named.items():
                points = [r for r in found if r.contender == name]
                axis.plot(*_points(points), "o-", color=color, zorder=3 if name == OURS else 2)
            limit = [r for r in found if r.contender in ARITHMETIC]
            axis.plot(*_points(limit), "--", color=theme.faint_ink, linewidth=1.5)
            axis.set_yscale("log")
            _size_axis(axis, dtype, results.machine, theme)
            axis.set_title(f"{operation}, {dtype}")
    for axis in axes[0]:
        axis.set_xlabel("")
    axes[0, 0].yaxis.set_major_locator(_locator([0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]))
    axes[0, 0].yaxis.set_major_formatter("{x:g} ns")
    axes[0, 0].minorticks_off()
    handles = [
        *(_line(color, name) for name, color in named.items()),
        _line(theme.faint_ink, "intrinsics limit", is_limit=True),
    ]
    _finish(figure, "Time per element, by the size of the array", handles, results, theme)
    return figure


PICTURES = {"speed-up": draw_speed_up, "roofline": draw_roofline, "time": draw_time}
ARITHMETIC = ("limit max and sum", "limit store and rescale")
MOVEMENT = ("limit read once", "limit copy", "limit copy, streaming")
LIMIT_NAMES = (*ARITHMETIC, *MOVEMENT)


def _scaling(results: Iterable[Result]) -> list[Result]:
    chosen = (result for result in results if result.suite == "scaling")
    return sorted(chosen, key=lambda result: result.case.n_elements)


def _is_of(case: Case, operation: str, dtype: str) -> bool:
    return (case.operation, case.dtype) == (operation, dtype)


def _points(results: list[Result]) -> tuple[list[int], list[float]]:
    return [r.case.n_elements for r in results], [r.ns_per_element for r in results]


def _size_axis(axis: Any, dtype: str, described: Mapping[str, Any], theme: Theme) -> None:
    """A logarithmic axis of elements, with the sizes at which an array outgrows the caches."""
    axis.set_xscale("log")
    axis.set_title(dtype)
    axis.set_xlabel("elements, in rows of 1000")
    for level, size in described["caches"].items():
        if level == "L1":
            continue
        elements = _bytes(size) / np.dtype(dtype).itemsize
        axis.axvline(elements, color=theme.faint_ink, linewidth=0.8, linestyle=":", zorder=1)
        axis.annotate(
            level,
            (elements, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -4),
            textcoords="offset points",
            verticalalignment="top",
            color=theme.faint_ink,
        )


def _bytes(size: str) -> int:
    """A cache's size, which Linux writes like 512K."""
    number, unit = size[:-1], size[-1:]
    return int(number) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit]


def _locator(ticks: list[float]) -> Any:
    from matplotlib.ticker import FixedLocator

    return FixedLocator(ticks)


def _dot(edge: str, face: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=edge, markerfacecolor=face, marker="o", linestyle="", label=label)


def _line(color: str, label: str, is_limit: bool = False) -> Any:
    from matplotlib.lines import Line2D

    marker, style = ("", "dashed") if is_limit else ("o", "solid")
    styles: dict[str, Any] = {"marker": marker, "linestyle": style}
    return Line2D([], [], color=color, label=label, **styles)


def _finish(figure: Any, title: str, handles: list[Any], results: Results, theme: Theme) -> None:
    """Title, legend and the machine's name, with a fixed height each."""
    height = figure.get_figheight()
    middle = {"x": 0.5, "horizontalalignment": "center"}
    figure.text(y=1 - 0.25 / height, s=title, fontsize=11, **middle)
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.3 / height),
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.4,
    )
    caption = machine.title(results.machine)
    figure.text(y=0.09 / height, s=caption, color=theme.faint_ink, **middle)
    figure.tight_layout(rect=(0, 0.24 / height, 1, 1 - 0.58 / height))


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Matplotlib without a display, in the theme's colours; figures are closed at the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    settings: dict[Any, Any] = {
        "figure.facecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.faint_ink,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        "xtick.color": theme.grid,
        "ytick.color": theme.grid,
        "xtick.labelcolor": theme.faint_ink,
        "ytick.labelcolor": theme.faint_ink,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "text.color": theme.ink,
        "font.size": 8.5,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 2,
        "lines.markersize": 4,
        "svg.hashsalt": "fastlse",  # the same picture gives the same file
    }
    with mpl.rc_context(settings):
        yield
        plt.close("all")


def save(figure: Any, path: Path) -> None:
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=200, metadata=metadata)
