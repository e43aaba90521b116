"""Read a recipe: strict YAML, overrides, then the schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from gancompress.recipes.schema import Recipe


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe."""
    path = Path(__file__).parent / f"{name_or_path}.yaml"
    data = yaml.safe_load(path.read_text())
    for item in overrides:
        key, _, value = item.partition("=")
        node = data
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = yaml.safe_load(value)
    return Recipe.model_validate(data)
