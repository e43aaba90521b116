"""Exponential moving average of a generator, buffers included."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def update_ema(average: nn.Module, module: nn.Module, *, decay: float) -> None:
    """Move ``average`` towards ``module`` by ``1 - decay``, parameters and float buffers alike.

    Norm statistics are averaged too, else the averaged weights would be read with the statistics
    of another network; integer buffers are copied. ``decay`` 0 copies everything (ours; the same
    rule as BigGAN's).

    Raises:
        ValueError: the two networks do not hold the same tensors.
    """
    Averager(average, module).update(decay)


class Averager:
    """`update_ema` for many steps: where the tensors are kept is looked up once (ours).

    Walking both networks takes longer than the average. A buffer that a forward binds anew is found
    where it is kept; after a cut, or whatever else replaces modules, make another one.

    Raises:
        ValueError: the two networks do not hold the same tensors.
    """

    def __init__(self, average: nn.Module, module: nn.Module) -> None:
        targets, sources = _places(average), _places(module)
        if targets.keys() != sources.keys():
            odd = sorted(targets.keys() ^ sources.keys())[:3]
            raise ValueError(f"the average and the network differ in {odd}")
        self._pairs = [(targets[name], sources[name]) for name in sources]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the average towards the network by ``1 - decay``."""
        pairs = [(into[key], from_[name]) for (into, key), (from_, name) in self._pairs]
        floating = [pair for pair in pairs if pair[1].is_floating_point()]
        into, from_ = [a for a, _ in floating], [b for _, b in floating]
        if decay == 0.0:
            torch._foreach_copy_(into, from_)
        else:
            torch._foreach_lerp_(into, from_, 1.0 - decay)
        for target, source in pairs:
            if not source.is_floating_point():
                target.copy_(source)


def _places(module: nn.Module) -> dict[str, tuple[dict[str, Tensor], str]]:
    """Return, by the name of each tensor, the table that holds it and its key there."""
    parts = dict(module.named_modules(remove_duplicate=False))
    found: dict[str, tuple[dict[str, Tensor], str]] = {}
    for names, table in (
        ((n for n, _ in module.named_parameters()), "_parameters"),
        ((n for n, _ in module.named_buffers()), "_buffers"),
    ):
        for name in names:
            path, _, key = name.rpartition(".")
            found[name] = (getattr(parts[path], table), key)
    return found
