"""The live line of a run: step, losses, logits, speed, time left, current size."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from gancompress.commands.console import quiet, stderr
from gancompress.training.log import PlainScreen, Screen, Silent, describe


class ProgressLine:
    """A ``Screen``: a bar on a terminal, a plain line now and then elsewhere, silent with -q.

    Enter it around the run; nothing is left on the terminal when it ends but the events.
    """

    def __init__(self) -> None:
        self._console = stderr()
        self._other: Screen | None = None
        if quiet():
            self._other = Silent()
        elif not self._console.is_terminal:
            self._other = PlainScreen(seconds=10.0)
        self._figures = Text("starting")
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=self._console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=1)
        self._live = Live(
            Group(self._bar, self._figures),
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> ProgressLine:
        if self._other is None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._other is None:
            self._live.stop()

    def update(self, line: Mapping[str, Any]) -> None:
        """Show one line of figures."""
        if self._other is not None:
            self._other.update(line)
            return
        self._bar.update(self._task, completed=line["step"], total=line["steps"])
        # The step itself stands on the bar.
        self._figures.plain = describe(line).partition("  ")[2]

    def event(self, text: str) -> None:
        """Leave one line above the bar."""
        if self._other is not None:
            self._other.event(text)
            return
        self._console.print(Text(text), soft_wrap=True)
