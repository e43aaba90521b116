from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, DataError
from gancompress.modules.discriminator import call_of, takes_labels
from gancompress.tasks.check_fit import check_fit, refuse_noise_for_pictures
from tests.training.nets import TinyDiscriminator, TinyGenerator, images, networks


def test_a_probe_changes_nothing() -> None:
    generator, discriminator = networks()
    generator.train()
    before = copy.deepcopy(generator.state_dict())
    state = torch.get_rng_state()
    sampler = InputSampler.of(generator)
    inputs = check_fit(generator, sampler, discriminator=discriminator, dataset=images())
    assert [tuple(x.shape) for x in inputs] == [(2, 6), (2,)]
    assert generator.training
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name])


def wrong_size() -> ArrayDataset:
    return ArrayDataset(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.arange(4) % 3, 3)


def colour() -> ArrayDataset:
    return ArrayDataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4) % 3, 3)


def more_classes() -> ArrayDataset:
    return ArrayDataset(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4), 4)


def unlabelled() -> ArrayDataset:
    return ArrayDataset(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))


class Bytes(ArrayDataset):
    def batch(self, indices):
        x, y = super().batch(indices)
        return (x + 1) * 127.5 + 3, y


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wrong_size, ["(1, 8, 8)", "(1, 16, 16)"]),
        (colour, ["(1, 8, 8)", "(3, 8, 8)"]),
        (more_classes, ["3 classes", "4"]),
        (unlabelled, ["3 classes", "no labels"]),
        (lambda: Bytes(images().images, images().labels, 3), ["[-1, 1]", "the data's images"]),
    ],
)
def test_data_that_does_not_fit(data, words: list[str]) -> None:
    generator, _ = networks()
    with pytest.raises(DataError) as caught:
        check_fit(generator, InputSampler.of(generator), dataset=data())
    assert caught.value.exit_code == 3
    for word in words:
        assert word in str(caught.value)


class Wide(TinyGenerator):
    def forward(self, z, y):
        return super().forward(z, y) * 40


class Broken(TinyGenerator):
    def forward(self, z, y):
        return super().forward(z, y) / 0


class Flat(TinyGenerator):
    def forward(self, z, y):
        return super().forward(z, y).flatten(1)


@pytest.mark.parametrize(
    ("kind", "word"),
    [(Broken, "NaN or infinity.*no weight is"), (Flat, r"\(2, 64\)")],
)
def test_images_that_are_none(kind: type[nn.Module], word: str) -> None:
    generator = kind()
    with pytest.raises(DataError, match=word):
        check_fit(generator, InputSampler.of(generator))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(which: int, value: float) -> None:
    pair = networks()
    name, weight = next(iter(pair[which].named_parameters()))
    weight.data[0] = value
    with pytest.raises(DataError, match=f"{['generator', 'discriminator'][which]}'s.*{name}"):
        check_fit(pair[0], InputSampler.of(pair[0]), discriminator=pair[1], dataset=images())


def test_the_range_matters_only_beside_real_images() -> None:
    generator = Wide()
    check_fit(generator, InputSampler.of(generator))
    with pytest.raises(DataError, match=r"expected \[-1, 1\]"):
        check_fit(generator, InputSampler.of(generator), dataset=images())


def test_inputs_that_do_not_fit_name_shapes_and_the_line() -> None:
    generator, _ = networks()
    sampler = InputSampler.parse(["z=normal(5)", "y=labels(3)"])
    with pytest.raises(DataError, match=r"\(2, 5\) float32, \(2,\) int64.*nets\.py:\d+"):
        check_fit(generator, sampler)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(9, 1)

    def forward(self, images):
        return self.out(images.flatten(1))


def test_a_discriminator_that_does_not_fit() -> None:
    generator, _ = networks()
    with pytest.raises(DataError, match="discriminator's forward fails on generated images"):
        check_fit(generator, InputSampler.of(generator), discriminator=Small())


def test_labels_go_where_they_are_wanted() -> None:
    labels = torch.tensor([0, 1])
    assert takes_labels(call_of(TinyDiscriminator(), images().batch(labels)[0], labels))
    small = Small()
    assert not takes_labels(call_of(small, torch.zeros(2, 1, 3, 3), labels))


@pytest.mark.parametrize(
    ("specs", "made", "refused"),
    [
        (["x=uniform(3,16,16)"], (3, 16, 16), "x"),
        (["x=normal(1,16,24)"], (3, 16, 24), "x"),  # edges to photographs
        (["low=normal(3,16,16)"], (3, 64, 64), "low"),  # super-resolution
        (["x=uniform(20,32,32)", "y=labels(3)"], (3, 32, 32), "x"),  # label maps
        (["z=normal(100,1,1)"], (3, 64, 64), None),
        (["z=normal(64,4,4)"], (3, 64, 64), None),
        (["z=normal(16)", "noise=normal(1,32,32)"], (3, 32, 32), None),  # a map beside a latent
        (["x=constant(0.0,3,16,16)"], (3, 16, 16), None),
        (["x=uniform(3,16,16)"], (16,), None),
    ],
)
def test_noise_is_not_fed_to_what_reads_pictures(
    specs: list[str], made: tuple[int, ...], refused: str | None
) -> None:
    sampler = InputSampler.parse(specs)
    if refused is None:
        refuse_noise_for_pictures(sampler, torch.zeros(2, *made))
        return
    with pytest.raises(ConfigError, match=rf"'{refused}' is noise.*{refused}=images\(FOLDER\)"):
        refuse_noise_for_pictures(sampler, torch.zeros(2, *made))


def test_a_class_that_draws_stand_ins_is_no_noise_beside_data() -> None:
    from gancompress.models.translation import ResnetGenerator

    net = ResnetGenerator(ngf=4, n_blocks=1, sample_size=8)
    sampler = InputSampler.of(net)
    data = ArrayDataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="ResnetGenerator reads images, .*draws noise"):
        check_fit(net, sampler, dataset=data)
    assert len(check_fit(net, sampler)) == 1  # without data there is nothing that it misses
