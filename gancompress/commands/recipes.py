"""The verbs about recipes: list, show, copy, validate. None of them imports torch."""

from __future__ import annotations

import json as jsonlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.table import Table
from rich.text import Text

import gancompress.recipes
from gancompress.commands.console import emit, note, stdout
from gancompress.errors import ConfigError, StorageError
from gancompress.recipes.load import load_recipe, recipe_names, recipe_text
from gancompress.recipes.networks import check_network
from gancompress.recipes.plugin_entries import check_plugins
from gancompress.recipes.schema import Recipe
from gancompress.recipes.strict_yaml import parse_yaml

_COMMENT_COLUMN = 34


def shipped() -> dict[str, Path]:
    """Return the recipes that come with the package: name to file."""
    folder = Path(gancompress.recipes.__file__).parent
    return {file.stem: file for file in sorted(folder.rglob("*.yaml"))}


def recipes(word: str | None, *, kind: str | None, json: bool) -> None:
    """Print the shipped recipes, those that mention ``word`` and are of ``kind`` if given.

    Raises:
        ConfigError: ``kind`` is not one of the three.
    """
    if kind not in (None, "train", "prune", "distill"):
        raise ConfigError(f"no kind {kind!r}: train, prune or distill")
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        text = f"{name} {recipe.summary} {recipe.paper} {recipe.kind}".lower()
        if (word is None or word.lower() in text) and kind in (None, recipe.kind):
            rows.append(
                {
                    "name": name,
                    "kind": recipe.kind,
                    "target": recipe.target,
                    "discriminator": recipe.adversarial.weight > 0,
                    "needs_discriminator": needs_discriminator(recipe),
                    "summary": recipe.summary,
                    "paper": recipe.paper,
                }
            )
    if json:
        emit("recipes", {"recipes": rows})
        return
    if not rows:
        note(f"no recipe mentions {word!r}; all of them: gancompress recipes")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", style="bold", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("target", no_wrap=True)
    table.add_column("D", no_wrap=True)
    table.add_column("what it does")
    for row in rows:
        needs = "needed" if row["needs_discriminator"] else "used" if row["discriminator"] else "-"
        table.add_row(row["name"], row["kind"], row["target"] or "-", needs, row["summary"])
    stdout().print(table)
    note("D, a discriminator: needed, or used when there is one (else the distillers alone teach)")
    note("next: gancompress show NAME   or   gancompress prune --recipe NAME")


def needs_discriminator(recipe: Recipe) -> bool:
    """Return whether nothing would teach without a discriminator."""
    if recipe.discriminator.policy == "fresh":
        return False
    asked = {"balance", "gates", "online_teacher"} & {c.name for c in recipe.companions}
    if asked or recipe.feature_matching.weight > 0 and recipe.feature_matching.to == "teacher":
        return True
    return recipe.kind == "train" or (recipe.adversarial.weight > 0 and not recipe.distill)


def show(recipe: str, overrides: Sequence[str], *, schema: bool, json: bool) -> None:
    """Print ``recipe`` in full; what is printed can be saved and run."""
    if schema:
        print(jsonlib.dumps(Recipe.model_json_schema(), indent=2))
        return
    loaded = load_recipe(recipe, overrides)
    if json:
        emit("show", {"recipe": loaded.model_dump(mode="json")})
        return
    console = stdout()
    width = min(console.width, 120) if console.is_terminal else 100
    for line in annotated_yaml(loaded, width=width):
        console.print(line, soft_wrap=True)


def annotated_yaml(recipe: Recipe, *, width: int = 100) -> Iterator[Text]:
    """Yield ``recipe`` as YAML lines, each field with meaning, range and default beside it."""
    schema = Recipe.model_json_schema()
    yield from _fields(recipe.model_dump(mode="json"), schema, schema["$defs"], 0, width)


def copy(recipe: str, file: Path, *, force: bool, json: bool) -> None:
    """Write the text of ``recipe`` to ``file``.

    Raises:
        ConfigError: ``file`` exists and ``force`` is not given, or the recipe does not exist.
        StorageError: ``file`` cannot be written.
    """
    load_recipe(recipe)  # names the nearest when there is none
    text = recipe_text(recipe)
    if file.is_dir():
        file = file / f"{Path(recipe).stem}.yaml"
    if file.exists() and not force:
        raise ConfigError(f"{file} exists. Choose another name, or overwrite it with --force")
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write {file}: {error.strerror}. Choose another place"
        ) from error
    if json:
        emit("copy", {"recipe": recipe, "file": str(file)})
        return
    stdout().print(Text(f"wrote {file}"), soft_wrap=True)
    note(f"next: edit it, then gancompress validate {file} and gancompress prune --recipe {file}")


def validate(recipe: str, overrides: Sequence[str], *, json: bool) -> None:
    """Check ``recipe`` with ``overrides``: keys, types, ranges and registry names.

    Raises:
        ConfigError: anything is wrong; every fault is in the message.
    """
    loaded = load_recipe(recipe, overrides)
    check_network(loaded)
    check_plugins(loaded)
    if json:
        emit("validate", {"valid": True, "recipe": loaded.name, "kind": loaded.kind})
        return
    stdout().print(Text(f"{recipe}: valid ({loaded.kind}, {loaded.steps} steps)"), soft_wrap=True)


def _fields(
    values: Mapping[str, Any],
    schema: Mapping[str, Any],
    defs: Mapping[str, Any],
    depth: int,
    width: int,
) -> Iterator[Text]:
    indent = "  " * depth
    properties = schema.get("properties", {})
    for key, value in values.items():
        about = properties.get(key, {})
        target = _resolved(about, defs)
        comment = _comment(key, value, about, target)
        if isinstance(value, dict) and value:
            yield from _line(f"{indent}{key}:", comment, width)
            yield from _fields(value, target, defs, depth + 1, width)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _line(f"{indent}{key}:", comment, width)
            for item in value:
                yield Text(f"{indent}  - {_scalar(item)}")
        else:
            yield from _line(f"{indent}{key}: {_scalar(value)}", comment, width)


def _resolved(about: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference, also through ``anyOf`` with null."""
    for option in (about, *about.get("anyOf", ()), *about.get("allOf", ())):
        if "$ref" in option:
            return defs[option["$ref"].rpartition("/")[2]]
    return about


def _comment(key: str, value: Any, about: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    parts = [meaning := about.get("description", "")]
    for option in (about, *about.get("anyOf", ()), *about.get("oneOf", ())):
        low = option.get("minimum", option.get("exclusiveMinimum"))
        high = option.get("maximum", option.get("exclusiveMaximum"))
        if "enum" in option and any(str(choice) not in meaning for choice in option["enum"]):
            parts.append(" | ".join(map(str, option["enum"])))
        elif low is not None and high is not None:
            parts.append(f"{low} to {high}")
        elif low is not None:
            parts.append(f"{'>=' if 'minimum' in option else '>'} {low}")
    default = about.get("default")
    if "default" in about and not isinstance(default, dict | list) and default != value:
        parts.append(f"default {_scalar(default)}")
    return "; ".join(p for p in parts if p)


def _line(code: str, comment: str, width: int) -> Iterator[Text]:
    if not comment:
        yield Text(code)
        return
    column = max(_COMMENT_COLUMN, 0)
    if len(code) + 2 > column:
        yield Text(code)
        code = ""
    for part in textwrap.wrap(comment, max(width - column - 2, 30)):
        yield Text(code.ljust(column)).append(f"# {part}", style="dim")
        code = ""


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    # PyYAML leaves 1e-4 bare because it reads it as text; our loader reads a number (YAML 1.2).
    return text if parse_yaml(text, source="value") == value else jsonlib.dumps(value)
