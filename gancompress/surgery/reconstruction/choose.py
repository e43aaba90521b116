"""How much of what its readers compute is lost with each channel, after the rest made up for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import DataError, GraphError
from gancompress.graph.groups import ChannelGraph
from gancompress.modules.copying import duplicate
from gancompress.modules.nested import map_tensors, tensors_of
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.pairs import Walks
from gancompress.surgery.reconstruction.patches import (
    Geometry,
    chosen_places,
    windows,
)
from gancompress.surgery.reconstruction.places import traced_contractions
from gancompress.surgery.reconstruction.walk import Contraction, NormInput

FEW = 8
"""Samples that are looked at to see how much noise reaches the output."""

POWER = 0.5
"""Of the sensitivities: later layers make good a part of what noise there would do."""

STEPS = 64
"""A group loses its channels in at most about so many steps; between them nothing is solved."""


@dataclass
class Reader:
    """One layer that reads a group: its moments, and the features of each channel.

    Attributes:
        inverse: of the moments of its inputs (p, p), damped.
        weight: (o, p), already made up for the channels that are gone.
        features: (channels, m), the columns of ``weight`` that each channel of the group feeds.
        scale: what an error is divided by: rows times the variance of the output.
    """

    inverse: Tensor
    weight: Tensor
    features: Tensor
    scale: float

    def losses(self, channels: Tensor) -> Tensor:
        """Return what is lost with each of ``channels`` alone, as a share of the output."""
        at = self.features[channels]
        blocks = self.inverse[at[:, :, None], at[:, None, :]]
        weights = self.weight[:, at].transpose(0, 1)  # (channels, o, m)
        solved = torch.linalg.solve(blocks, weights.transpose(1, 2))
        return (weights.transpose(1, 2) * solved).sum((1, 2)) / self.scale

    def remove(self, channels: Tensor) -> None:
        """Take channels away, and let all others make up for them (block form of OBS)."""
        at = self.features[channels].reshape(-1)
        solved = torch.linalg.solve(self.inverse[at][:, at], self.inverse[at])  # (m, p)
        self.weight = self.weight - self.weight[:, at] @ solved
        self.inverse = self.inverse - self.inverse[:, at] @ solved
        self.weight[:, at] = 0


@torch.no_grad()
def channel_losses(
    generator: nn.Module,
    graph: ChannelGraph,
    inputs: Iterable[Call],
    options: Options | None = None,
) -> dict[str, np.ndarray]:
    """Return, for each group, what its channels are worth: (c,), larger goes later (ours).

    Channels are taken away one after another, always the one whose loss the others make up for
    best, by least squares on these inputs (block form of Optimal Brain Surgeon; Frantar & Alistarh
    2022). A channel's worth is the error that its going adds, summed over all layers that read the
    group: as a share of the variance of the layer's output, times what noise of that share there
    does to the output of the network. Groups that only layers read which cannot be treated are
    left out.

    Args:
        generator: the network that was traced; it stays as it is.
        graph: of it.
        inputs: batches, as positional and keyword arguments of one call.
        options: see `Options`.

    Raises:
        DataError: there are no inputs.
    """
    options = options or Options()
    calls = list(inputs)
    if not calls:
        raise DataError("channel_losses needs inputs: the iterator gave none")
    readers = _readers(duplicate(generator).eval(), graph, calls, options)
    return {name: _worth(found) for name, found in readers.items()}


def _readers(
    generator: nn.Module, graph: ChannelGraph, calls: list[Call], options: Options
) -> dict[str, list[Reader]]:
    traced = traced_contractions(graph)
    felt = sensitivities(generator, first_rows(calls[0], FEW), seed=options.seed)
    rng = torch.Generator().manual_seed(options.seed)
    found: dict[str, list[Reader]] = {}
    with Walks(generator, calls, seed=options.seed) as walks:
        while (stops := walks.advance()) is not None:
            if isinstance(stops[0], NormInput):
                continue
            first = stops[0]
            if first.number >= len(traced):
                raise GraphError(
                    f"{type(generator).__name__} runs more operators than when it was traced"
                )
            geometry = Geometry.of(first)
            op = traced[first.number]
            x = next(d for d, t in zip(op.inputs, _tensors(first), strict=True) if t is first.x)
            dim = x[0 if geometry.kind == "columns" else 1]
            if len(dim) != 1 or dim[0].atoms is None or geometry.groups > 1:
                continue
            owners = graph.owners(dim[0].atoms)
            if not (owners >= 0).any() or geometry.features(first.w) > options.features:
                continue
            inverse, weight, scale = _system(stops, geometry, options, rng)
            scale /= max(felt.get(first.number, 0.0), 1e-12) ** POWER
            for index in np.unique(owners[owners >= 0]):
                group = graph.groups[int(index)]
                columns = _features(graph, group.atoms, dim[0].atoms, weight.shape[1])
                if columns is not None:
                    row = found.setdefault(group.name, [])
                    row.append(Reader(inverse.clone(), weight.clone(), columns, scale))
    return found


def sensitivities(
    generator: nn.Module, call: Call, *, seed: int, noise: float = 0.1
) -> dict[int, float]:
    """Return, by number of the contraction, how much noise in its output reaches the output (ours).

    Each in turn gets white noise of ``noise`` times the spread of what it puts out; the answer is
    the mean square of the change of the network's output over its variance, over that of the noise.
    """
    found: dict[int, float] = {}

    def outcome(number: int) -> list[Tensor]:
        rng = torch.Generator().manual_seed(seed)

        def shake(stop: Contraction | NormInput) -> None:
            if isinstance(stop, NormInput) or stop.out is None:
                return
            found.setdefault(stop.number, 0.0)
            if stop.number == number:
                spread = stop.out.std() if stop.out.numel() > 1 else stop.out.abs().mean()
                drawn = torch.randn(stop.out.shape, generator=rng).to(stop.out)
                stop.out.add_(noise * spread * drawn)

        with Walks(generator, [call], seed=seed) as walks:
            return [t for t in tensors_of(walks.rehearse(shake)) if t.is_floating_point()]

    still = outcome(-1)
    for number in sorted(found):
        moved = outcome(number)
        found[number] = (
            sum(
                float((a - b).square().mean() / b.var().clamp_min(1e-30))
                for a, b in zip(moved, still, strict=True)
            )
            / noise**2
        )
    return found


def first_rows(call: Call, n: int) -> Call:
    """Return the first ``n`` samples of a batch: of all its tensors that have one row a sample."""
    args, kwargs = call[0], dict(call[1])
    batch = next((len(t) for t in tensors_of((args, kwargs)) if t.dim() > 0), 0)

    def few(t: Tensor) -> Tensor:
        return t[:n] if t.dim() > 0 and len(t) == batch else t

    return map_tensors((args, kwargs), few)


def _tensors(stop: Contraction) -> list[Tensor]:
    return [a for a in stop.args if isinstance(a, Tensor)]


def _features(
    graph: ChannelGraph, channels: np.ndarray, inputs: np.ndarray, p: int
) -> Tensor | None:
    """Return the columns (channels, m) that each channel of a group feeds."""
    label = graph.solution.label
    order = {int(c): i for i, c in enumerate(label[channels])}
    rows: list[list[int]] = [[] for _ in channels]
    taps = p // len(inputs)
    for i, c in enumerate(label[inputs]):
        if int(c) in order:
            rows[order[int(c)]] += range(i * taps, (i + 1) * taps)
    if len({len(r) for r in rows}) != 1:
        return None
    return torch.tensor(rows)


def _system(
    stops: list[Contraction], geometry: Geometry, options: Options, rng: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    weight = geometry.matrix(stops[0].w)[0].double()
    p = weight.shape[1]
    xx, x, n = weight.new_zeros(p, p), weight.new_zeros(p), 0
    most = max(options.rows, 4 * p)
    for stop in stops:
        assert stop.out is not None
        places = chosen_places(geometry.positions(stop.out), -(-most // len(stops)), rng)
        rows = windows(geometry, stop.x, places)[:, 0]
        xx += rows.t() @ rows
        x += rows.sum(0)
        n += len(rows)
    if stops[0].bias is not None:
        xx -= torch.outer(x, x) / n
    spread = float((weight @ xx * weight).sum().clamp_min(1e-300))
    xx += options.ridge * xx.diagonal().mean().clamp_min(1e-300) * torch.eye(p).to(xx)
    return torch.linalg.inv(xx), weight, spread


def _worth(readers: list[Reader]) -> np.ndarray:
    """Take the channels of a group away one after another; see `channel_losses`."""
    size = len(readers[0].features)
    alive = torch.arange(size)
    worth, highest = np.zeros(size), 0.0
    block = max(1, size // STEPS)
    while len(alive) > 1:
        losses = torch.stack([r.losses(alive) for r in readers]).sum(0).clamp_min(0)
        order = losses.argsort(stable=True)[: min(block, len(alive) - 1)]
        for i in order.tolist():
            # Never below what went before: the order must be that of the values.
            highest = max(highest * (1 + 1e-9), float(losses[i]))
            worth[int(alive[i])] = highest
        for reader in readers:
            reader.remove(alive[order])
        alive = alive[torch.isin(torch.arange(len(alive)), order, invert=True)]
    worth[int(alive[0])] = highest * 2 + 1e-12
    return worth
