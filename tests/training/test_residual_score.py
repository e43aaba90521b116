"""Masks that begin from what least squares cannot make up for, in one order over all groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.masks.budget import Budget
from gancompress.recipes.load import load_recipe
from gancompress.target import Target
from gancompress.tasks.protocol import Batch, Draw
from gancompress.training.allocation import allocate, order_of_going
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.score import Look
from gancompress.training.scores.residual import residual
from tests.training.nets import images, networks

WORTH = {"0": np.arange(8.0) + 1, "1": np.arange(8.0)[::-1] * 1e-3}


def three_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2))


def test_the_order_is_one_over_all_groups_and_rises_with_worth() -> None:
    graph = gc.trace(three_layers(), torch.randn(2, 3))
    place = order_of_going(graph, WORTH, None)
    assert sorted(np.concatenate(list(place.values()))) == list(range(16))
    for name, worth in WORTH.items():
        assert (np.diff(place[name][np.argsort(worth)]) > 0).all()
    # All of the cheap group goes before the dear one gives anything, but for its last channel.
    assert np.sort(place["1"])[:7].max() < place["0"].min()


def test_what_saves_more_goes_first_where_worth_is_alike() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 50))
    graph = gc.trace(net, torch.randn(2, 3))
    place = order_of_going(graph, {"0": np.ones(4), "1": np.ones(4)}, None)
    assert place["1"].min() == 0


@pytest.mark.parametrize("unit", [1, 2])
def test_what_is_allocated_is_what_goes_last(unit: int) -> None:
    graph = gc.trace(three_layers(), torch.randn(2, 3))
    budget = Budget(Target.parse("params=1.5x"), graph.cost(), round_to=unit)
    place = order_of_going(graph, WORTH, budget)
    for name, kept in allocate(graph, WORTH, budget).items():
        gone = sorted(set(range(8)) - set(kept))
        assert not gone or place[name][gone].max() < place[name][kept].min()


def test_masks_begin_from_it_and_the_cut_follows() -> None:
    generator, discriminator = networks()
    words = [
        "score={name: residual, samples: 16}", "least_squares=always",
        "importance={name: scores, ranks: false}",
        "allocation.name=global", "schedule={name: oneshot, start: 0.0, end: 0.1}",
        "shrink={events: [0.1]}", "mask_lr=0.0", "penalty={name: none, weight: 0.0}", "batch=4",
        "steps=3", "finetune_steps=1", "sample_every=0", "checkpoint_every=0", "precision=float32",
        "target=params=1.5x", "augment=[]", "channels_last=false",
        "distill=[{name: pixel, weight: 1.0}]",
    ]  # fmt: skip
    made = load_recipe("ppcd", words)
    result = train(
        made, generator=generator, discriminator=discriminator, dataset=images(), out=None,
        screen=Silent(),
    )  # fmt: skip
    assert result.verified is not None
    share = count(result.generator) / count(networks()[0])
    assert 0.55 <= share <= 1 / 1.5


def test_groups_that_nothing_can_weigh_give_the_same_share() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 3, 1),
    )  # fmt: skip
    masked = gc.wrap(net, torch.randn(2, 2, 4, 4))
    task: Any = Pictures()
    found = residual(Look(masked, task, 0, torch.device("cpu")), samples=16)
    assert set(found) == set(masked.masks)
    every = np.concatenate(list(found.values()))
    half = np.median(every)
    # The first group is read by a grouped convolution alone: it neither stays whole nor goes first.
    first = found["0"]
    assert 0.25 <= (first < half).mean() <= 0.75
    order = masked.masks["0"].scores.detach().numpy().argsort(kind="stable")
    assert (np.diff(first[order]) > 0).all()


class Pictures:
    """Only what a score asks of a task: batches of noise."""

    def batch(self, draw: Draw) -> Batch:
        return Batch((torch.randn(draw.n, 2, 4, 4, generator=draw.rng),))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_several_targets_hold_with_an_allocation() -> None:
    generator, _ = networks()
    example = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    targets = ["params=1.5x", "macs=2x"]
    masked = gc.wrap(generator, example, target=targets, allocation="global")
    masked.advance(1.0)
    before, after = masked.original, masked.cost()
    assert after.params <= before.params / 1.5
    assert after.macs <= before.macs / 2
