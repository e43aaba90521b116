"""Sensitivity and learned score, each where the other is silent."""

from __future__ import annotations

import torch
from torch import nn

import gancompress as gc
from gancompress.masks import IMPORTANCES


def test_both_speak() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    masked = gc.wrap(net, torch.randn(2, 3))
    ((name, mask),) = masked.masks.items()
    group, order = masked.graph[name], IMPORTANCES.bind("learned_fisher")
    with torch.no_grad():
        mask.sensitivity.fill_(0.1)
        mask.scores.copy_(torch.tensor([0.3, 1.2, -0.5, 0.9]))
    assert order(group, mask, {}, 0).argsort().tolist() == [2, 0, 3, 1]
    with torch.no_grad():
        mask.sensitivity.copy_(torch.tensor([0.4, 0.1, 0.3, 0.2]))
        mask.scores.fill_(1.0)
    assert order(group, mask, {}, 0).argsort().tolist() == [1, 3, 2, 0]
