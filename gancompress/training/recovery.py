"""Keep non-finite numbers out of the networks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gancompress.errors import DivergedError


def diverged(step: int, rollbacks: int) -> DivergedError:
    """Return the error of a run that cannot go on, with what to try."""
    return DivergedError(
        f"losses are not finite at step {step}, after {rollbacks} rollbacks with half the "
        "learning rate each. Lower generator_optim.lr and discriminator_optim.lr, or set "
        "precision=float32"
    )


def finite_step(loss: Tensor, parameters: Iterable[nn.Parameter]) -> bool:
    """Return whether ``loss`` and the norm of every gradient are finite (one sync on a device)."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(grads) if grads else []
    return bool(torch.isfinite(torch.stack([loss.detach().float(), *norms])).all())


def finite_tensors(tensors: Iterable[Tensor]) -> bool:
    """Return whether every floating tensor holds finite numbers only."""
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())
