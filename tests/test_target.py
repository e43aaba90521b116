"""A target has one spelling rule: wrap, recipes and the command line read it alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError, TargetError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.target import Setting, Target, parse_targets, spelling


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
    "flops=2x": "'flops' is not one of params, macs, latency",
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


SPEEDS = {
    "latency=2x": Setting("auto", 1, "eager"),
    "latency=2x@cpu": Setting("cpu", 1, "eager"),
    "latency : 2 x @ engine=onnxruntime , batch = 16": Setting("auto", 16, "onnxruntime"),
    "latency=0.5@cuda:1,batch=4,engine=compiled": Setting("cuda:1", 4, "compiled"),
}
NO_SPEEDS = {
    "latency=2": "latency=2x for 2 times",
    "latency=2x@tpu!": "no device such as cpu",
    "latency=2x@cpu,batch=0": "batch=0 is not a number",
    "latency=2x@batch=1,batch=2": "batch is there twice",
    "latency=2x@engine=tensorrt": "engine=tensorrt is not one of eager, compiled, onnxruntime",
    "latency=2x@speed=3": "'speed=3' is not known",
    "params=2x@cpu": "the same everywhere",
}
SEVERAL: list[tuple[Any, list[tuple[str, float]]]] = [
    ("params=4x; macs=2x", [("params", 0.25), ("macs", 0.5)]),
    (["params=4x", {"macs": "2x"}], [("params", 0.25), ("macs", 0.5)]),
    ("latency=2x;latency=4x@batch=16", [("latency", 0.5), ("latency", 0.25)]),
]


@pytest.mark.parametrize("text", SPEEDS)
def test_where_time_is_measured_is_read(text: str) -> None:
    target = Target.parse(text)
    assert (target.kind, target.fraction, target.setting) == ("latency", 0.5, SPEEDS[text])
    assert Target.parse(spelling(text)) == target
    assert Target.parse(str(target)) == target
    assert Target.parse(typed(text) or "") == target


@pytest.mark.parametrize("text", NO_SPEEDS)
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(NO_SPEEDS[text])):
        Target.parse(text)


@pytest.mark.parametrize(("given", "wanted"), SEVERAL)
def test_several_targets_are_read_and_kept_in_one_text(given: Any, wanted: Any) -> None:
    found = parse_targets(given)
    assert [(t.kind, t.fraction) for t in found] == wanted
    assert parse_targets(spelling(given)) == found


def test_recipes_and_the_command_line_take_several() -> None:
    listed = load_recipe("magnitude", ['target=["params=4x", {macs: 2x}]'])
    assert listed.target == "params=4x; macs=2x"
    assert listed.round_to == "auto"
    assert load_recipe("magnitude", ["target=params=4x"]).round_to == 1


@pytest.mark.parametrize("given", ["params=4x; params=2x", ["macs=2x", "macs=0.5"], [], 3])
def test_targets_that_contradict_or_are_none(given: Any) -> None:
    words = "contradict each other" if given and given != 3 else "target"
    with pytest.raises(ConfigError, match=words):
        parse_targets(given)


def test_all_of_several_hold_in_the_end() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 2, 3, 2, 1), nn.Flatten(), nn.Linear(32, 40), nn.ReLU(), nn.Linear(40, 2),
    ).eval()  # fmt: skip
    masked = gc.wrap(net, torch.randn(2, 3, 16, 16), target=["params=3x", "macs=2x"])
    before = masked.cost()
    sizes = [before]
    for progress in (0.3, 0.6, 1.0):
        masked.advance(progress)
        sizes.append(masked.cost())
    after = sizes[-1]
    assert after.params <= before.params / 3
    assert after.macs <= before.macs / 2
    assert [c.params for c in sizes] == sorted((c.params for c in sizes), reverse=True)
    # The stricter one is met, not overshot: a channel more of a group would break one of them.
    assert max(3 * after.params / before.params, 2 * after.macs / before.macs) > 0.95


def test_one_of_several_out_of_reach_is_named_with_what_can_be_had() -> None:
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 20)).eval()
    with pytest.raises(TargetError, match=r"target params=50x is out of reach.*params .*x, macs"):
        gc.wrap(net, torch.randn(2, 6), target="params=50x; macs=2x")
