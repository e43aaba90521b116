"""The one live line of a run: step, losses, logits, speed, time left, current size."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from gancompress.commands.console import quiet, stderr

_PLAIN_SECONDS = 10.0


class ProgressLine:
    """Shows the lines of a training loop: a bar on a terminal, a line now and then elsewhere.

    Silent under ``--quiet``. Enter it around the run and pass ``update`` and ``event``.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.console = stderr()
        self._live: Live | None = None
        self._shown = 0.0
        self._text = Text("")
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(),
            console=self.console, expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> ProgressLine:
        if self.console.is_terminal and not quiet():
            self._live = Live(
                Group(self._bar, self._text), console=self.console, refresh_per_second=4,
                transient=True,
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, line: Mapping[str, Any]) -> None:
        """Show one line of metrics; keys that are absent are left out."""
        if quiet():
            return
        step = int(line["step"])
        text = describe(line, self.total)
        if self._live is not None:
            self._bar.update(self._task, completed=step, description=f"step {step}/{self.total}")
            self._text.plain = text
            return
        now = time.monotonic()
        if now - self._shown >= _PLAIN_SECONDS or step >= self.total:
            self._shown = now
            self.console.print(f"step {step}/{self.total}  {text}", soft_wrap=True, markup=False)

    def event(self, text: str) -> None:
        """Leave one line above the bar."""
        if not quiet():
            self.console.print(text, soft_wrap=True, markup=False)


def describe(line: Mapping[str, Any], total: int) -> str:
    """Return the figures of one metrics line as short words."""
    parts = []
    for key, label, form in (
        ("g_loss", "G", "{:.3f}"), ("d_loss", "D", "{:.3f}"),
        ("real", "real", "{:+.2f}"), ("fake", "fake", "{:+.2f}"),
        ("distill", "distill", "{:.3f}"), ("images_per_second", "", "{:.0f} img/s"),
    ):  # fmt: skip
        if line.get(key) is not None:
            parts.append(f"{label} {form.format(line[key])}".strip())
    if speed := line.get("steps_per_second"):
        left = (total - int(line["step"])) / speed
        parts.append(f"ETA {int(left // 60)}:{int(left % 60):02d}")
    for key, label in (("params", "params"), ("macs", "MACs")):
        if line.get(key) is not None:
            from gancompress.reporting.tables import si

            parts.append(f"{si(line[key])} {label}")
    return "  ".join(parts)
