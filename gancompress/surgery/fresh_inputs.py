"""Fresh inputs of the same kind as an example: redrawn, or changed by next to nothing."""

from __future__ import annotations

from typing import Any

import torch

from gancompress.modules.nested import map_tensors


def is_float(t: Any) -> bool:
    """Whether ``t`` is a real floating-point tensor."""
    return isinstance(t, torch.Tensor) and t.is_floating_point()


def nudged(example: Any, seed: int, by: float = 1e-13) -> Any:
    """Return the inputs with every floating-point number changed by about ``by`` of itself."""
    rng = torch.Generator().manual_seed(seed)

    def nudge(t: Any) -> Any:
        if not is_float(t):
            return t
        return t.double() * (1 + by * torch.randn(t.shape, generator=rng).to(t.device).double())

    return map_tensors(example, nudge)


def redraw(example: Any, seed: int) -> Any:
    """Return inputs of the same kind, with new values in floating-point tensors (ours).

    Values keep their mean, spread, minimum and maximum. Tensors of two values (one-hot rows and
    maps, masks) have their rows permuted, channel by channel where only some are such (an image and
    its mask); where all rows are the same, their pixels, and else their channels.
    When nothing can vary that way (an example of zeros), constant tensors become normal noise
    around their value.
    """
    changed, changing = _redraw(example, seed, bold=False)
    return changed if changing else _redraw(example, seed, bold=True)[0]


def _redraw(example: Any, seed: int, *, bold: bool) -> tuple[Any, bool]:
    """Return the new inputs, and whether any tensor could vary."""
    rng = torch.Generator().manual_seed(seed)
    varied = []

    def change(t: Any) -> Any:
        if not is_float(t) or not t.numel():
            return t
        values = t.unique().numel()
        if values == 1:
            return t + torch.randn(t.shape, generator=rng).to(t) if bold else t
        varied.append(True)
        if values == 2:
            return _permuted(t, rng)
        if t.dim() > 2 and t.shape[1] > 1 and t[:, 0].numel() > 2:
            # An image and its mask may lie in one tensor: each channel stays of its kind.
            columns = t.unbind(1)
            if any(c.unique().numel() <= 2 for c in columns):
                return torch.stack([change(c) for c in columns], 1)
        low, high = t.min(), t.max()
        noise = torch.randn(t.shape, generator=rng).to(t)
        return (noise * t.std() + t.mean()).clamp(low, high).to(t.dtype)

    return map_tensors(example, change), bool(varied)


def _permuted(t: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return ``t`` with its rows, its pixels or its channels in another order: one-hot stays so."""

    def order(n: int) -> torch.Tensor:
        # Never the old order: of two rows half of all draws would change nothing.
        chosen = torch.randperm(n, generator=rng)
        same = bool((chosen == torch.arange(n)).all())
        return (chosen.roll(1) if same else chosen).to(t.device)

    new = t[order(t.shape[0])]
    if torch.equal(new, t) and t.dim() > 2:
        pixels = t.flatten(2)
        new = pixels[:, :, order(pixels.shape[2])].view_as(t)
    if torch.equal(new, t) and t.dim() > 1:
        new = t[:, order(t.shape[1])]
    return new
