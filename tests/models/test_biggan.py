"""BigGAN keeps the public code's names and counts, and holds up in every way it is run."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gancompress.errors import DataError
from gancompress.models import (
    BigGANConfig,
    BigGANDiscriminator,
    BigGANGenerator,
    cifar_discriminator,
    cifar_generator,
    imagenet128_discriminator,
    imagenet128_generator,
)
from gancompress.models.layers import BatchNorm2d, ConditionalBatchNorm2d, SpectralConv2d

FASHION = BigGANConfig.fashion32()
SMALL = dataclasses.replace(FASHION, ch=4, dim_z=16, shared_dim=8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def attentive(config: BigGANConfig) -> BigGANGenerator:
    """A generator whose attention is on: a fresh one has gamma 0."""
    generator = BigGANGenerator(config)
    for name, parameter in generator.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(0.7)
    return generator


@pytest.mark.parametrize(
    ("build", "name", "count"),
    [
        (imagenet128_generator, "G_imagenet128_ch96", 70_433_988),
        (imagenet128_discriminator, "D_imagenet128_ch96", 87_982_370),
        (cifar_generator, "G_cifar10_ch64", 4_304_387),
        (cifar_discriminator, "D_cifar10_ch64", 4_207_361),
    ],
)
def test_published_names_shapes_and_counts(build, name, count, published_keys) -> None:
    with torch.device("meta"):
        module = build()
    published = published_keys(name)
    parameters = {key for key, _ in module.named_parameters()}
    ours = {
        key: [list(value.shape), "float32", "param" if key in parameters else "buffer"]
        for key, value in module.state_dict().items()
    }
    assert ours == published
    assert list(ours) == list(published)
    assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize(("resolution", "channels"), [(32, 1), (64, 4), (128, 3), (256, 1)])
def test_every_resolution_and_channel_count_runs(resolution, channels) -> None:
    slots = {32: 4, 64: 5, 128: 6, 256: 7}[resolution]
    config = BigGANConfig(
        resolution=resolution,
        n_classes=5,
        ch=4,
        dim_z=2 * slots,
        shared=True,
        shared_dim=3,
        hier=True,
        g_attn=(16,),
        d_attn=(16,),
        image_channels=channels,
    )
    generator, discriminator = BigGANGenerator(config), BigGANDiscriminator(config)
    z, y = generator.sample_inputs(2, rng())
    images = generator(z, y)
    assert images.shape == (2, channels, resolution, resolution)
    assert images.abs().max() <= 1
    logits = discriminator(images, y)
    assert logits.shape == (2, 1)
    logits.sum().backward()
    trained = [*generator.named_parameters(), *discriminator.named_parameters()]
    assert [name for name, p in trained if p.grad is None] == []


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "tables"])
def test_without_hierarchy_all_of_z_enters_at_the_bottom(shared) -> None:
    config = dataclasses.replace(SMALL, hier=False, shared=shared, shared_dim=8 if shared else 0)
    generator = BigGANGenerator(config)
    assert generator.linear.weight.shape[1] == config.dim_z
    assert generator(*generator.sample_inputs(2, rng())).shape == (2, 1, 32, 32)


def test_fashion_preset_has_the_promised_widths() -> None:
    generator = BigGANGenerator(FASHION)
    assert generator.blocks[0][0].conv1.weight.shape == (64, 64, 3, 3)
    assert generator.linear.weight.shape == (64 * 16, 16)
    assert sum(p.numel() for p in generator.parameters()) == 289_345


def test_labels_and_their_embeddings_give_the_same_images() -> None:
    generator = BigGANGenerator(SMALL).eval()
    z, y = generator.sample_inputs(3, rng())
    torch.testing.assert_close(generator(z, y), generator(z, generator.shared(y)), rtol=0, atol=0)


def test_every_slot_of_z_and_the_label_matter() -> None:
    generator = BigGANGenerator(SMALL).eval()
    z, y = generator.sample_inputs(2, rng())
    images = generator(z, y)
    for slot in range(4):
        moved = z.clone()
        moved[:, 4 * slot : 4 * slot + 4] += 1
        assert (generator(moved, y) - images).abs().max() > 1e-4, f"slot {slot} has no effect"
    assert (generator(z, (y + 1) % 10) - images).abs().max() > 1e-4


def test_sample_inputs_follow_the_generator_of_numbers_only() -> None:
    generator = BigGANGenerator(SMALL)
    z, y = generator.sample_inputs(400, rng(3))
    assert z.shape == (400, 16)
    assert y.dtype == torch.int64
    assert sorted(set(y.tolist())) == list(range(10))
    torch.manual_seed(99)
    again, labels = generator.sample_inputs(400, rng(3))
    assert torch.equal(z, again)
    assert torch.equal(y, labels)
    precise, _ = generator.double().sample_inputs(400, rng(3))
    assert precise.dtype == torch.float64
    assert torch.equal(precise, z.double())


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (torch.zeros(2, 17), torch.zeros(2, dtype=torch.long), r"z has shape \(2, 17\).*\(n, 16\)"),
        (torch.zeros(16), torch.zeros(1, dtype=torch.long), r"z has shape \(16,\)"),
        (torch.zeros(2, 16), torch.zeros(2, 9), r"embedded y has shape \(2, 9\).*\(n, 8\)"),
        (torch.zeros(2, 16), torch.zeros(2), r"embedded y has shape \(2,\).*int64"),
        (torch.zeros(2, 16), torch.zeros(2, 1, dtype=torch.long), r"labels have shape \(2, 1\)"),
        (torch.zeros(2, 16), torch.zeros(3, dtype=torch.long), "z has 2 rows, y has 3"),
    ],
)
def test_generator_names_a_wrong_input(z, y, message) -> None:
    with pytest.raises(DataError, match=message):
        BigGANGenerator(SMALL)(z, y)


def test_tables_refuse_embeddings() -> None:
    config = dataclasses.replace(BigGANConfig.cifar(), ch=2)
    with pytest.raises(DataError, match=r"no shared embedding.*\[0, 10\)"):
        BigGANGenerator(config)(torch.zeros(1, 128), torch.zeros(1, 8))


@pytest.mark.parametrize(
    ("images", "y", "message"),
    [
        (torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.long), r"\(n, \*\(1, 32, 32\)\)"),
        (torch.zeros(2, 1, 64, 64), torch.zeros(2, dtype=torch.long), r"shape \(2, 1, 64, 64\)"),
        (torch.zeros(2, 1, 32, 32), torch.zeros(2), "labels are torch.float32"),
        (torch.zeros(2, 1, 32, 32), torch.zeros(3, dtype=torch.long), r"shape \(3,\)"),
    ],
)
def test_discriminator_names_a_wrong_input(images, y, message) -> None:
    with pytest.raises(DataError, match=message):
        BigGANDiscriminator(SMALL)(images, y)


def test_a_deep_copy_shares_nothing() -> None:
    generator = BigGANGenerator(SMALL)
    twin = copy.deepcopy(generator)
    kept = {name: value.clone() for name, value in twin.state_dict().items()}
    generator(*generator.sample_inputs(4, rng())).mean().backward()
    torch.optim.SGD(generator.parameters(), lr=1.0).step()
    for name, value in twin.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert not torch.equal(generator.linear.u0, twin.linear.u0)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_channels_last_stays_channels_last(training) -> None:
    plain = attentive(dataclasses.replace(SMALL, g_attn=(16,))).train(training)
    laid = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    lost = []
    for name, layer in laid.named_modules():
        if isinstance(layer, ConditionalBatchNorm2d | BatchNorm2d | SpectralConv2d):
            layer.register_forward_hook(
                lambda _m, i, o, name=name: (
                    lost.append(name)
                    if i[0].is_contiguous(memory_format=torch.channels_last)
                    and not o.is_contiguous(memory_format=torch.channels_last)
                    else None
                )
            )
    z, y = plain.sample_inputs(2, rng())
    torch.testing.assert_close(laid(z, y), plain(z, y), rtol=1e-4, atol=2e-5)
    assert lost == []


def test_autocast_keeps_spectral_norm_in_float32() -> None:
    generator = attentive(dataclasses.replace(SMALL, g_attn=(16,)))
    discriminator = BigGANDiscriminator(SMALL)
    twins = copy.deepcopy(generator), copy.deepcopy(discriminator)
    z, y = generator.sample_inputs(8, rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(z, y)
        logits = discriminator(images, y)
    precise = twins[0](z, y)
    twins[1](precise, y)
    assert images.dtype == torch.bfloat16
    torch.testing.assert_close(images.float(), precise, rtol=0, atol=0.1)
    for mixed, exact in zip((generator, discriminator), twins, strict=True):
        others = exact.state_dict()
        for name, value in mixed.state_dict().items():
            assert value.dtype == torch.float32
            if name.endswith((".u0", ".sv0")):  # weights only: not a bit may depend on bf16
                assert torch.equal(value, others[name]), name
    logits.float().mean().backward()
    for parameter in (*generator.parameters(), *discriminator.parameters()):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_bfloat16_weights_run() -> None:
    generator = BigGANGenerator(SMALL).eval()
    z, y = generator.sample_inputs(2, rng())
    precise = generator(z, y)
    images = generator.bfloat16()(z.bfloat16(), y)
    assert images.dtype == torch.bfloat16
    torch.testing.assert_close(images.float(), precise, rtol=0, atol=0.1)


def test_deterministic_algorithms_suffice_and_repeat() -> None:
    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(1)
        config = dataclasses.replace(SMALL, g_attn=(16,), d_attn=(16,))
        generator, discriminator = attentive(config), BigGANDiscriminator(config)
        z, y = generator.sample_inputs(4, rng())
        discriminator(generator(z, y), y).mean().backward()
        return [p.grad for p in (*generator.parameters(), *discriminator.parameters())]

    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(), gradients()
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_runs_on_fake_tensors_at_full_size(training) -> None:
    with FakeTensorMode():
        config = dataclasses.replace(BigGANConfig.imagenet128(), init="N02")
        generator = BigGANGenerator(config).train(training)
        z, y = torch.randn(2, 120), torch.zeros(2, dtype=torch.long)
        images = generator(z, y)
        logits = BigGANDiscriminator(config).train(training)(images, y)
    assert images.shape == (2, 3, 128, 128)
    assert logits.shape == (2, 1)


def test_exports_with_any_batch_size() -> None:
    generator = attentive(dataclasses.replace(SMALL, g_attn=(16,))).eval()
    z, y = generator.sample_inputs(2, rng())
    n = torch.export.Dim("n")
    shapes = {"z": {0: n}, "y": {0: n}}
    program = torch.export.export(generator, (z, y), dynamic_shapes=shapes, strict=False)
    z, y = generator.sample_inputs(5, rng(1))
    torch.testing.assert_close(program.module()(z, y), generator(z, y), rtol=0, atol=1e-5)


def test_sizes_come_from_the_tensors_so_sliced_attention_is_exact() -> None:
    """Keep fewer attention channels by slicing tensors alone: the kept ones must not mix."""
    generator = attentive(dataclasses.replace(SMALL, ch=8, g_attn=(16,))).double().eval()
    attention = generator.blocks[1][1]
    z, y = generator.sample_inputs(2, rng())
    with torch.no_grad():
        attention.theta.weight[2:] = 0
        attention.phi.weight[2:] = 0
        attention.g.weight[5:] = 0
        attention.o.weight[:, 5:] = 0
        masked = generator(z, y)
        for layer, keep in ((attention.theta, 2), (attention.phi, 2), (attention.g, 5)):
            layer.weight = torch.nn.Parameter(layer.weight[:keep].clone())
            layer.u0 = layer.u0[:, :keep].clone()
        attention.o.weight = torch.nn.Parameter(attention.o.weight[:, :5].clone())
        sliced = generator(z, y)
    torch.testing.assert_close(sliced, masked, rtol=0, atol=1e-12)
