"""Recurrent layers between convolutions: their gates are kept, with the reason."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class Between(nn.Module):
    """conv -> conv -> recurrent layer -> conv -> conv; the recurrent layer pins its neighbours."""

    def __init__(self, c: int, layer: nn.Module):
        super().__init__()
        self.pre, self.enter = nn.Conv1d(3, c, 3, padding=1), nn.Conv1d(c, 6, 3, padding=1)
        self.rnn = layer
        self.mid, self.out = nn.Conv1d(8, c, 3, padding=1), nn.Conv1d(c, 1, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 7),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.enter(F.relu(self.pre(x)))).transpose(1, 2)
        h = self.rnn(h)[0].transpose(1, 2)
        return self.out(F.relu(self.mid(h)))


# The fused kernels hide the gates: the layer and what feeds it stay; pre and mid go.
@motif(
    "lstm", free={"pre": 16, "mid": 16}, kept={"enter": ("lstm", "LSTM", "rnn", "packs its gates")}
)
class LSTM(Between):
    """Two-layer LSTM over time."""

    def __init__(self, c: int = 16):
        super().__init__(c, nn.LSTM(6, 8, 2, batch_first=True))


@motif("gru", free={"pre": 16, "mid": 16}, kept={"enter": ("gru", "GRU", "rnn", "packs its gates")})
class GRU(Between):
    """Bidirectional GRU over time."""

    def __init__(self, c: int = 16):
        super().__init__(c, nn.GRU(6, 4, bidirectional=True, batch_first=True))


# A cell applied in a loop is plain operators: gates are three slices of one Linear, and the state
# feeds back into it. Hidden unit j owns rows j, h+j, 2h+j: all of them can go together.
@motif("gru_by_hand", free={"enter": 8, "x2g": 24, "h2g": 24})
class GRUByHand(nn.Module):
    """A GRU written with Linear and chunk, unrolled over the sequence."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.enter = nn.Conv1d(3, c, 3, padding=1)
        self.x2g, self.h2g = nn.Linear(c, 3 * c), nn.Linear(c, 3 * c)
        self.out = nn.Linear(c, 2)

    def example(self) -> Example:
        return (torch.randn(2, 3, 4),), {}

    def forward(self, x: Tensor) -> Tensor:
        steps = F.relu(self.enter(x)).permute(2, 0, 1)
        h = torch.zeros_like(steps[0])
        states = []
        for step in steps:
            r_x, u_x, n_x = self.x2g(step).chunk(3, -1)
            r_h, u_h, n_h = self.h2g(h).chunk(3, -1)
            update = torch.sigmoid(u_x + u_h)
            new = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
            h = (1 - update) * h + update * new
            states.append(self.out(h))
        return torch.stack(states, 1)
