"""What the parts of a batch, and the ranks, have to average: gradients, losses and buffers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from gancompress.errors import RanksError
from gancompress.modules.ranks import largest, mean_, take_first_, world

DRIFT = 1e-3
"""How far a rank may be off rank 0, relative to a tensor's largest number: more is a fault."""


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Average the gradients of ``parameters`` over the ranks, in place, and return the mean loss.

    A parameter without a gradient on one rank counts as zero there; one that has none anywhere
    keeps none. A number that is not finite on one rank is so on all afterwards. Alone nothing
    happens (ours; see docs/decisions/0014).
    """
    if world() == 1:
        return loss
    learning = [p for p in parameters if p.requires_grad]
    lacking = [p.grad is None for p in learning]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    mean = loss.detach().clone()
    held = loss.new_ones(len(learning), dtype=torch.float32)
    if any(lacking):
        held[torch.tensor(lacking, device=held.device)] = 0.0
    mean_([mean, held, *gradients], "gradients")
    if any(lacking):
        for p, gradient, some in zip(learning, gradients, held.tolist(), strict=True):
            p.grad = gradient if some else None
    return mean


class PartBuffers:
    """Buffers of some networks while a batch goes through them in parts (ours).

    Each part starts from the same buffers, and their mean stays: as after the whole batch at once
    for means of activations and for the vectors of spectral norm, which depend on weights alone.
    Masks are left out: no forward writes to them. A batch in one part needs none of this.
    """

    def __init__(self, *modules: nn.Module, parts: int) -> None:
        self._modules = modules if parts > 1 else ()
        self._start = [
            (store, key, tensor, tensor.detach().clone())
            for store, key, tensor in _buffers(self._modules)
        ]
        self._sums: list[Tensor] = []
        self._parts = parts

    def begin(self, index: int) -> None:
        """Go back to the start for part number ``index``; what the last one left is kept."""
        if index:
            self._look()
            self._restore()

    def end(self, *, keep: bool = True) -> None:
        """Leave the mean of all parts; without ``keep``, what was there at the start."""
        if not keep:
            self._restore()
        elif self._modules:
            self._look()
            with torch.no_grad():
                for (_, _, tensor), total in zip(self._floats(), self._sums, strict=True):
                    tensor.copy_(total / self._parts)

    def _floats(self) -> list[tuple[dict[str, Tensor], str, Tensor]]:
        return [found for found in _buffers(self._modules) if found[2].is_floating_point()]

    @torch.no_grad()
    def _look(self) -> None:
        left = [t.detach() for _, _, t in self._floats()]
        if not self._sums:
            self._sums = [t.clone() for t in left]
        elif left:
            torch._foreach_add_(self._sums, left)

    @torch.no_grad()
    def _restore(self) -> None:
        for store, key, tensor, value in self._start:
            store[key] = tensor
            tensor.copy_(value)


def average_buffers(modules: Iterable[nn.Module]) -> None:
    """Average the floating buffers that forwards have written over the ranks, in place."""
    if world() > 1:
        mean_([t for _, _, t in _buffers(tuple(modules)) if t.is_floating_point()], "buffers")


@torch.no_grad()
def align(tensors: Iterable[Tensor]) -> None:
    """Give every rank the tensors of rank 0, which differ by the rounding of another CPU at most.

    Raises:
        RanksError: they differ by more, so that the ranks have not trained the same network.
    """
    if world() == 1:
        return
    tensors = list(tensors)
    before = [t.detach().clone() for t in tensors]
    take_first_(tensors, "weights")
    worst = 0.0
    for mine, first in zip(before, tensors, strict=True):
        if mine.is_floating_point() and mine.numel():
            scale = first.abs().max().clamp_min(1e-6)
            worst = max(worst, float(torch.nan_to_num((mine - first).abs().max() / scale, 0.0)))
    if largest(int(min(worst, 1e6) / DRIFT), "how far they are apart"):
        raise RanksError(
            f"the ranks have drifted apart: by {worst:.1e} of a tensor's largest number on this "
            "one. A forward, a loss or data that depends on the rank does this"
        )


def _buffers(modules: Iterable[nn.Module]) -> Iterator[tuple[dict[str, Tensor], str, Tensor]]:
    """Yield (where it is kept, its name there, tensor) of all buffers, those of masks left out."""
    seen: set[int] = set()
    for module in modules:
        for part in module.modules():
            if id(part) in seen or getattr(part, "is_gancompress_mask", False):
                continue
            seen.add(id(part))
            for key, tensor in part._buffers.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield part._buffers, key, tensor  # type: ignore[misc]
