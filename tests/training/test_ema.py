from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gancompress.training.ema import update_ema


def test_parameters_and_statistics_move_together() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    average = copy.deepcopy(net)
    with torch.no_grad():
        net[0].weight.add_(1.0)
        net[1].running_mean.add_(4.0)
        net[1].num_batches_tracked.add_(5)
    before = average[0].weight.clone()
    update_ema(average, net, decay=0.75)
    torch.testing.assert_close(average[0].weight, before + 0.25)
    torch.testing.assert_close(average[1].running_mean, torch.full((3,), 1.0))
    assert average[1].num_batches_tracked == 5


def test_decay_zero_copies_bit_for_bit() -> None:
    net = nn.Linear(7, 7)
    average = nn.Linear(7, 7)
    update_ema(average, net, decay=0.0)
    assert torch.equal(average.weight, net.weight)


def test_a_frozen_network_stays_where_it_is() -> None:
    net = nn.Linear(7, 7)
    average = copy.deepcopy(net)
    for _ in range(10):
        update_ema(average, net, decay=0.9)
    assert torch.equal(average.weight, net.weight)


def test_other_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="bias"):
        update_ema(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), decay=0.5)
