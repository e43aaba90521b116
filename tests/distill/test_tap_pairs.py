from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gancompress.distill import attention_transfer, build_distiller, find_taps, pair_taps
from gancompress.distill.protocol import DistillBatch
from gancompress.errors import ConfigError
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator
from gancompress.modules.discriminator import DiscriminatorCall, use_call
from gancompress.modules.joint_discriminator import joined
from tests.distill.toys import CLASSES, LATENT, Discriminator, Generator, bench


def example(n: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(n, LATENT), torch.arange(n) % CLASSES


def small_biggan(resolution: int, **options: object) -> BigGANConfig:
    base = {"n_classes": 3, "ch": 8, "shared": True, "shared_dim": 6, "hier": True}
    slots = {32: 4, 64: 5, 128: 6}[resolution]
    return BigGANConfig(resolution=resolution, dim_z=2 * slots, **{**base, **options})


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_biggan_gives_the_output_of_each_residual_block(resolution: int):
    net = BigGANGenerator(small_biggan(resolution))
    taps = find_taps(net, net.sample_inputs(2, torch.Generator().manual_seed(0)))
    expected = {(8 << i, 8 << i): f"blocks.{i}.0" for i in range(len(net.blocks))}
    assert taps == expected


def test_biggan_attention_is_the_end_of_its_stage():
    net = BigGANGenerator(small_biggan(64, g_attn=(32,)))
    taps = find_taps(net, net.sample_inputs(2, torch.Generator().manual_seed(0)))
    assert taps[(32, 32)] == "blocks.2.1"


def test_biggan_discriminator_gives_its_blocks():
    config = small_biggan(64)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 1])
    taps = find_taps(BigGANDiscriminator(config), (images, labels))
    assert taps[(4, 4)] == "blocks.4.0"
    assert taps[(32, 32)] == "blocks.0.0"


def test_flat_network_is_tapped_behind_norm_and_activation():
    net = nn.Sequential(
        nn.ConvTranspose2d(5, 8, 4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, 2, 1),
        nn.Tanh(),
    )
    assert find_taps(net, (torch.randn(2, 5, 1, 1),)) == {(4, 4): "2", (8, 8): "6"}


def test_weight_parametrizations_and_shared_modules_are_no_taps():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Conv2d(4, 4, 1)
            self.a = spectral_norm(nn.Conv2d(4, 4, 3, padding=1))
            self.b = nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.a(self.act(x)))
            return self.b(x).repeat_interleave(2, dim=3)

    assert find_taps(Net(), (torch.randn(4, 4, 6, 6),)) == {(6, 6): "b"}


def test_translator_meets_each_size_once():
    def conv(i: int, o: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.InstanceNorm2d(o), nn.ReLU())

    def up(i: int, o: int) -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.ReLU())

    net = nn.Sequential(
        conv(3, 4), conv(4, 4, 2), conv(4, 4, 2), conv(4, 4), up(4, 4), up(4, 4), conv(4, 3)
    )
    assert find_taps(net, (torch.randn(1, 3, 16, 16),)) == {
        (16, 16): "5",
        (8, 8): "4",
        (4, 4): "3",
    }


def test_looking_leaves_no_trace():
    net = Generator().train()
    before, random = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    inputs = (torch.ones(2, LATENT), torch.tensor([0, 1]))
    net.blocks[0].eval()
    find_taps(net, inputs)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert net.training
    assert not net.blocks[0].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_pairs_of_networks_of_different_width_and_names():
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Generator(3)

        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return self.inner(z, y)

    assert pair_taps(Generator(), Other(), example()) == (
        ("inner.blocks.0", "blocks.0"),
        ("inner.blocks.1", "blocks.1"),
        ("inner.blocks.2", "blocks.2"),
    )


def test_only_sizes_of_both_are_paired():
    teacher, student = nn.Sequential(*_halvings(3)), nn.Sequential(*_halvings(2))
    pairs = pair_taps(teacher, student, (torch.randn(1, 1, 32, 32),))
    assert pairs == (("0", "0"),)


def _halvings(n: int) -> list[nn.Module]:
    return [nn.Conv2d(1, 1, 3, 2, 1) for _ in range(n)]


def test_no_common_size_is_an_error():
    teacher = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Upsample(scale_factor=2))
    student = nn.Sequential(nn.Conv2d(1, 1, 3, 4, 1), nn.Upsample(scale_factor=4))
    with pytest.raises(ConfigError, match="share no map size: teacher 8x8, student 4x4"):
        pair_taps(teacher, student, (torch.randn(1, 1, 16, 16),))


def test_network_without_maps_is_an_error():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ConfigError, match=r"no activation maps .*pairs="):
        find_taps(net, (torch.randn(2, 4),))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["blocks.9"], r"no tap 'blocks.9' in Generator. Did you mean 'blocks.\d'"),
        ([["blocks.0", "block.1"]], "Did you mean 'blocks.1'"),
        ([["blocks.0", "blocks.1"]], r"sizes differ, student \(4, 4, 4, 4\)"),
        ([["blocks.0"]], "neither a tap name nor"),
        ([], "pairs is empty"),
    ],
)
def test_given_pairs_are_checked(pairs: list[object], message: str):
    with pytest.raises(ConfigError, match=message):
        bench(same=True).build("attention", pairs=pairs)


def test_given_pairs_are_used():
    distiller = bench(same=True).build(
        "attention", pairs=["blocks.1", ["blocks.0.conv", "blocks.0"]]
    )
    assert distiller.pairs == (("blocks.1", "blocks.1"), ("blocks.0.conv", "blocks.0"))


def test_audio_maps_are_found_too():
    net = nn.Sequential(nn.Conv1d(1, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose1d(4, 1, 4, 2, 1))
    assert find_taps(net, (torch.randn(2, 1, 16),)) == {(8,): "1"}
    x = torch.randn(2, 4, 8)
    assert float(attention_transfer(x, 3 * x)) == pytest.approx(0, abs=1e-6)


def test_toy_discriminator():
    images, labels = torch.randn(2, 1, 16, 16), torch.tensor([0, 1])
    assert find_taps(Discriminator(), (images, labels)) == {(8, 8): "first", (4, 4): "second"}


class Several(nn.Module):
    """A body of 8x8 maps, then the image; before it maps of 8x8 that it returns, behind it a mask.

    The first tensor returned is a vector, the last module of 8x8 is the head of the mask.
    """

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.image = nn.Conv2d(width, 3, 3, padding=1)
        self.head = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, x: Tensor, size: int = 2) -> tuple[Tensor, list[Tensor], Tensor]:
        h = self.act(self.body(x))
        image = self.image(nn.functional.interpolate(h, scale_factor=size))
        return h.mean((2, 3)), [image, h], self.head(h)


def test_of_several_outputs_the_image_says_which_layers_count():
    net, x = Several().requires_grad_(False), torch.randn(2, 3, 8, 8)
    with pytest.raises(ConfigError, match=r"returns 4 tensors .* which is its image"):
        find_taps(net, (x,))
    before = copy.deepcopy(net.state_dict())
    assert find_taps(net, (x,), results=lambda output: [output[1][0]]) == {(8, 8): "act"}
    assert find_taps(net, (x,), results=lambda output: [output[2]]) == {(8, 8): "act"}
    assert find_taps(net, (x,), {"size": 1}, results=lambda output: [output[1][0]])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


def test_a_teacher_of_several_outputs_is_distilled_by_its_image():
    teacher, student, x = Several(), Several(2), torch.randn(2, 3, 8, 8)
    image = teacher(x)[1][0].detach()
    assert pair_taps(teacher, student, (x,), image) == (("act", "act"),)
    for name in ("attention", "relational", "kernel_alignment", "feature"):
        distiller = build_distiller(
            name, teacher=teacher, student=student, discriminator=None, example=(x,), image=image
        )
        assert tuple(distiller.pairs) == (("act", "act"),)


def test_a_discriminator_is_tapped_where_its_score_comes_from():
    class Auxiliary(nn.Module):
        """Features first, labels by keyword, and a map for classes that no score comes from."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1)
            self.score = nn.Linear(4, 1)
            self.classes = nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x: Tensor, *, labels: Tensor | None = None) -> dict[str, Any]:
            h = self.first(x).relu()
            return {
                "features": [h],
                "classes": self.classes(h),
                "logits": self.score(h.mean((2, 3))),
            }

    generator, y = Generator(), torch.tensor([0, 1])
    example_inputs = (torch.randn(2, LATENT), y)
    for name, options in (("discriminator_features", {}), ("class_aware", {"variant": "cam"})):
        distiller = build_distiller(
            name, teacher=generator, student=Generator(3), discriminator=Auxiliary(),
            example=example_inputs, **options,
        )  # fmt: skip
        images = torch.randn(2, 1, 16, 16, requires_grad=True)
        batch = DistillBatch(example_inputs, y, images, images.detach() + 1, {}, {})
        distiller(batch).backward()
        assert images.grad is not None
        assert float(images.grad.abs().sum()) > 0


def test_features_that_a_discriminator_returns_stand_in_for_its_layers():
    class Both(nn.Module):
        """D(y, y_hat) of HiFi-GAN's public code: each layer runs on both."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 1, 3, 2, 1)

        def one(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            h = self.first(x).relu()
            return self.last(h).flatten(1), [h]

        def forward(self, y: Tensor, y_hat: Tensor) -> tuple[list[Any], ...]:
            (a, f), (b, g) = self.one(y), self.one(y_hat)
            return [a], [b], [f], [g]

    judge, generator, y = Both(), Generator(), torch.tensor([0, 1])
    use_call(judge, DiscriminatorCall.parse("image, image -> 1.* features 3.*.*"))
    inputs = (torch.randn(2, LATENT), y)
    for name, options in (("discriminator_features", {}), ("class_aware", {"variant": "cam"})):
        distiller = build_distiller(
            name, teacher=generator, student=Generator(3), discriminator=judge, example=inputs,
            **options,
        )  # fmt: skip
        images = torch.randn(2, 1, 16, 16, requires_grad=True)
        same = DistillBatch(inputs, y, images, images.detach(), {}, {})
        assert float(distiller(same).detach()) == pytest.approx(0, abs=1e-6)
        distiller(DistillBatch(inputs, y, images, torch.randn(2, 1, 16, 16), {}, {})).backward()
        assert images.grad is not None
        assert float(images.grad.abs().sum()) > 0


def test_several_in_one_are_looked_through_before_anybody_called_them():
    class Small(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 3, 2, 1))

    generator, inputs = Generator(), (torch.randn(2, LATENT), torch.tensor([0, 1]))
    distiller = build_distiller(
        "discriminator_features", teacher=generator, student=Generator(3),
        discriminator=joined([Small(), Small()]), example=inputs,
    )  # fmt: skip
    images = torch.randn(2, 1, 16, 16)
    batch = DistillBatch(inputs, inputs[1], images, images + 1, {}, {})
    assert float(distiller(batch)) > 0
