"""Tables that print on a terminal, in Markdown and in HTML from one description."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.table import Table as RichTable

LEAST = 12
"""Characters that a folded name keeps at least."""


@dataclass(frozen=True)
class Table:
    """A title, column names and rows of finished strings; the first column is the row's name.

    ``optional`` names columns that may be left out, the first one first, where a terminal is too
    narrow for all. Then names are folded, between their words; other cells if that is too little.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: {len(self.columns)} columns, but {row} has {len(row)}"
                )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichTable]:
        yield self.fitted(options.max_width).rich()

    def fitted(self, width: int) -> Table:
        """Return the table as it goes into ``width`` characters."""
        table, left_out = self, []
        for name in self.optional:
            if sum(table.widths()) < width:  # one more for the border on the left
                break
            table = table._without(name)
            left_out.append(name)
        if left_out:
            words = f"Left out for want of room: {', '.join(left_out)} (all of it: --json)."
            table = replace(table, note=f"{table.note} {words}".strip())
        over = sum(table.widths()) + 1 - width
        if over <= 0:
            return table
        own = max([len(row[0]) for row in table.rows] + [len(table.columns[0])], default=0)
        room = max(own - over, min(LEAST, own))
        table = replace(table, rows=tuple((fold(row[0], room), *row[1:]) for row in table.rows))
        return table._folded(width)

    def _folded(self, width: int) -> Table:
        """Return the table with the widest of the other columns folded until it fits, or cannot."""
        table = self
        for _ in self.columns:
            widths = table.widths()
            over = sum(widths) + 1 - width
            at = max(range(1, len(widths)), key=lambda i: widths[i], default=0)
            room = max(widths[at] - 3 - over, LEAST) if at else 0
            if over <= 0 or not at or room >= widths[at] - 3:
                break
            rows = ((*r[:at], fold(r[at], room), *r[at + 1 :]) for r in table.rows)
            table = replace(table, rows=tuple(rows))
        return table

    def widths(self) -> list[int]:
        """Return the characters that each column takes, its border and padding included."""
        cells = zip(self.columns, *self.rows, strict=True)
        return [max(len(line) for c in column for line in c.split("\n")) + 3 for column in cells]

    def rich(self) -> RichTable:
        """Return the table for rich, in all of its width."""
        # Cells are text: rich would read "[x]" in a name as a style and drop it.
        table = RichTable(
            title=escape(self.title) or None,
            caption=escape(self.note) or None,
            title_justify="left",
            caption_justify="left",
        )
        for i, name in enumerate(self.columns):
            table.add_column(
                escape(name), justify="right" if i else "left", overflow="fold", no_wrap=bool(i)
            )
        for row in self.rows:
            table.add_row(*(escape(cell) for cell in row))
        return table

    def _without(self, name: str) -> Table:
        at = self.columns.index(name)
        rows = tuple(row[:at] + row[at + 1 :] for row in self.rows)
        return replace(self, columns=self.columns[:at] + self.columns[at + 1 :], rows=rows)

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


def fold(text: str, width: int) -> str:
    """Return ``text`` on lines of at most ``width`` characters, broken after a blank or ``-_./,``.

    A number stays whole; a word that is longer on its own is broken where it must be.
    """
    lines = [""]
    for piece in re.findall(r"(?:[^\s\-_./,]|[.,](?=\d))*[\s\-_./,]?", text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        while len(piece.rstrip()) > width:
            lines[-1], piece = piece[:width], piece[width:]
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


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
