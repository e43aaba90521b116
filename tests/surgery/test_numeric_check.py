"""What numbers show before anything is cut: chance that no seed reaches, and later calls."""

from __future__ import annotations

import itertools
import os
import warnings

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.surgery.numeric_check import vetted_trace


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def test_chance_that_no_seed_reaches_is_named_as_the_cause() -> None:
    class Dice(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + int.from_bytes(os.urandom(4), "little") / 2**32

    net = Dice().eval()
    with pytest.raises(GraphError, match="two calls of Dice with equal inputs and seeds differ"):
        vetted_trace(net, gc.trace(net, X, trial=False))
    reasons = {row.reason for row in gc.inspect(net, X).rows if row.layer == "a"}
    assert any("two equal calls differ at add" in reason for reason in reasons), reasons
    with pytest.raises(GraphError, match=r"no channel of Dice can go.*Two equal calls differ"):
        gc.wrap(net, X)


def test_an_iterator_among_the_attributes_is_named_as_the_cause() -> None:
    class Turning(Net):
        def __init__(self) -> None:
            super().__init__()
            self.signs = itertools.cycle((0.5, -0.5, 0.25))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + next(self.signs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python copies iterators no longer, from 3.14 on
        with pytest.raises(GraphError, match="(?i)two (equal )?calls|cannot be copied"):
            gc.wrap(Turning().eval(), X)


def test_channels_that_only_a_later_call_would_miss_stay() -> None:
    class Late(Net):
        """From the second call on it computes with a number taken from its width."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("size", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x) * (1 + self.size)
            self.size.fill_(float(self.a.weight.detach().numpy().shape[0]))
            return out

    net = Late().eval()
    graph = gc.trace(net, X, trial=False)
    assert graph.widths == {"a": 8}
    assert vetted_trace(net, graph).widths == {}
