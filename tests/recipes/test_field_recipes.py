"""The field's recipes, one row each: valid, predictable, and they train what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gancompress.cli import main
from gancompress.commands.dry_run import predict
from gancompress.commands.resolve.subject import Subject
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.recipes.load import load_recipe, recipe_names
from gancompress.recipes.schema import Recipe
from gancompress.recipes.settings_table import settings_page
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.recipes.test_methods import FIELD, METHODS
from tests.training.nets import images, networks

NAMES = [row[0] for row in FIELD]
CARDS = Path(__file__).parents[2] / "docs" / "methods"
QUIET = (
    "batch=4", "sample_every=0", "checkpoint_every=0", "log_every=1", "precision=float32",
    "channels_last=false", "ema={decay: 0.5, start: 1}", "target=params=1.7x",
)  # fmt: skip
# Kernels and relations compare samples of layers that a network of one size of map has once.
PAIRS = "[[norm, norm], [norm1, norm1]]"


def tiny(name: str, *words: str) -> Recipe:
    found = load_recipe(name)
    length = ["steps=4", "finetune_steps=1"] if found.kind == "prune" else ["steps=5"]
    taps = [
        f"distill.{i}.pairs={PAIRS}"
        for i, entry in enumerate(found.distill)
        if entry.name in ("kernel_alignment", "feature", "relational", "latent_direction")
    ]
    # No norm of these networks is conditional.
    taps += [
        f"distill.{i}.variant=plain" for i, e in enumerate(found.distill) if e.name == "class_aware"
    ]
    trials = ["companions.0.trials=4"] if name == "gan-compression" else []
    return load_recipe(name, [*length, *QUIET, *taps, *trials, *words])


def test_every_shipped_method_has_a_row_and_a_card_that_names_its_deviations() -> None:
    named = {row[0] for row in (*METHODS, *FIELD)}
    teachers = {n for n in recipe_names() if load_recipe(n).kind == "train"}
    tasks = {n for n in recipe_names() if load_recipe(n).task is not None}
    assert set(recipe_names()) - teachers - tasks == named | {"reconstruct"}
    for name in NAMES:
        card = (CARDS / f"{name}.md").read_text("utf-8")
        assert card.startswith(f"# `{name}`: ")
        assert "**Not as published**" in card
        assert "Source: " in card


def test_the_settings_table_is_current_and_every_method_has_its_row() -> None:
    written = (CARDS.parent / "methods.md").read_text("utf-8")
    assert written == settings_page(), (
        "write it again: python -m gancompress.recipes.settings_table > docs/methods.md"
    )
    assert all(f"| [{name}](methods/{name}.md) |" in written for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_and_its_size_is_known_beforehand(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", name]) == 0
    assert f"{name}: valid" in capsys.readouterr().out
    generator = networks()[0]
    found = predict(Subject({"model": "tiny"}, generator, InputSampler.of(generator)), tiny(name))
    assert found.cost_after.params * 1.7 <= found.cost_before.params
    assert found.cost_after.params * 2.2 >= found.cost_before.params


@pytest.mark.parametrize("name", NAMES)
def test_five_steps_of_it(name: str) -> None:
    generator, discriminator = networks()
    whole = sum(p.numel() for p in generator.parameters())
    result = train(
        tiny(name), generator=generator, discriminator=discriminator, dataset=images(),
        out=None, screen=Silent(),
    )  # fmt: skip
    assert result.exit_code == 0
    assert all(torch.isfinite(p).all() for p in result.generator.parameters())
    last = result.history[-1]
    assert last["step"] == 5
    assert "distill" in last
    # Of omgd an online teacher has the discriminator.
    assert ({"d_loss", "g_loss"} <= last.keys()) is (name != "omgd")
    assert ("feature_matching" in last) is (name in ("tinygan", "nickel-dime"))
    assert result.verified is not None
    assert result.verified["passed"]
    assert sum(p.numel() for p in result.generator.parameters()) * 1.7 <= whole


def test_tinygan_takes_a_discriminator_that_the_run_makes() -> None:
    """Black box: nothing of the teacher's but its images."""
    generator, _ = networks()
    words = ("discriminator={policy: fresh, real: teacher}", "feature_matching.weight=0")
    result = train(tiny("tinygan", *words), generator=generator, out=None, screen=Silent())
    assert {"d_loss", "g_loss", "distill"} <= result.history[-1].keys()


def test_matching_the_teacher_needs_a_teacher() -> None:
    with pytest.raises(ConfigError, match="kind train has no teacher"):
        load_recipe("fashion-teacher", ["feature_matching={weight: 1, to: teacher}"])
    generator, discriminator = networks()
    given = {"generator": generator, "discriminator": discriminator, "screen": Silent()}
    recipe = tiny("tinygan", "feature_matching.to=wanted")
    with pytest.raises(ConfigError, match="to=teacher"):
        train(recipe, **given)


def test_sparsity_is_learned_before_the_cut_of_slimming_and_gcc() -> None:
    for name in ("slimming", "gcc", "gan-compression"):
        recipe = load_recipe(name)
        assert recipe.schedule.name == "linear", "oneshot would cut at step 0"
        assert recipe.schedule.start >= 0.1
        assert recipe.schedule.end - recipe.schedule.start <= 0.011
        assert recipe.shrink.events[0] > recipe.schedule.end
