from __future__ import annotations

import json
from pathlib import Path

import pytest

from gancompress.cli import main
from gancompress.commands.recipes import annotated_yaml, shipped
from gancompress.recipes.load import load_recipe
from gancompress.recipes.strict_yaml import parse_yaml


@pytest.mark.parametrize("name", sorted(shipped()))
def test_what_show_prints_is_the_recipe(name: str, tmp_path: Path) -> None:
    text = "\n".join(line.plain for line in annotated_yaml(load_recipe(name)))
    assert parse_yaml(text, source="shown") == load_recipe(name).model_dump(mode="json")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert load_recipe(str(file)) == load_recipe(name)


@pytest.mark.parametrize("value", ["1e-4", "no", "null", "a: b", "# x", "12:30:45", "0x10", ""])
def test_text_that_looks_like_something_else_stays_text(value: str) -> None:
    recipe = load_recipe("fashion-teacher").model_copy(update={"paper": value})
    text = "\n".join(line.plain for line in annotated_yaml(recipe))
    assert parse_yaml(text, source="shown")["paper"] == value


def test_every_field_is_explained() -> None:
    lines = [line.plain for line in annotated_yaml(load_recipe("fashion-teacher"), width=400)]
    bare = [
        line for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if "#" not in line and not after.strip().startswith("#")
    ]  # fmt: skip
    assert bare == []


def test_list_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--kind", "train", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert {row["kind"] for row in rows} == {"train"}
    assert main(["ls", "embedded-teacher-nobody-wrote"]) == 0
    assert "no recipe mentions" in capsys.readouterr().err


def test_copy_then_validate_then_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    assert main(["copy", "fashion-teacher", str(file)]) == 0
    assert main(["validate", str(file), "steps=3"]) == 0
    assert "valid (train, 3 steps)" in capsys.readouterr().out
    assert main(["cp", "fashion-teacher", str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["cp", "fashion-teacher", str(file), "--force"]) == 0
    assert main(["cp", "fashion-teacher", str(tmp_path / "no" / "x.yaml")]) == 6


def test_validate_names_every_fault_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nkind: prune\nsummary: x\nsteps: 10\nbatchh: 3\nround_to: 0\n"
        "ema: {decay: 2.0}\nsite: middle\n"
    )
    assert main(["validate", str(file)]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in shown
    for part in ("batchh", "'batch'", "round_to", "ema.decay", "site"):
        assert part in shown


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "fashion-teacher", "--schema"]) == 0
    assert "target" in json.loads(capsys.readouterr().out)["properties"]
