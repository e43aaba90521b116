from __future__ import annotations

import pytest
import torch
from torch import nn

from gancompress.errors import CheckpointError
from gancompress.training.optimizer_state import (
    check_held_once,
    load_optimizer_state,
    optimizer_state,
)


def stepped(net: nn.Module, order: list[nn.Parameter]) -> torch.optim.Adam:
    optimizer = torch.optim.Adam(order)
    net(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    return optimizer


def test_state_returns_by_name_whatever_the_order() -> None:
    net = nn.Linear(3, 2)
    first = stepped(net, list(net.parameters()))
    saved = optimizer_state(first, net.named_parameters())
    other = torch.optim.Adam(list(net.parameters())[::-1])
    load_optimizer_state(other, net.named_parameters(), saved)
    for parameter in net.parameters():
        for key, value in first.state[parameter].items():
            assert torch.equal(value, other.state[parameter][key])


def test_state_of_other_networks_is_refused() -> None:
    net = nn.Linear(3, 2)
    saved = optimizer_state(stepped(net, list(net.parameters())), net.named_parameters())
    wide = nn.Linear(3, 5)
    with pytest.raises(CheckpointError, match="weight"):
        load_optimizer_state(torch.optim.Adam(wide.parameters()), wide.named_parameters(), saved)
    conv = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match="unknown 'weight'"):
        load_optimizer_state(torch.optim.Adam(conv.parameters()), conv.named_parameters(), saved)


def test_a_parameter_lost_or_held_twice_is_noticed() -> None:
    net = nn.Linear(3, 2)
    check_held_once([torch.optim.Adam(net.parameters())], net.parameters())
    with pytest.raises(RuntimeError, match="lost track"):
        check_held_once([torch.optim.Adam([net.weight])], net.parameters())
    twice = [torch.optim.Adam(net.parameters()), torch.optim.Adam([net.bias])]
    with pytest.raises(RuntimeError, match="lost track"):
        check_held_once(twice, net.parameters())


def test_a_loaded_state_is_a_copy_and_nothing_else_stays() -> None:
    net, turned = nn.Linear(3, 2), nn.Linear(2, 3)
    own = stepped(net, list(net.parameters()))
    saved = optimizer_state(own, net.named_parameters())
    only = {label: t.clone() for label, t in saved.items() if label.startswith("bias")}
    load_optimizer_state(own, net.named_parameters(), only)
    assert list(own.state) == [net.bias], "what was not saved is not there"
    before = only["bias:step"].clone()
    net.bias.grad = torch.ones_like(net.bias)
    own.step()
    assert torch.equal(only["bias:step"], before), "the step count too"
    weights = {label: t for label, t in saved.items() if label.startswith("weight")}
    with pytest.raises(CheckpointError, match=r"is \(2, 3\); the parameter is \(3, 2\)"):
        load_optimizer_state(
            torch.optim.Adam(turned.parameters()), turned.named_parameters(), weights
        )
