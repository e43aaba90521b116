from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from gancompress.distill import Context, build_distiller
from gancompress.distill.frozen_discriminator import FrozenDiscriminator
from gancompress.errors import ConfigError, DataError
from tests.distill.toys import CLASSES, Discriminator, bench


def test_unknown_distiller_is_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match="no distiller named 'atention'. Did you mean 'attention'"
    ):
        bench(same=True).build("atention")


def test_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="'attention': no option 'pair'. Did you mean 'pairs'"):
        bench(same=True).build("attention", pair=["blocks.0"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "attention",
            {"reduction": "max"},
            "'reduction': .* 'sum' or 'mean', not 'max'",
        ),
        ("pixel", {"norm": "l3"}, "option 'norm': input should be 'l1' or 'l2', not 'l3'"),
        (
            "relational",
            {"relation": "rank"},
            "'relation': .* 'cosine' or 'gram', not 'rank'",
        ),
        (
            "latent_direction",
            {"samples": 1},
            "'samples': .* greater than or equal to 2, not 1",
        ),
        ("perceptual", {}, "needs features="),
    ],
)
def test_bad_options(name: str, options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        bench(same=True).build(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("discriminator_features", {}), ("co_attention", {}), ("class_aware", {"variant": "cam"})],
)
def test_missing_discriminator(name: str, options: dict[str, object]):
    networks = dataclasses.replace(bench(same=True), discriminator=None)
    with pytest.raises(ConfigError, match=rf"{name}.*--discriminator"):
        networks.build(name, **options)


@pytest.mark.parametrize("name", ["discriminator_features", "co_attention"])
def test_wrong_discriminator_tap(name: str):
    with pytest.raises(ConfigError, match="no tap 'frist' in Discriminator. Did you mean 'first'"):
        bench(same=True).build(name, taps=["frist"])
    with pytest.raises(ConfigError, match="taps is empty"):
        bench(same=True).build(name, taps=[])


@pytest.mark.parametrize("name", ["kernel_alignment", "relational", "latent_direction"])
def test_comparing_samples_needs_two(name: str):
    networks = bench(same=True)
    distiller = networks.build(name)
    with pytest.raises(DataError, match="batch of at least 2"):
        distiller(networks.batch(distiller, n=1))


def test_missing_tap_in_the_batch():
    networks = bench(same=True)
    distiller = networks.build("attention")
    batch = dataclasses.replace(networks.batch(distiller), student={})
    with pytest.raises(ConfigError, match="no student activation 'blocks.0' in the batch"):
        distiller(batch)


def test_labels_of_an_example():
    net, labels = nn.Identity(), torch.tensor([1, 2])
    assert Context(net, net, None, (torch.zeros(2, 3), labels)).labels() is labels
    assert Context(net, net, None, (torch.zeros(2, 3),)).labels() is None


def context(discriminator: nn.Module) -> Context:
    networks = bench(same=True)
    return Context(networks.teacher, networks.student, discriminator, networks.example)


def test_the_discriminator_is_a_frozen_copy():
    d = Discriminator()
    discriminator = FrozenDiscriminator(context(d), "test", None)
    images, labels = torch.randn(2, 1, 16, 16), torch.tensor([0, 1])
    before = discriminator.features(images, labels)
    with torch.no_grad():
        d.first.weight.zero_()
    after = discriminator.features(images, labels)
    assert all(torch.equal(before[tap], after[tap]) for tap in before)
    assert all(p.requires_grad for p in d.parameters())
    assert not any(p.requires_grad for p in discriminator.network.parameters())


def test_class_map_adds_up_to_the_score():
    d = Discriminator()
    discriminator = FrozenDiscriminator(context(d), "test", ["second"])
    images, labels = torch.randn(5, 1, 16, 16), torch.arange(5) % CLASSES
    maps = discriminator.class_maps(images, labels)["second"]
    score = d(images, labels) - d.linear.bias
    torch.testing.assert_close(maps.sum((1, 2)), score[:, 0], rtol=1e-4, atol=1e-5)


def test_class_map_carries_gradient_to_the_images_and_no_further():
    discriminator = FrozenDiscriminator(context(Discriminator()), "test", ["second"])
    labels = torch.tensor([0, 1])
    still = discriminator.class_maps(torch.randn(2, 1, 16, 16), labels)["second"]
    assert not still.detach().requires_grad
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    discriminator.class_maps(images, labels)["second"].square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_class_map_before_an_in_place_operator():
    d = nn.Sequential(
        nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3 * 64, 1)
    )
    discriminator = FrozenDiscriminator(context(d), "test", ["0"])
    images = torch.randn(2, 1, 16, 16)
    maps = discriminator.class_maps(images, None)["0"]
    score = d(images)[:, 0] - d[3].bias
    torch.testing.assert_close(maps.sum((1, 2)), score, rtol=1e-4, atol=1e-5)


def test_conditional_discriminator_without_labels():
    discriminator = FrozenDiscriminator(context(Discriminator()), "test", None)
    with pytest.raises(DataError, match="called with 'label', and there is none"):
        discriminator.features(torch.randn(2, 1, 16, 16), None)


def test_unconditional_discriminator_is_called_with_images_alone():
    d = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 64, 1))
    discriminator = FrozenDiscriminator(context(d), "test", None)
    found = discriminator.features(torch.randn(2, 1, 16, 16), torch.tensor([0, 1]))
    assert [tuple(x.shape) for x in found.values()] == [(2, 3, 8, 8)]


class Beside(nn.Module):
    """D(cat(condition, image)): a conditional discriminator, as of pix2pix."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 1, 3, 2, 1)

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(both)))


@pytest.mark.parametrize(
    ("name", "options"), [("discriminator_features", {}), ("co_attention", {"symmetric": True})]
)
def test_a_conditional_discriminator_is_shown_the_condition(
    name: str, options: dict[str, bool]
) -> None:
    networks = bench(same=False)
    condition = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(3))
    distiller = build_distiller(
        name,
        teacher=networks.teacher,
        student=networks.student,
        discriminator=Beside(),
        example=networks.example,
        condition=condition,
        **options,
    )
    batch = networks.batch(distiller, n=4)
    with pytest.raises(DataError, match="'condition', and there is none"):
        distiller(batch)
    one = distiller(dataclasses.replace(batch, condition=condition))
    other = distiller(dataclasses.replace(batch, condition=-condition))
    assert torch.isfinite(one)
    assert not torch.equal(one, other)
