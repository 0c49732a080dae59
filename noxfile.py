"""The project's habits, one command each: `nox -s test`, `lint`, `types`, `stubs`, `bench`."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "test"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
COMPILED = [f"fastlse._backends.{name}" for name in ("_runtime", "baseline", "avx2", "avx512")]


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def test(session: nox.Session) -> None:
    """Run the tests against the installed package."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests with the oldest NumPy that is supported."""
    session.install(".[test]", "numpy==2.0.*")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
@nox.parametrize("sklearn", ["1.6", "1.7", "1.8", "1.9"])
def sklearn_own(session: nox.Session, sklearn: str) -> None:
    """Run scikit-learn's own tests with fastlse in it, one version of it after the other."""
    session.install(".[test]", f"scikit-learn=={sklearn}.*")
    chosen = session.posargs or ["tests/test_sklearn_own.py"]
    session.run("python", "-m", "pytest", *chosen, env={"FASTLSE_ALL_OF_SKLEARN": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, Cython sources and spelling."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cython-lint", "src")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, and the stubs against what was built."""
    session.install(".[sklearn]", *group("types"))
    session.run("mypy")
    stubtest(session)


@nox.session
def stubs(session: nox.Session) -> None:
    """Check the stubs alone against what was built."""
    session.install(".[sklearn]", *group("types"))
    stubtest(session)


def stubtest(session: nox.Session) -> None:
    # The modules for instructions that this machine lacks refuse to be imported.
    listed = ("--allowlist", "tools/stubtest_allowlist.txt", "--ignore-unused-allowlist")
    session.run("python", "-m", "mypy.stubtest", "fastlse", *listed, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time fastlse against its peers and the machine; name further peers to install behind `--`."""
    session.install(".[bench]", *session.posargs)
    session.run("python", "-m", "pytest", "bench")


@nox.session
def coverage(session: nox.Session) -> None:
    """Show which lines of the Python code no test runs."""
    session.install(".[test]", *group("coverage"))
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")
