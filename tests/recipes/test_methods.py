"""One row a method: the recipe holds, its size is known beforehand, it trains a tiny network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.commands.dry_run import predict
from gancompress.commands.resolve.subject import Subject
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, GraphError, TargetError
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.start import TrainResult
from gancompress.training.student import narrow_student
from gancompress.training.torch_pruned import plain_twin
from tests.training.nets import TinyGenerator, images, networks

# name, kind, does a distiller look at the class, does the student start from the teacher's weights
METHODS = [
    ("ppcd", "prune", True, True),
    ("dmad", "prune", False, True),
    ("magnitude", "prune", True, True),
    ("random", "prune", True, True),
    ("narrow", "distill", True, False),
    ("scratch", "distill", False, False),
    ("torch-pruning", "distill", True, True),
]
# Tried on smaller networks still, in test_field_recipes.py.
FIELD = [
    ("taylor", "prune", True, True),
    ("slimming", "prune", False, True),
    ("cat", "prune", False, True),
    ("gcc", "prune", False, True),
    ("omgd", "distill", False, False),
    ("dcd", "distill", False, True),
    ("tinygan", "distill", False, False),
    ("content-aware", "prune", False, True),
    ("dcp", "prune", False, True),
    ("stylekd", "distill", False, True),
    ("nickel-dime", "distill", False, True),
    ("gan-compression", "prune", False, True),
    ("anytime", "prune", False, True),
]
NAMES = [row[0] for row in METHODS]


def tiny(name: str, *words: str) -> Recipe:
    kind = load_recipe(name).kind
    length = ["steps=4", "finetune_steps=1"] if kind == "prune" else ["steps=5"]
    quiet = ["batch=4", "sample_every=0", "checkpoint_every=0", "log_every=1", "precision=float32"]
    return load_recipe(name, [*length, *quiet, "ema={decay: 0.5, start: 1}", *words])


def biggan() -> tuple[BigGANGenerator, BigGANDiscriminator]:
    torch.manual_seed(0)
    config = BigGANConfig.from_dict(BigGANConfig.fashion32().to_dict() | {"ch": 4})
    return BigGANGenerator(config), BigGANDiscriminator(config)


def run(name: str, *words: str) -> tuple[nn.Module, TrainResult]:
    generator, discriminator = biggan()
    teacher = count(generator)
    recipe = tiny(name, "target=params=2x", *words)
    result = train(
        recipe, generator=generator, discriminator=discriminator, out=None, screen=Silent()
    )
    assert 0.9 * teacher / 2 <= count(result.generator) <= teacher / 2
    return generator, result


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "kind", "class_aware", "inherits"), [*METHODS, *FIELD])
def test_the_recipe_says_what_the_method_is(
    name: str, kind: str, class_aware: bool, inherits: bool
) -> None:
    recipe = load_recipe(name)
    assert recipe.kind == kind
    assert recipe.target == "params=5.2x"
    assert any(entry.name == "class_aware" for entry in recipe.distill) is class_aware
    assert (recipe.kind == "prune" or recipe.student.init != "scratch") is inherits
    anew = ("scratch", "dcd", "tinygan")
    assert (recipe.discriminator.policy == "scratch") is (name in anew)


def test_all_methods_see_equally_many_images() -> None:
    recipes = [load_recipe(row[0]) for row in (*METHODS, *FIELD)]
    assert len({r.batch * (r.steps + r.finetune_steps) for r in recipes}) == 1
    assert len({r.generator_optim for r in recipes}) == 1
    assert len({r.augment for r in recipes}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_size_is_known_before_training(name: str) -> None:
    generator = biggan()[0]
    subject = Subject({"model": "biggan"}, generator, InputSampler.of(generator))
    found = predict(subject, tiny(name, "target=params=2x"))
    assert -0.1 <= found.off_target <= 0.0


@pytest.mark.slow  # tests/recipes/test_field_recipes.py does so on tiny networks
@pytest.mark.parametrize("name", NAMES)
def test_five_steps_on_a_small_biggan(name: str) -> None:
    _, result = run(name)
    assert result.exit_code == 0
    assert all(torch.isfinite(p).all() for p in result.generator.parameters())
    losses = result.history[-1]
    assert ("distill" in losses) is (name != "scratch")
    assert {"d_loss", "g_loss"} <= losses.keys()
    assert result.verified is not None
    assert result.verified["passed"]
    z, y = biggan()[0].sample_inputs(3, torch.Generator().manual_seed(1))
    assert result.generator(z, y).shape == (3, 1, 32, 32)


def test_one_shot_methods_cut_before_they_train() -> None:
    for name in ("magnitude", "random"):
        recipe = load_recipe(name)
        assert recipe.schedule.name == "oneshot"
        assert recipe.mask_lr == 0.0
        assert recipe.shrink.events[0] <= 0.05


@pytest.mark.slow
def test_random_depends_on_the_seed_and_magnitude_does_not() -> None:
    def choice(name: str, seed: int) -> dict[str, list[int]]:
        generator = biggan()[0]
        example = generator.sample_inputs(2, torch.Generator().manual_seed(0))
        recipe = load_recipe(name)
        masked = gc.wrap(
            generator, example, target="params=2x", importance=recipe.importance.name, seed=seed
        )
        return masked.plan().keep

    first, again, other = choice("random", 0), choice("random", 0), choice("random", 1)
    assert first == again
    assert first != other
    assert choice("magnitude", 0) == (magnitude := choice("magnitude", 1))
    assert magnitude != first


def student(name: str) -> tuple[BigGANGenerator, nn.Module]:
    generator = biggan()[0]
    example = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    small, _, _ = narrow_student(generator, example, tiny(name, "target=params=2x"))
    return generator, small


def test_the_plain_twin_computes_what_biggan_computes() -> None:
    generator = biggan()[0].eval()
    twin = plain_twin(generator)
    inputs = generator.sample_inputs(3, torch.Generator().manual_seed(0))
    assert torch.allclose(twin(*inputs), generator(*inputs), atol=1e-5)
    # Only layers that torch-pruning knows are left, and the original is as it was.
    assert not any("Spectral" in type(m).__name__ for m in twin.modules() if type(m) is nn.Conv2d)
    assert not any(hasattr(m, "u0") for m in twin.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert any(hasattr(m, "u0") for m in generator.modules())


def test_torch_pruning_keeps_the_teachers_own_weights_in_equal_shares() -> None:
    generator, small = student("torch-pruning")
    widths = {n: len(m.weight) for n, m in small.named_modules() if n.endswith(("conv1", "conv2"))}
    assert max(widths.values()) - min(widths.values()) <= 1  # one ratio, up to its last step
    theirs = dict(generator.named_parameters())["blocks.0.0.conv1.bias"].tolist()
    mine = dict(small.named_parameters())["blocks.0.0.conv1.bias"].tolist()
    assert set(mine) <= set(theirs)
    assert count(small) < count(generator)


def test_the_taylor_importance_of_torch_pruning_keeps_other_channels() -> None:
    generator = biggan()[0]
    example = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    words = ("target=params=2x", "student={init: torch-pruning, pruner: {importance: taylor}}")
    small, plan, verified = narrow_student(generator, example, tiny("torch-pruning", *words))
    assert verified["passed"]
    assert 0.9 * count(generator) / 2 <= count(small) <= count(generator) / 2
    plain = narrow_student(generator, example, tiny("torch-pruning", words[0]))[1]
    assert plan.keep != plain.keep
    with pytest.raises(ConfigError, match="for student.init torch-pruning, not for narrow"):
        tiny("torch-pruning", "student={init: narrow, pruner: {importance: taylor}}")


def test_torch_pruning_says_what_it_cannot_do() -> None:
    generator = TinyGenerator()
    example = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    with pytest.raises((TargetError, GraphError), match="torch-pruning"):
        narrow_student(generator, example, tiny("torch-pruning", "target=params=10x"))


def test_a_network_and_images_of_ones_own() -> None:
    generator, discriminator = networks()
    words = ("target=params=2x", "channels_last=false", "distill=[{name: pixel}]")
    result = train(
        tiny("magnitude", *words),
        generator=generator,
        discriminator=discriminator,
        dataset=images(),
        out=None,
        screen=Silent(),
    )
    assert type(result.generator) is TinyGenerator
