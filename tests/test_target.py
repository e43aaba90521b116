"""A target has one spelling rule: wrap, recipes and the command line read it alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.target import Target, spelling


def typed(text: str) -> str | None:
    """As ``--target`` types it: an override, a YAML value."""
    return load_recipe("magnitude", [f"target={text}"]).target


def quoted(text: str) -> str | None:
    """As a recipe file holds it when it is text."""
    return load_recipe("magnitude", [f"target={yaml.safe_dump(text).splitlines()[0]}"]).target


def wrapped(text: Any) -> Any:
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 2)).eval()
    masked = gc.wrap(net, torch.randn(2, 6), target=text)
    masked.advance(1.0)
    return masked.cost().params


READ = {
    "params=4x": ("params", 0.25),
    " params  =  4 x ": ("params", 0.25),
    "params:4X": ("params", 0.25),
    "params: 4x": ("params", 0.25),
    "macs = .25": ("macs", 0.25),
    "macs=2.5e-1": ("macs", 0.25),
    "macs=1": ("macs", 1.0),
    "params=1.x": ("params", 1.0),
}
REFUSED = {
    "4x": "of what",
    "0.25": "of what",
    "75%": "of what",
    "params=75%": "params=0.75 if 75 % stay, params=0.25 if they go",
    "params=0.5x": "at least 1x",
    "params=-3x": "at least 1x",
    "macs=4": "macs=4x for 4 times smaller",
    "macs=0": "above 0 and at most 1",
    "macs=1e999": "not a number",
    "macs=nan": "not a number",
    "macs=1,5x": "not a number",
    "macs": "write params=5.2x",
    "flops=2x": "'flops' is not one of params, macs",
    "PARAMS=2x": "'PARAMS' is not one of",
}


@pytest.mark.parametrize("text", READ)
@pytest.mark.parametrize("way", [typed, quoted])
def test_what_is_read_is_read_everywhere(text: str, way: Callable[[str], str | None]) -> None:
    kind, fraction = READ[text]
    assert Target.parse(text) == Target(kind, fraction)
    kept = way(text)
    assert kept is not None
    assert Target.parse(kept) == Target(kind, fraction)
    assert " " not in kept


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("way", [typed, quoted, wrapped, Target.parse])
def test_what_is_refused_is_refused_everywhere(text: str, way: Callable[[str], Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        way(text)
    assert REFUSED[text] in str(caught.value)


def test_a_mapping_is_a_target_in_python_and_in_yaml() -> None:
    assert (
        Target.parse({"params": "4x"}) == Target.parse({"params": 0.25}) == Target("params", 0.25)
    )
    assert typed("{macs: 0.2}") == "macs=0.2"
    assert wrapped({"params": "2x"}) == wrapped("params=2x") == wrapped("params:.5")
    for wrong in ({}, {"params": "2x", "macs": "2x"}, {"params": None}, {"params": True}):
        with pytest.raises(ConfigError, match="write params=5.2x"):
            Target.parse(wrong)
    with pytest.raises(ConfigError, match="one of params and macs"):
        typed("{params: 2x, macs: 2x}")


def test_the_kept_spelling_means_the_same() -> None:
    for text in READ:
        assert Target.parse(spelling(text)) == Target.parse(text)
    third = Target("macs", 1 / 3)
    assert Target.parse(spelling(third)) == third
    recipe = load_recipe("magnitude", ["target=params : 3 X"])
    assert recipe.target == "params=3x"
    assert "target: params=3x" in dump_recipe(recipe)
