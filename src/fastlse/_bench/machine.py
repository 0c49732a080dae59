"""What a result depends on: the machine, the build, the libraries, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import fastlse
from fastlse import _backends

_DISTRIBUTIONS = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "jax",
    "onnxruntime",
    "numba",
    "tensorflow",
)
# Two results files that differ in these are from two machines.
_IDENTITY = ("cpu", "processors", "caches", "system")
_PLENTY = 1 << 62
_SPARE = 0.9  # the share of the free memory that a race may take


def describe(n_threads: int) -> dict[str, Any]:
    """The machine, the build and the libraries' versions, as a results file holds them."""
    config = _backends.config()
    return {
        "cpu": _cpu(),
        "processors": os.cpu_count() or 1,
        "caches": _caches(),
        "memory": f"{_total_memory() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "backend": fastlse.backend(),
        "compiler": config["compiler"],
        "threads": n_threads,
        "versions": {"fastlse": fastlse.__version__, **_versions()},
    }


def title(machine: dict[str, Any]) -> str:
    """The machine and the build in a line."""
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    version = machine["versions"]["fastlse"]
    return f"{machine['cpu']}, {threads}, fastlse {version} ({machine['backend']})"


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """In what two machines differ, in words; empty if they seem to be the same."""
    return [
        f"{key} {here.get(key)!r} here, {there.get(key)!r} there"
        for key in _IDENTITY
        if here.get(key) != there.get(key)
    ]


def warning(here: dict[str, Any], there: dict[str, Any]) -> str:
    """What to say when results of two machines are compared; empty if they are of one."""
    found = differences(here, there)
    return f"these results are from another machine: {'; '.join(found)}" if found else ""


def commit(directory: Path) -> dict[str, Any]:
    """The commit of a directory under version control, and whether files differ from it."""
    marker = next(iter(sorted(directory.glob("*.py"))), directory)
    if not _git(directory, "ls-files", marker.name):  # a virtual environment inside a repository
        return {"id": None, "dirty": None}
    return {
        "id": _git(directory, "rev-parse", "HEAD"),
        "dirty": bool(_git(directory, "status", "--porcelain", "--untracked-files=no")),
    }


def available_memory() -> float:
    """Bytes that a race may take; plenty where the system does not say."""
    free = _meminfo("MemAvailable") or _PLENTY
    limit = _read("/sys/fs/cgroup/memory.max")
    if limit.isdigit():
        used = _read("/sys/fs/cgroup/memory.current")
        free = min(free, int(limit) - int(used or 0))
    return _SPARE * free


def _total_memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _meminfo(key: str) -> int:
    for line in _read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) << 10
    return 0


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Sizes of the first processor's data caches, by level."""
    sizes = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if _read(cache / "type") != "Instruction":
            sizes[f"L{_read(cache / 'level')}"] = _read(cache / "size")
    return sizes


def _versions() -> dict[str, str]:
    installed = {}
    for name in _DISTRIBUTIONS:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _git(directory: Path, *arguments: str) -> str:
    return _output("git", "-C", str(directory), *arguments)


def _output(*command: str) -> str:
    """What a command prints; nothing if it cannot be run or fails."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""
