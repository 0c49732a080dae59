"""The one table of cases: what every suite, and ``python -m fastlse bench``, times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

OPERATIONS = ("logsumexp", "softmax", "log_softmax", "cross_entropy_and_grad")
DTYPES = ("float32", "float64")
OURS = "fastlse"
PEERS = (
    "NumPy",
    "SciPy",
    "scikit-learn",
    "PyTorch",
    "torch.compile",
    "JAX",
    "ONNX Runtime",
    "numba",
    "TensorFlow",
)
YARDSTICK = "np.add.reduce"  # the least that a NumPy function over rows can take

# The loops of bench/limits.c that bound an operation from below: without promises, and with them.
ARITHMETIC_LIMITS = {
    operation: (f"limit {loop}", f"limit {loop}, as promised")
    for operation, loop in (
        ("logsumexp", "max and sum"),
        ("softmax", "store and rescale"),
        ("log_softmax", "log of softmax"),
        ("cross_entropy_and_grad", "loss and gradient"),
    )
}
# What bounds an operation beside its own loops.
_USUAL = dict.fromkeys(OPERATIONS[1:], ARITHMETIC_LIMITS["softmax"]) | {
    "logsumexp": ARITHMETIC_LIMITS["logsumexp"]
}
_MOVING = (
    "limit copy",
    "limit copy, streaming",
    "limit copy beside arithmetic",
    "limit read twice, write once",
    "limit read twice, write once, streaming",
)
LIMITS = {
    operation: (
        *(("limit read once",) if operation == "logsumexp" else _MOVING),
        *dict.fromkeys((*_USUAL[operation], *names)),
    )
    for operation, names in ARITHMETIC_LIMITS.items()
}
# Over columns there are none of losses, whose gradients are a softmax but for the targets' entries.
COLUMN_LIMITS = {
    operation: tuple(name.replace("limit", "limit columns") for name in names)
    for operation, names in (
        ARITHMETIC_LIMITS | {"cross_entropy_and_grad": ARITHMETIC_LIMITS["softmax"]}
    ).items()
}
STRIDED_LIMITS = {
    operation: (
        "limit strided read once",
        *(name.replace("limit", "limit strided") for name in names),
    )
    for operation, names in ARITHMETIC_LIMITS.items()
}
SHORT_ROW = 64  # elements: the loops take shorter rows side by side
LIMIT_NAMES = frozenset(
    name
    for limits in (LIMITS, COLUMN_LIMITS, STRIDED_LIMITS)
    for names in limits.values()
    for name in names
)

LAYOUTS = {
    "C": "rows of contiguous elements",
    "axis 0": "columns of an array in C order",
    "Fortran": "rows of an array in Fortran order",
    "strided": "every other element of longer rows",
}

# What goes into a call besides the array: "" is the plain call, every other one also has `out`.
OPTIONS = {
    "logsumexp": ("", "out", "b", "where", "keepdims", "return_sign"),
    "softmax": ("", "out", "where"),
    "log_softmax": ("", "out", "where"),
    "cross_entropy_and_grad": (
        "",
        "out",
        "weight",
        "sample_weight",
        "ignore_index",
        "label_smoothing",
        "z_loss",
        "softcap",
        "probabilities",
        "reduction",
    ),
}


@dataclass(frozen=True)
class Case:
    """Something to compute: an operation over the rows of an array."""

    operation: str
    dtype: str
    shape: tuple[int, int]  # rows, elements of a row
    threads: int = 1
    layout: str = "C"
    option: str = "out"

    @property
    def n_elements(self) -> int:
        """The array's size."""
        return self.shape[0] * self.shape[1]

    def label(self, without: Iterable[str] = ()) -> str:
        """The case in words, of what is not usual, leaving some of its fields out."""
        words = {
            "operation": self.operation,
            "dtype": self.dtype,
            "shape": f"{self.shape[0]}x{self.shape[1]}",
            "threads": f"{self.threads} threads" if self.threads > 1 else "",
            "layout": "" if self.layout == "C" else self.layout,
            "option": "" if self.option == "out" else self.option or "plain",
        }
        return " ".join(word for field, word in words.items() if word and field not in without)


@dataclass(frozen=True)
class Entrant:
    """A contender at a case of a suite."""

    case: Case
    contender: str
    suite: str = ""


@dataclass(frozen=True)
class Race:
    """Entrants that are timed in turn with one another."""

    name: str
    entrants: tuple[Entrant, ...]


@dataclass(frozen=True)
class Suite:
    """Cases and who competes at them; cases that differ in `varies` alone are one race."""

    name: str
    cases: tuple[Case, ...]
    contenders: tuple[str, ...] = (OURS,)
    varies: tuple[str, ...] = ()
    limits: Callable[[Case], tuple[str, ...]] | None = None

    def races(self, threads: int) -> Iterator[Race]:
        """The races of a process with so many threads, in the table's order.

        That is, of the cases on just so many; those of a suite that compares numbers of threads may
        have fewer.
        """
        entrants: dict[str, list[Entrant]] = {}
        fewest = 1 if "threads" in self.varies else threads
        for case in self.cases:
            if not fewest <= case.threads <= threads:
                continue
            # The loops of bench/limits.c run on one thread.
            limits = self.limits(case) if self.limits and threads == 1 else ()
            race = entrants.setdefault(case.label(self.varies), [])
            race.extend(Entrant(case, name, self.name) for name in (*self.contenders, *limits))
        for name, members in entrants.items():
            yield Race(name, tuple(members))


def _cases(
    shapes: Iterable[tuple[int, int]],
    operations: Iterable[str] = OPERATIONS,
    threads: Iterable[int] = (1, 2),
    layouts: Iterable[str] = ("C",),
    options: Iterable[str] = ("out",),
) -> Iterator[Case]:
    for fields_of_case in product(operations, DTYPES, shapes, threads, layouts, options):
        yield Case(*fields_of_case)


# A working set of at most 256 KiB, output included, fits into the L2 cache of any recent processor.
_IN_CACHE = {"logsumexp": 32768, **dict.fromkeys(OPERATIONS[1:], 16384)}
_CACHED_LENGTHS = (1000, 4096, 16384)
CACHED_SHAPES = {(size // n, n) for size in _IN_CACHE.values() for n in _CACHED_LENGTHS}
BIG_SHAPES = ((256, 32000), (8, 1000000))
PEER_SHAPES = ((100000, 10), (10000, 100), (1000, 1000), *BIG_SHAPES)
SHORT_LENGTHS = (2, 3, 5, 10, 33, 65, 100)


def _limit_cases() -> Iterator[Case]:
    for operation, size in _IN_CACHE.items():
        yield from _cases([(size // n, n) for n in _CACHED_LENGTHS], [operation], [1])
        yield from _cases(BIG_SHAPES, [operation], [1])


def _limits(case: Case) -> tuple[str, ...]:
    return LIMITS[case.operation]


def _arithmetic_limits(case: Case) -> tuple[str, ...]:
    """The loops that compute what the operation does, over the layout as it lies."""
    if case.layout in ("axis 0", "Fortran"):
        return COLUMN_LIMITS[case.operation]
    if case.layout == "strided":
        return STRIDED_LIMITS[case.operation]
    return ARITHMETIC_LIMITS[case.operation]


def _option_cases() -> Iterator[Case]:
    for operation, options in OPTIONS.items():
        yield from _cases([(1000, 1000), (100000, 10)], [operation], [1], options=options)


_ALL = (
    Suite("peers", tuple(_cases(PEER_SHAPES)), (OURS, *PEERS), limits=_arithmetic_limits),
    Suite("limits", tuple(_limit_cases()), limits=_limits),
    Suite(
        "layouts",
        tuple(_cases([(1000, 1000)], layouts=LAYOUTS)),
        varies=("layout",),
        limits=_arithmetic_limits,
    ),
    Suite(
        "rows",
        tuple(_cases([(1000, 1000), *((100000, n) for n in SHORT_LENGTHS)], threads=[1])),
        varies=("shape",),
        limits=_arithmetic_limits,
    ),
    Suite(
        "overhead",
        tuple(_cases([(1, 10), (1, 1000), (10, 10), (32, 100)], threads=[1], options=[""])),
        (OURS, YARDSTICK, "NumPy", "SciPy", "PyTorch", "JAX"),
    ),
    Suite(
        "scaling",
        tuple(_cases([(10**power, 1000) for power in range(7)])),
        (OURS, "NumPy", "PyTorch"),
        limits=_limits,
    ),
    Suite("options", tuple(_option_cases()), varies=("option",)),
    Suite("threads", tuple(_cases([(4000, 1000)])), varies=("threads",)),
)
SUITES = {suite.name: suite for suite in _ALL}


def command_suite(threads: int, peers: Iterable[str], quick: bool) -> Suite:
    """What ``python -m fastlse bench`` times: few enough cases for a minute."""
    shapes = [(10000, 10), (1000, 100)] if quick else [(100000, 10), (1000, 1000), (64, 32000)]
    return Suite("command", tuple(_cases(shapes, threads=[threads])), (OURS, *peers))
