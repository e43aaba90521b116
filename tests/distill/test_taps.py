from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill import Taps
from gancompress.errors import ConfigError


class Odd(nn.Module):
    """Outputs of every form; ``shared`` runs twice, ``idle`` never."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(1, 3, 1)
        self.several = Several()
        self.shared = nn.Conv2d(3, 3, 1)
        self.idle = nn.Conv2d(3, 3, 1)
        self.inplace = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        a = self.plain(x)
        first, second = self.several(a)
        b = self.shared(self.shared(first))
        return self.inplace(b + second["deep"][0])


class Several(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return 2 * x, {"deep": [3 * x], "note": "no tensor"}


@pytest.fixture
def odd() -> Odd:
    return Odd()


def test_records_what_the_module_returned(odd: Odd):
    x = torch.randn(2, 1, 4, 4)
    with Taps(odd, ["plain"]) as taps:
        odd(x)
        found = taps.take()
    assert torch.equal(found["plain"], odd.plain(x))
    assert found["plain"].requires_grad


def test_keys_may_differ_from_paths(odd: Odd):
    with Taps(odd, {"student name": "plain"}) as taps:
        odd(torch.zeros(1, 1, 4, 4))
        assert list(taps.take()) == ["student name"]


def test_several_modules_and_an_index_into_a_nested_output(odd: Odd):
    with Taps(odd, ["plain", "several[0]", "several[1]"]) as taps:
        odd(torch.randn(1, 1, 2, 2))
        found = taps.take()
    assert torch.equal(found["several[0]"], 2 * found["plain"])
    assert torch.equal(found["several[1]"], 3 * found["plain"])


def test_output_of_several_tensors_needs_an_index(odd: Odd):
    with Taps(odd, ["several"]), pytest.raises(ConfigError, match=r"2 tensors .*'several\[0\]'"):
        odd(torch.randn(1, 1, 2, 2))
    with Taps(odd, ["several[2]"]), pytest.raises(ConfigError, match="returns 2 tensors"):
        odd(torch.randn(1, 1, 2, 2))


def test_wrong_name_is_answered_with_the_nearest(odd: Odd):
    with pytest.raises(ConfigError, match="no tap 'plane' in Odd. Did you mean 'plain'"):
        Taps(odd, ["plane"])
    assert not odd._forward_pre_hooks


def test_module_that_runs_twice_is_an_error(odd: Odd):
    with Taps(odd, ["shared"]) as taps:
        odd(torch.randn(1, 1, 2, 2))
        with pytest.raises(ConfigError, match="'shared' ran 2 times"):
            taps.take()


def test_module_that_does_not_run_is_an_error(odd: Odd):
    with Taps(odd, ["idle"]) as taps:
        odd(torch.randn(1, 1, 2, 2))
        with pytest.raises(ConfigError, match="'idle' did not run"):
            taps.take()


def test_taking_twice_is_an_error(odd: Odd):
    with Taps(odd, ["plain"]) as taps:
        odd(torch.randn(1, 1, 2, 2))
        taps.take()
        with pytest.raises(ConfigError, match="did not run"):
            taps.take()


def test_each_forward_forgets_the_one_before(odd: Odd):
    one, two = torch.randn(2, 1, 1, 2, 2)
    with Taps(odd, ["plain"]) as taps:
        odd(one)
        odd(two)
        assert torch.equal(taps.take()["plain"], odd.plain(two))


def test_nothing_is_kept_alive(odd: Odd):
    with Taps(odd, ["plain"]) as taps:
        odd(torch.randn(1, 1, 2, 2))
        found = taps.take()
        ghost = weakref.ref(found["plain"])
        del found
        assert ghost() is None
        odd(torch.randn(1, 1, 2, 2))
        held = weakref.ref(taps._taps["plain"].calls[0])
    assert held() is None


def test_removal_is_complete_and_harmless_twice(odd: Odd):
    taps = Taps(odd, ["plain", "several[0]"])
    assert odd.plain._forward_hooks
    taps.remove()
    taps.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in odd.modules())


def test_copy_records_nothing_and_disturbs_nothing(odd: Odd):
    x = torch.randn(1, 1, 2, 2)
    with Taps(odd, ["plain"]) as taps:
        odd(x)  # a copy is often made while activations with a graph are held
        twin = copy.deepcopy(odd)
        twin(torch.zeros_like(x))
        twin(torch.zeros_like(x))
        assert torch.equal(taps.take()["plain"], odd.plain(x))
    hooks = [hook for m in twin.modules() for hook in m._forward_hooks.values()]
    assert all(hook.__self__.calls == [] for hook in hooks)


def test_channels_that_are_not_kept_come_out_as_zero(odd: Odd):
    x = torch.randn(2, 1, 2, 2)
    with Taps(odd, ["plain", "several[0]"]) as taps:
        odd(x)
        found = taps.take({"plain": torch.tensor([0, 2]), "elsewhere": torch.tensor([0])})
    assert found["plain"][:, 1].count_nonzero() == 0
    assert torch.equal(found["plain"][:, [0, 2]], odd.plain(x)[:, [0, 2]])
    assert found["several[0]"].count_nonzero() > 0
    found["plain"].sum().backward()
    assert odd.plain.weight.grad[1].count_nonzero() == 0
    assert odd.plain.weight.grad[0].count_nonzero() > 0


def test_in_place_operator_behind_a_tap_shows_in_value_and_gradient():
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(inplace=True))
    x = torch.randn(2, 1, 4, 4)
    with Taps(net, ["0"]) as taps:
        net(x)
        found = taps.take()["0"]
    expected = F.relu(net[0](x))
    assert torch.equal(found, expected)
    (grad,) = torch.autograd.grad(found.square().sum(), net[0].weight)
    (other,) = torch.autograd.grad(expected.square().sum(), net[0].weight)
    assert torch.equal(grad, other)
