"""Numbers as people read them, and one table in three forms."""

import io
import re

import pytest
from rich.console import Console

from gancompress.reporting.tables import Table, before_after, fewer, fold, si


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (999.6, "1.00 k"),
        (1000, "1.00 k"),
        (9994, "9.99 k"),
        (9996, "10.0 k"),
        (70_433_988, "70.4 M"),
        (999_700, "1.00 M"),
        (123_456_789, "123 M"),
        (5.2e9, "5.20 G"),
        (0.25, "0.25"),
    ],
)
def test_si(value: float, text: str):
    assert si(value) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (520, 100, "5.20x smaller"),
        (100, 110, "1.10x larger"),
        (3, 3, "same"),
        (0, 0, "same"),
        (5, 0, "none left of 5"),
        (0, 2000, "2.00 k from none"),
    ],
)
def test_fewer(before: float, after: float, text: str):
    assert fewer(before, after) == text


def test_slower_is_said_when_slower():
    assert fewer(1.0, 2.0, "faster") == "2.00x slower"
    with pytest.raises(ValueError, match="not negative"):
        fewer(-1, 2)


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="2 columns"):
        Table("t", ("a", "b"), (("x",),))


def test_the_three_forms_hold_every_cell():
    table = before_after("size", [("params", "70.4 M", "13.5 M", "5.20x fewer")], "MACs = FLOPs/2")
    for text in (str(table), table.markdown()):
        for cell in ("params", "70.4 M", "13.5 M", "5.20x fewer", "MACs = FLOPs/2"):
            assert cell in text
    assert table.markdown().splitlines()[:2] == [
        "|  | before | after | change |",
        "| --- | ---: | ---: | ---: |",
    ]
    assert "\x1b" not in str(table)
    assert max(map(len, str(table).splitlines())) <= 100


def test_markup_in_a_cell_stays_text():
    # rich would read "[bold]" as a style and drop it.
    assert "[bold]x" in str(Table("t", ("a",), (("[bold]x",),)))
    assert "a\\|b" in Table("t", ("a",), (("a|b",),)).markdown()


NAMES = ("run", "recipe", "seed", "smaller", "params", "MACs", "Frechet", "recall", "accuracy")
ROW = (
    "0012-torch-pruning-my-generator-of-faces", "torch-pruning", "3", "5.20x", "1.23 M", "4.56 G",
    "0.123", "0.456", "0.789",
)  # fmt: skip


@pytest.mark.parametrize("width", [72, 80, 100, 200])
def test_no_word_is_broken_at_any_width(width: int):
    table = Table("runs", NAMES, (ROW, ROW), "Note.", optional=("params", "seed", "accuracy"))
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    head = next(line for line in lines if "recipe" in line)
    words = {w for w in re.split(r"[^A-Za-z]+", head) if w}
    assert words <= set(NAMES)
    assert {"run", "recipe", "smaller", "MACs", "Frechet", "recall"} <= words
    left_out = [n for n in ("params", "seed", "accuracy") if n not in words]
    assert ("Left out" in out.getvalue()) == bool(left_out)
    assert bool(left_out) == (width < 100) or width == 100
    for cell in ("5.20x", "4.56 G", "0.123", "torch-pruning"):
        assert sum(cell in line for line in lines) == 2
    pieces = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert "".join(pieces).count(ROW[0]) == 2


def test_names_are_folded_between_their_words():
    assert fold("blocks.10.conv_up.weight", 12) == "blocks.10.\nconv_up.\nweight"
    assert fold("mean output difference", 11) == "mean output\ndifference"
    assert fold("short", 11) == "short"
    assert fold("incomprehensible", 8) == "incompre\nhensible"


def test_a_table_one_character_too_wide_is_fitted_too():
    # The border on the left is one more: "run" used to be broken into "ru" and "n".
    table = Table("runs", ("run", "a", "b"), (("r2", "x" * 20, "y" * 20),), optional=("b",))
    wide = sum(table.widths()) + 1
    assert table.fitted(wide) == table
    assert table.fitted(wide - 1).columns == ("run", "a")


@pytest.mark.parametrize("width", [60, 80])
def test_a_name_is_never_squeezed_to_letters(width: int) -> None:
    long = ("ms a call, cpu, batch=1, engine=eager", "0.36 ms (IQR 0.00)", "0.24 ms (IQR 0.00)")
    table = before_after("t", [("parameters", "1", "2", "same"), (*long, "1.36x faster (or so)")])
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    shown = out.getvalue()
    assert "parameters" in shown
    assert max(map(len, shown.splitlines())) <= width
    assert "1.36x faster" in shown


def test_a_number_is_not_folded() -> None:
    assert fold("engine=eager (1.37x predicted)", 18) == "engine=eager\n(1.37x predicted)"
    assert fold("of 12,345 files", 6) == "of\n12,345\nfiles"
