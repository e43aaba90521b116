"""Losses scaled for float16, where small gradients would be zero (Micikevicius et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

LEAST = 1.0
"""A scale below this helps nothing: what overflows then is a fault of the losses."""


class LossScale:
    """The scale of one loss, by torch's GradScaler; off, it changes nothing (ours).

    Gradients are taken back to their size before anybody looks at them; a step whose gradients
    overflow is left out and halves the scale, which is no fault of the losses.
    """

    def __init__(self, device: torch.device, *, on: bool) -> None:
        self._scaler = torch.amp.GradScaler(device.type, enabled=on)
        self.on = on

    def scaled(self, loss: Tensor) -> Tensor:
        """Return ``loss`` times the scale."""
        return self._scaler.scale(loss) if self.on else loss

    def unscale(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Divide the gradients that ``optimizers`` hold by the scale."""
        if self.on:
            for optimizer in optimizers:
                self._scaler.unscale_(optimizer)

    def update(self, loss: Tensor, *, sound: bool) -> bool:
        """Move the scale after a step; return whether the step only overflowed.

        ``sound`` says whether loss and gradients were finite.
        """
        if not self.on:
            return False
        finite = sound or bool(torch.isfinite(loss))
        overflowed = finite and not sound and self._scaler.get_scale() > LEAST
        if finite:
            self._scaler.update()
        else:
            # The losses' fault, not the scale's: begin the next step as this one was begun.
            self._scaler.update(self._scaler.get_scale())
        return overflowed

    @property
    def value(self) -> float:
        """The scale now."""
        return float(self._scaler.get_scale())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, ready for JSON; empty when off."""
        return self._scaler.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned; a run that began without a scale begins one."""
        if self.on and saved:
            self._scaler.load_state_dict(dict(saved))
