"""Reference networks keep the public code's names, shapes, counts and numbers."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from gancompress.commands.resolve.builders import load_builder
from gancompress.errors import ConfigError, DataError
from gancompress.models import presets
from gancompress.models.hifigan import (
    HiFiGANConfig,
    HiFiGANGenerator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
)
from gancompress.models.patchgan import NLayerDiscriminator
from gancompress.models.spade import SPADEConfig, SPADEGenerator
from gancompress.models.superres import RRDBNet, SRVGGNetCompact, UNetDiscriminatorSN
from gancompress.models.translation import ResnetGenerator, UnetGenerator
from gancompress.recipes.load import load_recipe
from gancompress.recipes.networks import REFERENCES, check_network
from tests.models.reference import (
    DISCRIMINATORS,
    GENERATORS,
    SQUARE,
    fill_by_name,
    rng,
    summary,
    tensors,
)

DATA = Path(__file__).parent / "data"
KEYS = json.loads((DATA / "published_keys.json").read_text())
GOLDENS = json.loads((DATA / "published_goldens.json").read_text())
STATEFUL = [name for name in GOLDENS if "train" in GOLDENS[name]]


def build(name: str) -> torch.nn.Module:
    return GENERATORS[name]() if name in GENERATORS else DISCRIMINATORS[name][0]()


# -- names, shapes, counts -------------------------------------------------------------------------
COUNTS = {
    "cyclegan_generator": 11_378_179,
    "pix2pix_generator": 54_413_955,
    "spade_coco_generator": 97_480_899,
    "spade_ade20k_generator": 96_492_483,
    "spade_cityscapes_generator": 93_048_003,
    "realesrgan_x4plus": 16_697_987,
    "realesrgan_x4plus_anime": 4_467_779,
    "realesr_animevideov3": 621_424,
    "realesr_general_x4v3": 1_213_296,
    "hifigan_v1_generator": 13_936_130,
    "hifigan_v2_generator": 928_514,
    "hifigan_v3_generator": 1_464_322,
    "hifigan_period_discriminator": 41_105_770,
    "hifigan_scale_discriminator": 29_618_821,
}


@pytest.mark.parametrize("published", KEYS)
def test_published_names_shapes_and_counts(published: str) -> None:
    owner, _, name = published.partition("_")
    with torch.device("meta"):
        module = getattr(presets, published if owner == "spade" else name)()
    ours = {key: list(value.shape) for key, value in module.state_dict().items()}
    assert ours == KEYS[published]["state"]
    assert list(ours) == list(KEYS[published]["state"])
    count = sum(p.numel() for p in module.parameters())
    assert count == KEYS[published]["parameters"]
    assert count == COUNTS.get(name if owner != "spade" else published, count)


@pytest.mark.parametrize(
    ("config", "folded"),
    [
        (HiFiGANConfig.v1(), 13_926_017),
        (HiFiGANConfig.v2(), 925_985),
        (HiFiGANConfig.v3(), 1_462_273),
    ],
    ids=["v1", "v2", "v3"],
)
def test_vocoder_counts_once_folded(config: HiFiGANConfig, folded: int) -> None:
    vocoder = HiFiGANGenerator(config)
    assert config.hop == 256
    vocoder.remove_weight_norm()
    assert sum(p.numel() for p in vocoder.parameters()) == folded
    assert not any(name.endswith(("weight_g", "weight_v")) for name in vocoder.state_dict())


# -- numbers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GOLDENS)
def test_numbers_of_the_public_code(name: str, draw) -> None:
    module = fill_by_name(build(name), draw)
    if name in GENERATORS:
        shapes = [tuple(part.shape) for part in module.sample_inputs(2, rng())]
    else:
        shapes = [DISCRIMINATORS[name][1]]
    args = [draw(f"input{i}", shape, torch.float64) for i, shape in enumerate(shapes)]
    assert summary(module.eval()(*args)) == pytest.approx(GOLDENS[name]["eval"], abs=1e-9)
    if name in STATEFUL:
        module.train()
        with torch.no_grad():
            module(*args)  # statistics and spectral vectors move on
        assert summary(module(*args)) == pytest.approx(GOLDENS[name]["train"], abs=1e-9)


# -- shapes, ranges, gradients ---------------------------------------------------------------------
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_run_and_learn(name: str) -> None:
    generator = build(name)
    inputs = generator.sample_inputs(3, rng(1))
    again = generator.sample_inputs(3, rng(1))
    assert all(torch.equal(a, b) for a, b in zip(inputs, again, strict=True))
    output = generator(*inputs)
    assert len(output) == 3
    if name.startswith(("resnet", "unet", "spade", "hifigan")):
        assert output.abs().max() <= 1
    if name.startswith(("resnet", "unet")):
        assert output.shape == inputs[0].shape
    if name.startswith("spade"):
        assert output.shape[2:] == inputs[0].shape[2:]
    if name.startswith(("rrdb", "srvgg")):
        scale = getattr(generator, "scale", None) or generator.upscale
        assert output.shape == (3, 3, 32 * scale, 32 * scale)
        assert inputs[0].min() >= 0
    if name.startswith("hifigan"):
        assert output.shape == (3, 1, 32 * generator.config.hop)
    output.square().sum().backward()
    assert [n for n, p in generator.named_parameters() if p.grad is None] == []
    assert generator.double().sample_inputs(1, rng())[0].dtype == torch.float64


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_run_and_learn_from_two_batches_at_once(name: str) -> None:
    discriminator = build(name)
    real, made = (torch.rand(DISCRIMINATORS[name][1], generator=rng(i)) for i in range(2))
    first, second = discriminator(real), discriminator(made)
    (
        sum(t.sum() for t in tensors(first)) - sum(t.square().sum() for t in tensors(second))
    ).backward()
    assert [n for n, p in discriminator.named_parameters() if p.grad is None] == []
    if name == "spade-d":
        assert len(first) == SQUARE.num_D
        assert all(logits is maps[-1] for logits, maps in first)
        assert all(len(maps) == SQUARE.n_layers_D + 1 for _, maps in first)


@pytest.mark.parametrize("network", [MultiPeriodDiscriminator, MultiScaleDiscriminator])
def test_sound_discriminators_give_logits_and_maps(network) -> None:
    discriminator = network()
    sound = torch.rand(1, 1, 1003, generator=rng(), requires_grad=True)
    found = discriminator(sound)
    assert len(found) == len(discriminator.discriminators)
    for logits, maps in found:
        assert logits.shape[0] == 1
        assert torch.equal(logits, maps[-1].flatten(1))
    sum(logits.sum() for logits, _ in found).backward()
    assert sound.grad is not None
    assert sound.grad.abs().sum() > 0


@pytest.mark.parametrize("name", GENERATORS)
def test_copies_are_independent_after_a_training_step(name: str) -> None:
    generator = build(name)
    generator(*generator.sample_inputs(2, rng())).mean().backward()
    twin = copy.deepcopy(generator)
    kept = {key: value.clone() for key, value in twin.state_dict().items()}
    torch.optim.SGD(generator.parameters(), lr=1.0).step()
    assert all(torch.equal(twin.state_dict()[key], value) for key, value in kept.items())


# -- what cannot be --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResnetGenerator(norm="layer"), "norm 'layer' is not one of"),
        (lambda: ResnetGenerator(ngf=0), "ResnetGenerator ngf is 0"),
        (lambda: UnetGenerator(num_downs=4), "num_downs is 4, must be at least 5"),
        (lambda: NLayerDiscriminator(n_layers=0), "n_layers is 0"),
        (lambda: RRDBNet(scale=3), "scale 3 is not 1, 2 or 4"),
        (lambda: SRVGGNetCompact(act_type="prelo"), "act_type 'prelo'.*prelu"),
        (lambda: SRVGGNetCompact(num_out_ch=1), "num_out_ch 1 must equal num_in_ch 3"),
        (lambda: SPADEConfig(num_upsampling_layers="few"), "num_upsampling_layers 'few'"),
        (lambda: SPADEConfig(norm_G="layer"), "norm_G 'layer'"),
        (lambda: SPADEConfig(crop_size=16), "crop_size 16.*leaves no first map after 5"),
        (lambda: HiFiGANConfig(resblock="3"), "resblock '3'"),
        (lambda: HiFiGANConfig(upsample_rates=(8, 8)), "upsample_rates has 2 entries"),
        (lambda: HiFiGANConfig(upsample_rates=(8, 8, 2, 3)), "kernel 4 of upsampling rate 3"),
        (lambda: HiFiGANConfig(resblock_kernel_sizes=(3, 6, 11)), "must be odd"),
        (lambda: HiFiGANConfig(upsample_initial_channel=8), "halved 4 times, so at least 16"),
    ],
)
def test_a_size_without_a_network_is_named(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("resnet-instance", [(2, 1, 32, 32)], r"shape \(2, 1, 32, 32\), expected \(n, 3, h, w\)"),
        ("resnet-instance", [(2, 3, 32)], r"shape \(2, 3, 32\)"),
        ("resnet-instance", [(2, 3, 4, 32)], "4x32, this network needs at least 8x8"),
        ("unet-batch", [(2, 3, 48, 32)], "48x32: height and width must be multiples of 32"),
        ("rrdb-x2", [(2, 3, 15, 16)], "15x16: height and width must be multiples of 2"),
        ("spade", [(2, 6, 64, 64)], r"expected \(n, 7, h, w\)"),
        ("spade", [(2, 7, 64, 64), (2, 8)], "reads no z"),
        ("spade-vae", [(2, 7, 64, 64)], r"z is missing, expected \(2, 8\)"),
        ("spade-vae", [(2, 7, 64, 64), (2, 9)], r"z is of shape \(2, 9\)"),
        ("hifigan", [(2, 40, 32)], r"mel has shape \(2, 40, 32\), expected \(n, 80, frames\)"),
        ("patch-instance", [(2, 6, 64, 64)], r"expected \(n, 3, h, w\)"),
        ("patch-instance", [(2, 3, 16, 16)], "at least 24x24"),
        ("spade-d", [(2, 7, 64, 64)], r"expected \(n, 10, h, w\)"),
        ("unet-sn", [(2, 3, 60, 64)], "multiples of 8"),
    ],
)
def test_an_input_that_does_not_fit_is_named(name: str, shapes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(name)(*[torch.zeros(shape) for shape in shapes])


def test_sound_that_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match=r"sound has shape \(1, 2, 100\)"):
        MultiPeriodDiscriminator()(torch.zeros(1, 2, 100))


def test_resnet_takes_rectangles_and_rounds_up_to_fours() -> None:
    generator = build("resnet-instance")
    assert generator(torch.zeros(1, 3, 32, 48)).shape == (1, 3, 32, 48)
    assert generator(torch.zeros(1, 3, 30, 41)).shape == (1, 3, 32, 44)


# -- names -----------------------------------------------------------------------------------------
def test_every_reference_name_has_its_builders() -> None:
    for builders in REFERENCES.values():
        for spec in builders:
            assert load_builder(spec).__name__ == spec.partition(":")[2]


def test_a_training_recipe_may_name_a_reference() -> None:
    check_network(load_recipe("fashion-teacher", ["network=pix2pix"]))
    with pytest.raises(ConfigError, match="Did you mean 'pix2pix'"):
        check_network(load_recipe("fashion-teacher", ["network=pix2pixs"]))


def test_the_discriminator_of_a_generator_without_instances_reads_fewer_channels() -> None:
    config = SPADEConfig.ade20k()
    assert (config.semantic_nc, config.size) == (151, (256, 256))
    assert (SPADEConfig.coco().semantic_nc, SPADEConfig.cityscapes().size) == (184, (256, 512))
    assert isinstance(UNetDiscriminatorSN(1, 4)(torch.zeros(1, 1, 8, 8)), torch.Tensor)
    assert SPADEGenerator.reads == "semantic map"
