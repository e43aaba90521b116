"""evaluating(): every part comes back in its own mode, and so does what a class keeps besides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.modules.undisturbed import evaluating


class Mixing(nn.Module):
    """Keeps more than the flag, ignores train(False) and returns nothing, as gan-lab's StyleGAN."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
        self.mixing = True

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)
        self.mixing = True

    def eval(self) -> None:  # type: ignore[override]
        super().train(False)
        self.mixing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.mark.parametrize("training", [True, False])
def test_what_a_class_keeps_besides_the_flag_comes_back(training: bool) -> None:
    net = Mixing()
    _ = net.train() if training else net.eval()
    gc.wrap(net, torch.randn(2, 3, 8, 8))
    assert net.training is training
    assert net.mixing is training


def test_parts_that_the_user_keeps_in_eval_mode_stay_there() -> None:
    net = Mixing()
    net.body[1].eval()
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == [True, True, True, False, True]


def test_modes_come_back_after_an_error() -> None:
    net = Mixing()
    with pytest.raises(RuntimeError, match="halt"), evaluating(net):
        raise RuntimeError("halt")
    assert net.training
    assert net.mixing
