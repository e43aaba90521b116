"""What a run tells while it goes on: one type of thing that happened, one type of function.

A callback of the user's own and a logger that a recipe names are the same: a function that takes a
`Happening`. Their registry is `LOGGERS`, their room `gancompress.training.loggers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gancompress.extras import require
from gancompress.plugins.kinds import LOGGERS as LOGGERS

FOLDER = "logs"  # in a run folder; each logger has a folder of its name in it


@dataclass(frozen=True)
class Happening:
    """One thing that happened in a run (ours).

    Attributes:
        kind: ``figures`` (values and widths of a step), ``event`` (``name`` a word for programs,
            ``text`` a sentence for people), ``picture`` and ``sound`` (``file`` holds it, ``name``
            says of what), ``end`` (nothing comes after it).
        step: updates made.
        values: losses, logits, sizes, speed, by name; finite or not, as they were.
        widths: channels that are left, by group; the last ones where the masks are gone.
        name: of a picture, a sound or an event.
        text: of an event.
        file: PNG, or WAV of 16 bits.
    """

    kind: Literal["figures", "event", "picture", "sound", "end"]
    step: int
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    widths: Mapping[str, int] = field(default_factory=dict[str, int])
    name: str = ""
    text: str = ""
    file: Path | None = None

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Yield each figure with its name, widths as ``width/GROUP``."""
        yield from self.values.items()
        for group, width in self.widths.items():
            yield f"width/{group}", float(width)


Callback = Callable[[Happening], None]
"""Called with everything that happens, in order. What it raises ends the run."""


@dataclass(frozen=True)
class Place:
    """Where a logger writes, and of what (ours).

    Attributes:
        folder: its own; made when the logger is made.
        run: name of the run folder.
        config: the recipe, plain values.
        step: the run goes on from here: what was told of later steps is told again.
    """

    folder: Path
    run: str
    config: Mapping[str, Any]
    step: int = 0


def check_loggers(entries: tuple[Any, ...]) -> None:
    """Refuse loggers whose package is not installed, before anything is written.

    Raises:
        ConfigError: the package and how to get it are in the message.
    """
    for entry in entries:
        if package := LOGGERS.fact(entry, "package"):
            require(package, "log")


def open_loggers(
    entries: tuple[Any, ...], run: Path, config: Mapping[str, Any], step: int
) -> list[tuple[str, Callback]]:
    """Return each logger of ``entries`` with its name, its folder made in the folder ``run``."""
    found: list[tuple[str, Callback]] = []
    for entry in entries:
        name = LOGGERS.label(entry)
        folder = run / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        found.append((name, LOGGERS.bind(entry)(Place(folder, run.name, config, step))))
    return found


def rewound(file: Path, step: int, step_of: Callable[[str], int]) -> list[str]:
    """Return the lines of ``file`` up to ``step``; those cut short by a kill are left out."""
    kept: list[str] = []
    for line in file.read_text("utf-8").splitlines() if file.is_file() else ():
        try:
            if step_of(line) <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError, IndexError):
            continue
    return kept
