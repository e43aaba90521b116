"""``gancompress watch``: a run while it goes on, in a terminal, from the files that it writes."""

from __future__ import annotations

import contextlib
import json as jsonlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from gancompress.commands.console import emit, stdout
from gancompress.errors import ConfigError
from gancompress.training.run_files import EVENTS, LOCK, METRICS, SUMMARY, numbered_runs

ROOT = Path("runs")
TAIL = 2**20  # bytes that are read from the end of a file
BLOCKS = "▁▂▃▄▅▆▇█"
CURVES = ("g_loss", "d_loss", "distill", "images_per_second", "params")
GROUPS = 8
SILENT = 120.0  # seconds without a sign of life; clocks of two machines may be apart


def watch(run: Path | None, *, once: bool, every: float, json: bool) -> None:
    """Show ``run`` (the newest one for ``None``) until it ends, or ``once``.

    Only files are read: it may run on another machine, and ending the watch ends nothing else.

    Raises:
        ConfigError: there is no such run, or ``every`` is not positive.
    """
    if every <= 0:
        raise ConfigError(f"--every {every:g} must be more than 0 seconds")
    run = newest() if run is None else run
    if not run.is_dir():
        raise ConfigError(f"no run folder {run}")
    if json:
        emit("watch", state_of(run))
        return
    console = stdout()
    if once or not console.is_terminal:
        console.print(view(state_of(run)))
        return
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            state = state_of(run)
            live.update(view(state), refresh=True)
            if state["state"] in ("finished", "stopped"):
                return
            time.sleep(every)


def newest() -> Path:
    """Return the newest run below ``runs/``.

    Raises:
        ConfigError: there is none.
    """
    found = numbered_runs(ROOT)
    if not found:
        raise ConfigError(f"no run in {ROOT.absolute()}: name its folder, gancompress watch DIR")
    return found[-1]


def state_of(run: Path) -> dict[str, Any]:
    """Return how far ``run`` is: starting, running, silent, stopped or finished.

    A run that lives touches its lock every few seconds; silent is one that has not for minutes.
    """
    lines, events = records(run / METRICS), records(run / EVENTS)
    state = "stopped"
    if (run / SUMMARY).is_file():
        state = "finished"
    else:
        with contextlib.suppress(OSError):
            quiet = time.time() - (run / LOCK).stat().st_mtime
            state = "silent" if quiet > SILENT else "running" if lines else "starting"
    widths = next((line["widths"] for line in reversed(lines) if line.get("widths")), {})
    full = next((e["widths"] for e in events if isinstance(e.get("widths"), dict)), {})
    return {
        "run": str(run),
        "state": state,
        "last": lines[-1] if lines else {},
        "curves": {name: [x[name] for x in lines if _number(x.get(name))] for name in CURVES},
        "widths": widths,
        "full": full or next((x["widths"] for x in lines if x.get("widths")), {}),
        "events": [str(e.get("text", "")) for e in events][-5:],
    }


def records(file: Path) -> list[dict[str, Any]]:
    """Return the objects in the last part of a ``.jsonl``; a line that is being written is left."""
    try:
        with open(file, "rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL))
            text = stream.read(TAIL).decode("utf-8", errors="replace")
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in text.split("\n")[:-1]:
        with contextlib.suppress(ValueError, RecursionError):
            one = jsonlib.loads(line)
            if isinstance(one, dict):
                found.append(one)
    return found


def view(state: Mapping[str, Any]) -> Group:
    """Return the screen of `state_of`: a bar, curves, widths of the largest groups, last events."""
    last, parts = state["last"], list[Any]()
    step, steps = last.get("step", 0), last.get("steps", 1) or 1
    head = f"{state['run']}  {state['state']}  step {step}/{last.get('steps', '?')}"
    if state["state"] == "running" and _number(last.get("eta_seconds")):
        left = int(last["eta_seconds"])
        head += f"  {left // 60}:{left % 60:02d} left"
    parts += [Text(head, style="bold"), ProgressBar(total=steps, completed=step)]
    grid = Grid.grid(padding=(0, 1))
    for name, values in state["curves"].items():
        if values:
            grid.add_row(Text(name), Text(spark(values)), Text(f"{values[-1]:,.4g}"))
    for name, width in _largest(state["widths"], state["full"]):
        whole = state["full"].get(name, width) or 1
        bar = "█" * round(24 * min(width / whole, 1.0))
        grid.add_row(Text(name[-30:]), Text(bar.ljust(24, "·")), Text(f"{width} of {whole}"))
    parts.append(grid)
    parts += [
        Text(text, style="dim", overflow="ellipsis", no_wrap=True) for text in state["events"]
    ]
    return Group(*parts)


def spark(values: Sequence[float], width: int = 40) -> str:
    """Return ``values`` as a line of ``width`` blocks at most, each the mean of its share."""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [math.fsum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, span = min(means), max(means) - min(means)
    if not span > 0:
        return BLOCKS[0] * count
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (v - low) / span)] for v in means)


def _largest(widths: Mapping[str, int], full: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(widths.items(), key=lambda item: -full.get(item[0], item[1]))[:GROUPS]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
