from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gancompress.errors import ConfigError
from gancompress.recipes.strict_yaml import MAX_BYTES, dump_yaml, key_lines, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E+3", 1000.0), (".5", 0.5), ("1.", 1.0), ("-3", -3), ("+2", 2),
        ("no", "no"), ("on", "on"), ("y", "y"), ("true", True), ("False", False), ("~", None),
        ("null", None), ("", None), ("12:30:45", "12:30:45"), ("2020-01-01", "2020-01-01"),
        ("0x10", "0x10"), ("1_000", "1_000"), ("1e", "1e"), ("'1'", "1"), ("5.2x", "5.2x"),
        ("params=5.2x", "params=5.2x"), ("[1, a]", [1, "a"]), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_are_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text, source="x")
    assert found == value
    assert type(found) is type(value)


def test_infinities() -> None:
    assert parse_yaml(".inf", source="x") == math.inf
    assert math.isnan(parse_yaml(".nan", source="x"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: key 'a' appears twice"),
        ("{a: {b: 1, b: 2}}", "key 'b' appears twice"),
        ("1: 2", "must be a word"),
        ("? [a]\n: 1", "must be a word"),
        ("a: !!python/object/apply:os.system [ls]", "is not allowed"),
        ("a: !!python/name:os.system", "is not allowed"),
        ("a: !mine 3", "is not allowed"),
        ("!!binary aGk=", "is not allowed"),
        ("!!set {a, b}", "is not allowed"),
        ("&a [*a]", "inside an anchored value"),
        ("a: &x [1]\nb: &y [*x, *x]\nc: [*y]", "inside an anchored value"),
        ("[" * 40 + "]" * 40, "nesting deeper"),
        ("[" * 100_000, "nesting deeper"),
        ("a: &x 1\nb: [" + "*x, " * 70 + "]", "more than 64 aliases"),
        ("a: [", "line 1"),
        ("a: \x00", "not allowed"),
        ("*nothing", "undefined alias"),
        ("a: 1\n--- \nb: 2", "another document"),
        ("x" * (MAX_BYTES + 1), "larger than"),
        ("a:\n\t- b", "line 2"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, source="mine.yaml")
    assert word in str(caught.value)
    assert str(caught.value).startswith("mine.yaml")


def test_a_value_may_be_reused() -> None:
    text = "a: &numbers {lr: 1e-3}\nb: *numbers"
    assert parse_yaml(text, source="x") == {"a": {"lr": 1e-3}, "b": {"lr": 1e-3}}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_what_is_dumped_is_read_back(data: object) -> None:
    found = parse_yaml(dump_yaml(data), source="x")
    assert found == data


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%#,\n\t 0.1e~<\\@`", max_size=40) | st.text(max_size=60))
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    try:
        parse_yaml(text, source="x")
    except ConfigError:
        return
    key_lines(text)


def test_lines_of_keys() -> None:
    lines = key_lines("a: 1\nb:\n  c: 2\n  d:\n  - x\n  - {e: 3}\n")
    assert lines[("a",)] == 1
    assert lines[("b", "c")] == 3
    assert lines[("b", "d", 1, "e")] == 6
