"""Distillers beside real masks: a live cut must not be seen in any loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from gancompress.distill import DistillBatch, Distiller, Taps, build_distiller, find_taps
from gancompress.graph.plan import Plan
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator
from gancompress.wrapping import Masked, wrap
from tests.distill.toys import SETTINGS, Setting

TINY = BigGANConfig(
    resolution=32,
    n_classes=3,
    ch=4,
    dim_z=8,
    shared=True,
    shared_dim=5,
    hier=True,
    image_channels=1,
)
Latents = tuple[Tensor, Tensor]


def networks() -> tuple[BigGANGenerator, BigGANGenerator, BigGANDiscriminator, Latents]:
    torch.manual_seed(0)
    teacher, discriminator = BigGANGenerator(TINY).eval(), BigGANDiscriminator(TINY).eval()
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return (
        teacher,
        student,
        discriminator,
        teacher.sample_inputs(6, torch.Generator().manual_seed(1)),
    )


def batch(
    distiller: Distiller,
    teacher: BigGANGenerator,
    student: BigGANGenerator,
    inputs: Latents,
    kept: Mapping[str, Tensor],
) -> DistillBatch:
    with Taps(teacher, dict(distiller.pairs)) as taps, torch.no_grad():
        wanted = teacher(*inputs)
        theirs = taps.take()
    with Taps(student, [s for s, _ in distiller.pairs]) as taps:
        images = student(*inputs)
        ours = taps.take(kept)
    return DistillBatch(inputs, inputs[1], images, wanted, ours, theirs)


def living(masked: Masked, distiller: Distiller) -> dict[str, Tensor]:
    keep = {name: mask.alive.nonzero().flatten().tolist() for name, mask in masked.masks.items()}
    plan = Plan.of(masked.graph, keep)
    return {s: masked.graph.kept(plan, s) for s, _ in distiller.pairs}


def test_masks_do_not_disturb_the_search_for_taps():
    _, student, _, inputs = networks()
    expected = find_taps(student, inputs)
    wrap(student, example=inputs, target="params=2x")
    assert find_taps(student, inputs) == expected


@pytest.fixture(scope="module")
def around() -> dict[str, tuple[float, Tensor]]:
    """The loss of each distiller right before and right after one cut of one student."""
    teacher, student, discriminator, inputs = networks()
    masked = wrap(student, example=inputs, target="params=2x")
    distillers = {
        str(setting): build_distiller(
            setting.name,
            teacher=teacher,
            student=student,
            discriminator=discriminator,
            example=inputs,
            **setting.options,
        )
        for setting in SETTINGS
    }
    masked.advance(1.0)
    before, kept = {}, {}
    for name, distiller in distillers.items():
        state = copy.deepcopy(distiller.state_dict())
        kept[name] = living(masked, distiller)
        assert not kept[name] or any(len(indices) < 16 for indices in kept[name].values())
        seen = batch(distiller, teacher, student, inputs, kept[name])
        before[name] = float(distiller(seen).detach())
        distiller.load_state_dict(state)
    assert masked.shrink() is not None
    result = {}
    for name, distiller in distillers.items():
        distiller.shrink(kept[name])
        seen = batch(distiller, teacher, student, inputs, living(masked, distiller))
        result[name] = (before[name], distiller(seen))
    return result


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_loss_is_the_same_before_and_after_a_live_cut(
    setting: Setting, around: dict[str, tuple[float, Tensor]]
):
    before, after = around[str(setting)]
    assert before > 0
    assert float(after.detach()) == pytest.approx(before, rel=1e-4, abs=1e-7)
    assert after.requires_grad
