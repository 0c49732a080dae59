"""The loops of limits.c as contenders: compiled on demand, called through ctypes.

A loop that only reads or copies goes over whole steps of 128 elements: rows of another length
become rows of the nearest such length, as many as the case's array holds (1000x1000 elements as
976 rows of 1024). Rows of less than 64 elements, and columns, become a whole number of tiles of 64.
Small arrays are gone over several times in one call. The time is scaled to the case's number of
elements: what counts is the time of an element.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import fastlse
from fastlse._bench.cases import LIMIT_NAMES, SHORT_ROW, Case
from fastlse._bench.contenders import CONTENDERS, SkippedError

SOURCE = Path(__file__).with_name("limits.c")
STEP = 128  # elements: 8 registers of 16 float32, the largest step of a loop
SIDE = 64  # rows side by side
ELEMENTS_OF_A_CALL = 1 << 18
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_ssize_t
# loop, times, x, targets, n_rows, n, out
ARGUMENTS = (_POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER)
FLAGS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
}
# The patterns are memcpy, which chooses its own kind of stores.
COMMON_FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-tree-loop-distribute-patterns",
]


@functools.cache
def functions():
    """The C function of each limit: "limit read twice, write once" is read_twice_write_once."""
    return {
        name: name.removeprefix("limit ").replace(",", "").replace(" ", "_")
        for name in sorted(LIMIT_NAMES)
    }


def instruction_set():
    """The best of those that this machine runs."""
    for name in fastlse.available_backends():
        if name in FLAGS:
            return name
    raise SkippedError("the limits need AVX2 or AVX-512")


@functools.cache
def library(instructions, dtype):
    """Compile limits.c and load it; the file is gone when the process ends, at the latest."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise SkippedError(f"the limits need a C compiler, and there is no {compiler[0]}")
    bits = {"float32": 32, "float64": 64}[dtype]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        target = Path(directory) / "limits.so"
        compile_to(target, compiler, [f"-DBITS={bits}", *FLAGS[instructions]])
        return ctypes.CDLL(str(target))


def compile_to(target, compiler, flags):
    sizes = [f"-DSIDE={SIDE}", f"-DMOST_SIDE_BY_SIDE={SHORT_ROW}"]
    command = [
        *compiler,
        *COMMON_FLAGS,
        *sizes,
        *flags,
        "-shared",
        "-fPIC",
        str(SOURCE),
        "-o",
        str(target),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SkippedError(f"limits.c does not compile: {process.stderr.strip()[:300]}")


def shape_of_loop(name, case: Case):
    """How many rows a loop goes over in a case's array, and of which length."""
    n_rows, n = case.shape
    if case.layout in ("axis 0", "Fortran"):
        return n_rows // SIDE * SIDE, n // 4 * 4
    if n < SHORT_ROW:
        return n_rows // SIDE * SIDE, n
    if not any(word in name for word in ("read", "copy")):
        return n_rows, n
    length = max(STEP, round(n / STEP) * STEP)
    if length > n_rows * n:
        length = n // STEP * STEP
    return n_rows * n // length, length


def repeats(case, n_elements=ELEMENTS_OF_A_CALL):
    """How often a call goes over the array, so that the call itself does not count."""
    return max(1, n_elements // case.n_elements)


def limit(name, instructions=None, n_elements=ELEMENTS_OF_A_CALL):
    """A contender: the loop of limits.c of that name, in an instruction set or in the best.

    A call works on `n_elements` or a little less, an array of less over and over.
    """

    def contender(case, inputs):
        loops = library(instructions or instruction_set(), case.dtype)
        loops.repeat.restype = None
        loops.repeat.argtypes = ARGUMENTS
        loop = ctypes.cast(loops[functions()[name]], ctypes.c_void_p)
        n_rows, length = shape_of_loop(name, case)
        # data_as holds the array, data would not
        x, targets, out = (
            array.ctypes.data_as(_POINTER) for array in (inputs.x, inputs.target, inputs.out)
        )
        assert x.value % 64 == out.value % 64 == 0
        assert 0 < n_rows * length <= case.n_elements
        arguments = loop, repeats(case, n_elements), x, targets, n_rows, length, out
        return {case.operation: lambda: loops.repeat(*arguments)}

    return contender


def scale(entrant):
    """What turns the time of an entrant's call into that of each element of its case once."""
    if entrant.contender not in functions():
        return 1.0
    n_rows, length = shape_of_loop(entrant.contender, entrant.case)
    return entrant.case.n_elements / (n_rows * length * repeats(entrant.case))


ALL_CONTENDERS = CONTENDERS | {name: limit(name) for name in functions()}
