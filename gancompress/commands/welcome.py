"""``gancompress`` alone: what to type next, by what lies in this folder. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from gancompress import __version__
from gancompress.commands.console import stdout
from gancompress.training.run_files import REPORT, SUMMARY, is_trained, numbered_runs

ROOT = Path("runs")


def welcome() -> None:
    """Print one screen: a first command, one for a network of one's own, and one to go on with."""
    console = stdout()
    title = f"gancompress {__version__}: make GAN generators small and fast"
    console.print(Text(title, style="bold"), soft_wrap=True)
    for about, command in _lines():
        console.print()
        console.print(Text(about), soft_wrap=True)
        if command:
            console.print(Text(f"  {command}", style="bold"), soft_wrap=True)
    console.print()
    console.print(Text("all verbs: gancompress --help   one: gancompress VERB --help"))


def _lines() -> Iterator[tuple[str, str]]:
    """Yield what a command is for, and the command."""
    runs = numbered_runs(ROOT)
    if runs:
        yield from _after(runs[-1])
    else:
        yield (
            "See it work, on a generator that comes with the package (minutes on a CPU):",
            "gancompress prune --max-steps 60",
        )
    yield (
        "A generator of your own: write a commented starter for it",
        "gancompress init my_module:Generator",
    )
    yield "Is this machine ready?", "gancompress doctor"


def _after(run: Path) -> Iterator[tuple[str, str]]:
    """Yield what can be done with the newest run; one that lives now can be watched."""
    if (run / SUMMARY).is_file():
        if not (run / REPORT).is_file():
            yield f"{run} is finished. One page about it:", f"gancompress report {run}"
        else:
            yield (
                f"{run} is finished, and {run / REPORT} tells of it. Beside other runs:",
                (f"gancompress compare {ROOT}/*"),
            )
    elif is_trained(run):
        yield f"{run} is not finished. Watch it, if it is running:", f"gancompress watch {run}"
        yield "or go on with it:", f"gancompress prune --resume {run}"
    else:
        yield f"{run} was stopped before its first step. Begin again with --out {run}", ""
