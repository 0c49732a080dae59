"""Build the extension modules: one kernel source, one module for each instruction set.

Metadata and the tools' settings are in pyproject.toml. What the compiler takes is found out by
compiling, never by its name or version.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

BACKENDS = "src/fastlse/_backends"
PURE_PYTHON = os.environ.get("FASTLSE_PURE_PYTHON", "0") not in ("", "0")

# IEEE arithmetic stays as written: no reassociation, no contraction, NaN and infinity kept. Four
# are GCC's: schedule across the many independent lanes, as far as there are registers, make no `rep
# movs` of copies of a few lanes, and do not peel the lane loops away before the vectoriser has seen
# them, which makes the kernels four times slower. CPython's own -fwrapv keeps loop counters from
# being widened and costs up to a third on short rows.
COMMON_FLAGS = [
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fno-wrapv",
    "-fschedule-insns",
    "-fsched-pressure",
    "-fno-tree-loop-distribute-patterns",
    "--param=max-completely-peel-times=6",
]
AVX2_FLAGS = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c"]
AVX512_FLAGS = ["-mavx512f", "-mavx512cd", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
INSTRUCTION_SETS = {
    "avx2": AVX2_FLAGS,
    "avx512": [*AVX2_FLAGS, *AVX512_FLAGS, "-mprefer-vector-width=512"],
}
MSVC_FLAGS = ["/O2", "/fp:precise", "/openmp"]
MSVC_INSTRUCTION_SETS = {"avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"]}

# What users may have in CFLAGS but what breaks the kernels' rounding, or what makes the linker add
# start-up code that flushes subnormal numbers in the whole process.
REFUSED_FLAGS = {"-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-fassociative-math"}

PYTHON_PROGRAM = "#include <Python.h>\nint main(void) { return 0; }\n"
X86_64_PROGRAM = "#ifndef __x86_64__\n#error\n#endif\nint main(void) { return 0; }\n"
OPENMP_PROGRAM = """
#include <omp.h>
int n_threads(void) {
    int n = 0;
    #pragma omp parallel reduction(+:n)
    n += omp_get_num_threads();
    return n;
}
"""
INSTRUCTION_SET_PROGRAMS = {  # intrinsics, so that the assembler has to know the instructions too
    "avx2": """
#include <immintrin.h>
__m256 fma_256(__m256 x) { return _mm256_fmadd_ps(x, x, x); }
""",
    "avx512": """
#include <immintrin.h>
__m512 fma_512(__m512 x) { return _mm512_fmadd_ps(x, x, x); }
__m512d and_512(__m512d x) { return _mm512_and_pd(x, x); }
""",
}

NO_COMPILER = """
fastlse: no working C compiler, which its kernels are built with: {reason}

Install one, then try again:
  Debian, Ubuntu   apt-get install build-essential python3-dev
  Fedora           dnf install gcc python3-devel
  macOS            xcode-select --install
  Windows          "Desktop development with C++" of the Build Tools for Visual Studio
Or set FASTLSE_PURE_PYTHON=1 to install the NumPy backend alone: the same functions, slower.
"""


def say(text: str) -> None:
    print(f"fastlse: {text}", flush=True)


class Probe:
    """Compile small programs with the command that will compile the extensions."""

    def __init__(self, compiler):
        includes = [f"-I{directory}" for directory in compiler.include_dirs]
        self.compile_command = [*compiler.compiler_so, *includes]
        self.link_command = list(compiler.linker_so)
        self.first_error, self.usual_output = self.compile(PYTHON_PROGRAM)

    def compile(self, program: str, *flags: str, link: list[str] | None = None) -> tuple[str, str]:
        """Return the first line about what went wrong, or "", and all that was printed."""
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "probe.c").write_text(program)
            commands = [[*self.compile_command, *flags, "-c", "probe.c", "-o", "probe.o"]]
            if link is not None:
                commands.append([*self.link_command, "probe.o", "-o", "probe.so", *link])
            output = ""
            for command in commands:
                try:
                    run = subprocess.run(command, cwd=directory, capture_output=True, text=True)
                except OSError as error:
                    return f"{command[0]}: {error.strerror}", ""
                output += run.stdout + run.stderr
                if run.returncode:
                    lines = output.splitlines() or [f"{command[0]} failed"]
                    return next((line for line in lines if "error" in line), lines[0]), output
            return "", output

    def takes(self, flag: str) -> bool:
        """Whether the compiler takes a flag in silence: Clang only warns of most of GCC's."""
        return self.compile(PYTHON_PROGRAM, flag) == ("", self.usual_output)

    def openmp_flags(self) -> tuple[list[str], list[str]]:
        """Return the flags that compile and that link OpenMP programs, both empty if none do."""
        for flags, link in (
            (["-fopenmp"], ["-fopenmp"]),
            (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),  # Apple's Clang with libomp beside it
        ):
            if not self.compile(OPENMP_PROGRAM, *flags, link=link)[0]:
                return flags, link
        return [], []


class BuildKernels(build_ext):
    """Choose modules and flags by what the compiler takes, then translate and compile them."""

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            self.choose_for_msvc()
        else:
            self.choose_for_gnu()
        self.translate()
        self.parallel = self.parallel or 2  # the modules are big
        super().build_extensions()

    def choose_for_msvc(self) -> None:
        try:
            self.compiler.initialize()
        except PlatformError as error:
            sys.exit(NO_COMPILER.format(reason=error))
        for extension in list(self.extensions):
            backend = extension.name.rpartition(".")[2]
            if backend in INSTRUCTION_SETS and self.plat_name != "win-amd64":
                self.leave_out(extension)
            else:
                self.set_flags(extension, MSVC_FLAGS + MSVC_INSTRUCTION_SETS.get(backend, []), [])

    def choose_for_gnu(self) -> None:
        for flag in REFUSED_FLAGS.intersection(self.compiler.compiler_so):
            say(f"{flag} of CFLAGS would break the results and is not used")
        for command in (self.compiler.compiler_so, self.compiler.linker_so):
            command[:] = [part for part in command if part not in REFUSED_FLAGS]
        probe = Probe(self.compiler)
        if probe.first_error:
            sys.exit(NO_COMPILER.format(reason=probe.first_error))

        common = [flag for flag in COMMON_FLAGS if probe.takes(flag)]
        for flag in COMMON_FLAGS:
            if flag not in common:
                say(f"the compiler does not take {flag}, so it is left out")
        openmp_compile, openmp_link = probe.openmp_flags()
        if not openmp_link:
            say("the compiler does not build OpenMP programs, so the kernels run on one thread")

        is_x86_64 = not probe.compile(X86_64_PROGRAM)[0]
        for extension in list(self.extensions):
            backend = extension.name.rpartition(".")[2]
            flags = INSTRUCTION_SETS.get(backend, [])
            if flags and not is_x86_64:
                self.leave_out(extension)
            elif flags and (error := probe.compile(INSTRUCTION_SET_PROGRAMS[backend], *flags)[0]):
                say(f"{backend} is left out: {error}")
                self.leave_out(extension)
            else:
                flags = [*common, *flags, *openmp_compile]
                self.set_flags(extension, flags, openmp_link)

    def leave_out(self, extension: Extension) -> None:
        self.extensions.remove(extension)
        Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)  # of an earlier build

    def set_flags(self, extension: Extension, flags: list[str], link: list[str]) -> None:
        extension.extra_compile_args = flags
        extension.extra_link_args = link
        extension.define_macros.append(("FASTLSE_FLAGS", '"{}"'.format(" ".join(flags))))

    def translate(self) -> None:
        """Run Cython, with its C files below build/ and so never in git, an sdist or a wheel."""
        import numpy as np
        from Cython.Build import cythonize

        translated = cythonize(
            self.extensions,
            build_dir=self.build_temp,
            include_path=["src"],
            force=self.force,
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": False,
                "embedsignature": True,
                "freethreading_compatible": True,
                "autotestdict": False,
            },
        )
        for extension, translation in zip(self.extensions, translated, strict=True):
            extension.sources = translation.sources
            extension.include_dirs += [np.get_include(), BACKENDS]


def extension_modules() -> list[Extension]:
    if PURE_PYTHON:
        say("FASTLSE_PURE_PYTHON is set: no extension modules, the NumPy backend alone")
        return []
    included = [str(path) for path in Path(BACKENDS).glob("*") if path.suffix in (".pxi", ".h")]
    return [
        Extension(
            f"fastlse._backends.{name}",
            [f"{BACKENDS}/{name}.pyx"],
            depends=[*sorted(included), "setup.py"],
            define_macros=[
                ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
            ],
        )
        for name in ("_runtime", "baseline", "avx2", "avx512")
    ]


setup(ext_modules=extension_modules(), cmdclass={"build_ext": BuildKernels})
