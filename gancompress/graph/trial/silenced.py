"""What a cut is compared with: the whole generator, dropped channels zeroed where they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gancompress.graph.groups import ChannelGraph
from gancompress.graph.tracer import scalars_of, steady_name, unsteady
from gancompress.modules.copying import copy_with, named_tensors
from gancompress.modules.dispatch import Watch
from gancompress.modules.nested import tensors_of


def silenced(
    generator: nn.Module, graph: ChannelGraph, keep: Mapping[str, Sequence[int]]
) -> nn.Module:
    """Return a copy in which every channel that ``keep`` leaves out is zeroed where it is read."""
    zeros: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for group in graph.groups:
        kept = keep.get(group.name)
        if kept is None:
            continue
        dead = np.setdiff1d(np.arange(group.size), kept)
        for slot in (*group.readers, *group.silencers):
            index = torch.from_numpy(group.slots[slot][dead].reshape(-1))
            zeros.setdefault(slot[0], []).append((slot[1], index))
    names = {id(t): n for n, t in named_tensors(generator)}

    def replace(t: torch.Tensor) -> torch.Tensor:
        new = t.detach()
        if zeros.get(names.get(id(t), "")):
            new = new.clone()
            for dim, index in zeros[names[id(t)]]:
                new.index_fill_(dim, index.to(new.device), 0)
        elif not isinstance(t, nn.Parameter):
            new = new.clone()
        return nn.Parameter(new, requires_grad=False) if isinstance(t, nn.Parameter) else new

    return copy_with(generator, replace)


@dataclass(frozen=True)
class Step:
    """What one operator put out, and the numbers that it computed with."""

    name: str
    shapes: list[tuple[int, ...]]
    scalars: tuple[float, ...]


class StepsMode(Watch):
    """Notes the steps of a run, one for each operator that a trace records."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        """Note one operator."""
        name = func._schema.name.split("::")[-1]
        if not unsteady(name, args):
            shapes = [tuple(t.shape) for t in tensors_of(out)]
            self.steps.append(Step(steady_name(name), shapes, scalars_of(func, args, kwargs)))
