"""Sizes in Python: attributes, asserts, literals, scales computed from shapes, order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class Pictures(nn.Module):
    """Base with an image example."""

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}


# The assertion holds a literal: a's 12 channels stay, b's go.
@motif("assert_literal", free={"b": 12}, kept={"a": ("assert",)})
class AssertLiteral(Pictures):
    """A shape asserted against a literal."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        assert h.shape[1] == 8, "eight features expected"
        return self.out(F.relu(self.b(h)))


# The attribute sits two modules up, in a list, a dict and a tuple: all to be repaired.
@motif("assert_attribute", free={"a": 12, "b": 12})
class AssertAttribute(Pictures):
    """Shapes asserted against attributes of the owner."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.width, self.shape = c, (c, 5, 5)
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        if h.shape[1] != self.width or tuple(h.shape[1:]) != self.shape:
            raise ValueError(f"expected {self.shape}, got {tuple(h.shape[1:])}")
        return self.out(F.relu(self.b(h)))


# Equalised learning rate with the scale computed from the weight's shape on every call: a cut of
# what such a layer reads changes the scale. It runs, and it is wrong: only verification sees it.
@motif("dynamic_scale", free={"b": 12}, graph_free={"a": 8})
class DynamicScale(Pictures):
    """A scale computed from a shape at run time."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        weight = self.b.weight * (9 * self.b.weight.shape[1]) ** -0.5
        h = F.conv2d(h, weight, self.b.bias, padding=1)
        return self.out(F.relu(h))


# Rolling the channels by one brings the last to the front: the order is kept only if the last
# channel stays. The other eleven are free.
@motif("roll_channels", free={"a.weight:0": 11, "b": 12})
class RollChannels(Pictures):
    """roll over the channels by a literal shift."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.roll(F.relu(self.a(x)), 1, dims=1)
        return self.out(F.relu(self.b(h)))


# flip keeps the relative order reversed, whatever is missing: all are free.
@motif("flip_channels", free={"a": 12, "b": 12})
class FlipChannels(Pictures):
    """flip over the channels, added to the features: i and 11-i go together."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.out(F.relu(self.b(F.relu(h.flip(1) - 0.5 * h))))


# A sliding window over the channels (1-d convolution across them, ECA) mixes neighbours.
@motif("channel_window", free={"b": 12}, kept={"a": ("convolution", "conv")})
class ChannelWindow(Pictures):
    """Efficient channel attention: a 1-d convolution that runs along the channels."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        gate = self.eca(h.mean((2, 3)).unsqueeze(1)).squeeze(1)
        return self.out(F.relu(self.b(h * torch.sigmoid(gate)[..., None, None])))


# Summing features over the channels reads them without a parameter: a dead channel is silent
# only if everything that writes it is silent. The writer here is a bare convolution, so it can be.
@motif("sum_over_channels", free={"a": 12, "b": 12})
class SumOverChannels(Pictures):
    """Features summed over channels after a ReLU: no reader has a weight."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(1, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x)).sum(1, keepdim=True)
        return self.out(F.relu(self.b(h)))


# The input is added to the features: its channels pin conv's, everything else is free.
@motif("input_residual", free={"head": 12, "body": 12}, kept={"tail": ("input", "output")})
class InputResidual(Pictures):
    """The network predicts a residual of its input; a depthwise layer runs on the input."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.pre = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.head, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.tail = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(self.pre(x))
        return x + self.tail(h + self.body(F.relu(h)))


# Nothing can go: one convolution from input to output. A refusal has to say so.
@motif("nothing_to_cut", free={}, kept={"out": ("output", "input")}, seeds=(0,))
class NothingToCut(Pictures):
    """A single convolution between input and output."""

    def __init__(self, c: int = 3):
        super().__init__()
        self.out = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(x))


# Sorting over channels destroys identity: nothing can be said, so nothing goes through it.
@motif("sort_channels", free={"b": 12}, kept={"a": ("sort",)})
class SortChannels(Pictures):
    """Values sorted over the channels."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.b(self.a(x).sort(dim=1).values)))
