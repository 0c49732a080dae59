"""A fit's coefficients in a file, so that a fit that was stopped goes on from there."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastlse._problem import Array

# Means of features and sums of weights depend on the chunks in their last digits.
SAME = 1e-6


@dataclass(frozen=True)
class Saved:
    """The coefficients after so many iterations."""

    point: Array
    n_iter: int


class Checkpoint:
    """One file, of one problem: data, penalty and intercept, as numbers and texts by name."""

    def __init__(self, path: str | os.PathLike[str], problem: dict[str, Any]) -> None:
        self.path = Path(path)
        self.problem = json.loads(json.dumps(problem))

    def read(self) -> Saved | None:
        """What was saved, None if there is no file; a ValueError if it is another problem's."""
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                problem = json.loads(str(file["problem"]))
                saved = Saved(file["point"], int(file["n_iter"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"checkpoint {str(self.path)!r} cannot be read: {error}") from error
        others = [
            f"{name} was {_short(problem.get(name))}, is {_short(value)}"
            for name, value in self.problem.items()
            if not _are_same(problem.get(name), value)
        ]
        if others:
            raise ValueError(
                f"checkpoint {str(self.path)!r} is of another fit ({'; '.join(others)}): remove "
                "it, or name another file"
            )
        return saved

    def write(self, saved: Saved) -> None:
        """Put a new file in the place of the one before, which a crash leaves as it was."""
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        with beside.open("wb") as file:
            np.savez(
                file,
                problem=np.array(json.dumps(self.problem)),
                point=saved.point,
                n_iter=np.array(saved.n_iter),
            )
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)


def _are_same(before: Any, now: Any) -> bool:
    if isinstance(now, dict):  # numbers, and how large a difference between them would be
        return isinstance(before, dict) and (
            len(before["values"]) == len(now["values"])
            and bool(np.allclose(before["values"], now["values"], rtol=SAME, atol=now["atol"]))
        )
    if isinstance(now, float) and isinstance(before, float):
        return before == now or abs(before - now) <= SAME * abs(now)
    return bool(before == now)


def _short(value: Any) -> str:
    text = str(value["values"] if isinstance(value, dict) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
