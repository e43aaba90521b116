"""Tables that print on a terminal, in Markdown and in HTML from one description."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A title, column names and rows of finished strings; the first column is the row's name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: {len(self.columns)} columns, but {row} has {len(row)}"
                )

    def __rich__(self) -> RichTable:
        # Cells are text: rich would read "[x]" in a name as a style and drop it.
        table = RichTable(
            title=escape(self.title) or None,
            caption=escape(self.note) or None,
            title_justify="left",
            caption_justify="left",
        )
        for i, name in enumerate(self.columns):
            table.add_column(escape(name), justify="right" if i else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(escape(cell) for cell in row))
        return table

    def __str__(self) -> str:
        """Return the table as plain text, without colours, at most 100 columns wide."""
        out = io.StringIO()
        Console(file=out, width=100, color_system=None, legacy_windows=False).print(self)
        return out.getvalue().rstrip("\n")

    def markdown(self) -> str:
        """Return the table as GitHub Markdown, the note below it."""
        head = "| " + " | ".join(self.columns) + " |"
        rule = "| --- |" + " ---: |" * (len(self.columns) - 1)
        body = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in self.rows]
        return "\n".join([head, rule, *body]) + (f"\n\n{self.note}" if self.note else "")


def si(value: float) -> str:
    """Return ``value`` >= 0 with three digits and a decimal prefix: 1234567 is ``"1.23 M"``."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,500 would read "1e+03 k"; the next prefix starts where rounding reaches it.
        if value >= 0.9995 * size:
            return f"{_digits(value / size)} {prefix}"
    return f"{value:.0f}" if float(value).is_integer() else _digits(value)


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def fewer(before: float, after: float, word: str = "smaller") -> str:
    """Return how much less ``after`` is: ``"5.20x smaller"``, ``"same"``, or ``"1.10x larger"``.

    Raises:
        ValueError: a value is negative.
    """
    if min(before, after) < 0:
        raise ValueError(f"sizes are not negative: {before}, {after}")
    if before == after:
        return "same"
    opposites = {"smaller": "larger", "fewer": "more", "faster": "slower", "lower": "higher"}
    if after <= before:
        return f"{before / after:.2f}x {word}" if after else f"none left of {si(before)}"
    return f"{after / before:.2f}x {opposites[word]}" if before else f"{si(after)} from none"


def before_after(title: str, rows: Sequence[tuple[str, ...]], note: str = "") -> Table:
    """Return the closing table of a run: name, before, after, change."""
    return Table(title, ("", "before", "after", "change"), tuple(rows), note)
