from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gancompress.distill import DistillBatch, Taps, build_distiller
from gancompress.distill.strategies.latent_direction import latent_directions
from gancompress.errors import ConfigError
from tests.distill.toys import LATENT, bench


class Linear(nn.Module):
    """Images that depend on the latent by known strengths."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(3, 8, bias=False)
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        with torch.no_grad():
            q = torch.linalg.qr(torch.randn(8, 3)).Q
            self.start.weight.copy_(q * torch.tensor([0.1, 5.0, 1.0]))
            self.conv.weight.copy_(torch.eye(2)[:, :, None, None])

    def forward(self, z: Tensor) -> Tensor:
        return self.conv(self.start(z).unflatten(1, (2, 2, 2))).sum(1, keepdim=True)


def test_directions_are_those_that_move_the_taps_most():
    found = latent_directions(Linear(), (torch.randn(256, 3),), 0, ["conv"], 3)
    assert torch.allclose(found @ found.T, torch.eye(3), atol=1e-5)
    assert found.abs().argmax(1).tolist() == [1, 2, 0]


def test_shift_moves_along_one_direction_by_the_next_samples_coordinate():
    distiller = bench(same=True).build("latent_direction", count=2, strength=3.0)
    z = torch.randn(5, LATENT)
    moved = distiller.shifted(z) - z
    for i in range(5):
        direction = distiller.directions[i % 2]
        expected = 3.0 * (z[(i + 1) % 5] @ direction) * direction
        torch.testing.assert_close(moved[i], expected)


def test_same_batch_same_loss():
    networks = bench(same=False)
    distiller = networks.build("latent_direction")
    batch = networks.batch(distiller)
    assert float(distiller(batch).detach()) == float(distiller(batch).detach())


def test_only_the_first_samples_are_run_again():
    networks = bench(same=False)
    distiller = networks.build("latent_direction", samples=3)
    sizes: list[int] = []
    networks.student.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[0]))
    distiller(networks.batch(distiller, n=6))
    assert sizes == [6, 3]


def test_taps_of_other_distillers_keep_the_activations_of_the_step():
    networks = bench(same=False)
    distiller = networks.build("latent_direction")
    batch = networks.batch(distiller)
    z, y = batch.inputs
    with (
        Taps(networks.student, ["blocks.0"]) as ours,
        Taps(networks.teacher, ["blocks.0"]) as theirs,
    ):
        networks.student(z, y)
        networks.teacher(z, y)
        distiller(batch)
        for taps, net in ((ours, networks.student), (theirs, networks.teacher)):
            found = taps.take()["blocks.0"]
            net(z, y)
            assert torch.equal(found, taps.take()["blocks.0"])


def test_dead_channels_do_not_count_in_the_second_pass():
    networks = bench(same=False)
    distiller = networks.build("latent_direction", pairs=["blocks.1"])
    student = networks.student
    # A reader that ignores channel 2, as after its death, and the network without that channel.
    with torch.no_grad():
        student.blocks[2].conv.weight[:, 2] = 0
    batch = networks.batch(distiller)
    gate = torch.tensor([1.0, 1, 0, 1]).view(1, 4, 1, 1)
    held = {k: v * gate for k, v in batch.student.items()}
    before = distiller(DistillBatch(*_heads(batch), student=held, teacher=batch.teacher))
    cut = copy.deepcopy(student)
    _remove_channel(cut, 2)
    networks.student = cut
    smaller = networks.build("latent_direction", pairs=["blocks.1"])
    after = smaller(networks.batch(smaller))
    assert float(after.detach()) == pytest.approx(float(before.detach()), rel=1e-5)


def test_image_to_image_network_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.ConvTranspose2d(2, 1, 4, 2, 1))
    with pytest.raises(ConfigError, match="floating latent .* choose 'relational'"):
        build_distiller(
            "latent_direction",
            teacher=net,
            student=net,
            discriminator=None,
            example=(torch.randn(2, 1, 8, 8),),
        )


def _heads(batch: DistillBatch) -> tuple[object, ...]:
    return batch.inputs, batch.labels, batch.student_images, batch.teacher_images


def _remove_channel(net: nn.Module, c: int) -> None:
    keep = torch.tensor([i for i in range(4) if i != c])
    conv, norm, reader = net.blocks[1].conv, net.blocks[2].norm, net.blocks[2].conv
    conv.weight = nn.Parameter(conv.weight[keep])
    conv.bias = nn.Parameter(conv.bias[keep])
    norm.norm.running_mean = norm.norm.running_mean[keep]
    norm.norm.running_var = norm.norm.running_var[keep]
    norm.norm.num_features = 3
    norm.embed.weight = nn.Parameter(norm.embed.weight[:, torch.cat([keep, keep + 4])])
    reader.weight = nn.Parameter(reader.weight[:, keep])
