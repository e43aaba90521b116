"""What a run tells: lines of figures and events, to files and to a screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from gancompress.errors import ConfigError, visible
from gancompress.modules.ranks import rank
from gancompress.recipes.schema import Recipe
from gancompress.training.callbacks import Callback, Happening, open_loggers
from gancompress.training.run_files import EVENTS, METRICS
from gancompress.training.run_folder import RunFolder

BESIDE = (
    "steps", "seconds", "steps_per_second", "images_per_second", "eta_seconds", "widths",
)  # fmt: skip
"""What a line of metrics.jsonl holds beside the history."""


class Screen(Protocol):
    """Shows a run while it goes on, for example the command line's progress bar (ours)."""

    def update(self, line: Mapping[str, Any]) -> None:
        """Show one line of figures; it has ``step`` and ``steps``, the rest as far as known."""
        ...

    def event(self, text: str) -> None:
        """Show one event, in words."""
        ...


class Silent:
    """A screen that shows nothing."""

    def update(self, line: Mapping[str, Any]) -> None:
        """Show nothing."""

    def event(self, text: str) -> None:
        """Show nothing."""


class PlainScreen:
    """Plain lines on stderr, at most one in ``seconds`` (ours)."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._shown = -seconds

    def update(self, line: Mapping[str, Any]) -> None:
        """Print the figures, unless the last ones are too fresh."""
        now = time.monotonic()
        if now - self._shown < self._seconds and line["step"] < line["steps"]:
            return
        self._shown = now
        print(describe(line), file=sys.stderr, flush=True)

    def event(self, text: str) -> None:
        """Print the event."""
        print(visible(text), file=sys.stderr, flush=True)


class Log:
    """Writes what a run tells (two .jsonl, ``log.txt``), keeps the history, feeds a screen.

    ``callbacks`` hear of everything, and so do the loggers that `open` makes: one that fails is
    left out from then on, and said.

    ``history`` holds one mapping per logged step, without clock readings that differ between two
    runs of the same seed: those are only in the file.
    """

    def __init__(
        self, run: RunFolder | None, screen: Screen, callbacks: Sequence[Callback] = ()
    ) -> None:
        self.history: list[dict[str, float]] = []
        self._callbacks, self._loggers = list(callbacks), list[tuple[str, Callback]]()
        self._widths: dict[str, int] = {}
        self._step = 0
        self._run = run
        self._screen = screen
        self._mark: tuple[int, float] | None = None

    @property
    def folder(self) -> Path | None:
        """The run folder, on the rank that writes to it."""
        return None if self._run is None else self._run.path

    def open(self, recipe: Recipe, step: int) -> None:
        """Begin to tell the loggers that ``recipe`` names, from ``step`` on.

        Raises:
            ConfigError: there is no run folder for them to write into.
        """
        self._step = step
        if recipe.log and self._run is None and rank() == 0:
            raise ConfigError("loggers write into the run folder: give out=..., or leave log out")
        if self._run is not None:
            config = recipe.model_dump(mode="json")
            self._loggers = open_loggers(recipe.log, self._run.path, config, step)

    def close(self) -> None:
        """Tell that nothing more comes."""
        self._tell(Happening("end", self._step))
        self._callbacks, self._loggers = [], []

    def shown(self, kind: Literal["picture", "sound"], step: int, name: str, file: Path) -> None:
        """Tell of a picture or a sound that was written."""
        self._tell(Happening(kind, step, name=name, file=file))

    def _tell(self, happening: Happening) -> None:
        self._step = max(self._step, happening.step)
        for callback in self._callbacks:
            callback(happening)
        for one in list(self._loggers):
            name, callback = one
            try:
                callback(happening)
            except Exception as error:  # a run is worth more than one of its logs
                self._loggers.remove(one)
                said = " ".join(str(error).split())[:200]
                self.event("log_failed", f"log {name} failed and is left out from now on: {said}")

    def figures(
        self,
        step: int,
        steps: int,
        batch: int,
        values: Mapping[str, float],
        widths: Mapping[str, int] | None = None,
    ) -> None:
        """Record the figures of ``step``; speed is counted since the last call."""
        now = time.monotonic()
        self.history.append({"step": step, **values})
        line: dict[str, Any] = {"step": step, "steps": steps, **values}
        if self._mark is not None and now > self._mark[1]:
            speed = (step - self._mark[0]) / (now - self._mark[1])
            line["steps_per_second"] = round(speed, 4)
            line["images_per_second"] = round(speed * batch, 2)
            line["eta_seconds"] = round((steps - step) / speed, 1) if speed else None
        self._mark = (step, now)
        told = {k: v for k, v in line.items() if k not in ("step", "steps") and v is not None}
        self._tell(Happening("figures", step, told, dict(widths or {})))
        if self._run is not None:
            changed = {"widths": dict(widths)} if widths and widths != self._widths else {}
            self._widths = dict(widths or {})
            self._run.append(METRICS, {**line, **changed})
            self._run.note(describe(line))
        self._screen.update(line)

    def event(self, kind: str, text: str, **values: Any) -> None:
        """Record an event: a word for programs, a sentence for people."""
        if self._run is not None:
            self._run.append(EVENTS, {"event": kind, "text": text, **values})
            self._run.note(text)
        self._screen.event(text)
        self._tell(Happening("event", values.get("step", self._step), name=kind, text=text))

    def resume(self, step: int) -> None:
        """Forget what was recorded after ``step``: it is about to be done again."""
        self.history = [line for line in self.history if line["step"] <= step]
        self._mark = None
        if self._run is not None:
            for line in self._run.rewind(METRICS, step):
                self._widths = line.get("widths", self._widths)
                if not any(known["step"] == line["step"] for known in self.history):
                    self.history.append({k: v for k, v in line.items() if k not in BESIDE})


def describe(line: Mapping[str, Any]) -> str:
    """Return one line of figures in words."""
    parts = [f"step {line['step']}/{line['steps']}"]
    for key, text in (
        ("g_loss", "G {:.3f}"),
        ("d_loss", "D {:.3f}"),
        ("real", "real {:+.2f}"),
        ("fake", "fake {:+.2f}"),
        ("distill", "distill {:.3f}"),
        ("images_per_second", "{:.0f} img/s"),
    ):
        if line.get(key) is not None:
            parts.append(text.format(line[key]))
    if line.get("eta_seconds") is not None:
        left = int(line["eta_seconds"])
        parts.append(f"ETA {left // 60}:{left % 60:02d}")
    if line.get("params") is not None:
        parts.append(f"{line['params']:,.0f} params  {line['macs'] / 1e6:,.1f} M MACs")
    return "  ".join(parts)


def describe_cut(step: int, size: Mapping[str, int]) -> str:
    """Return in words what a live cut has left."""
    text = f"step {step}: cut to {size['params']:,} parameters, {size['macs']:,} MACs"
    if "discriminator_params" in size:
        text += f"; the discriminator to {size['discriminator_params']:,} parameters"
    return text
