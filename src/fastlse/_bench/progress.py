"""A progress bar on standard error: redrawn on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

BAR_WIDTH = 24


class Progress:
    """How many of the steps are done, and which one is under way."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self.stream = sys.stderr if stream is None else stream
        self.is_live = self.stream.isatty()

    def start(self, step: str) -> None:
        """Say what is under way."""
        if self.is_live:
            filled = BAR_WIDTH * self.done // self.total
            bar = "█" * filled + "░" * (BAR_WIDTH - filled)
            self._redraw(f"{bar} {self.done:>3}/{self.total}  {step}")
        else:
            self.stream.write(f"{self.done + 1:>3}/{self.total}  {step}\n")
            self.stream.flush()

    def finish(self) -> None:
        """Count the step."""
        self.done += 1

    def clear(self) -> None:
        """Make room for a line of output, or for the prompt."""
        if self.is_live:
            self._redraw("")

    def _redraw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self.stream.write(f"\r\x1b[K{line[:width]}")
        self.stream.flush()
