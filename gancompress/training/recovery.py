"""Keep non-finite numbers out of the networks: skip a step, roll back, give up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gancompress.errors import DivergedError
from gancompress.modules.undisturbed import BufferGuard
from gancompress.training.log import Log

if TYPE_CHECKING:
    from gancompress.training.train_state import Snapshot, TrainState

MAX_SKIPS = 3  # non-finite steps in a row before rolling back
MAX_ROLLBACKS = 2


class Recovery:
    """What happens after a step whose losses or gradients are not finite (ours).

    ``good`` is the state to go back to; whoever saves a state or changes a shape renews it.
    """

    def __init__(self, good: Snapshot) -> None:
        self.good = good
        self._skips = 0

    def goes_on(self, sound: bool, guard: BufferGuard, state: TrainState, log: Log) -> bool:
        """Return whether the run goes on from here; else it was rolled back.

        A step that was not ``sound`` leaves no trace: ``guard`` puts the buffers back, and its
        gradients, which would poison the masks' sensitivity, are forgotten. After several in a row
        the run goes back to the last good state, with other noise and half the learning rate. Steps
        that only overflowed float16 are not counted: their losses are scaled by less next time.

        Raises:
            DivergedError: that has been tried before.
        """
        if not state.overflowed:
            self._skips = 0 if sound else self._skips + 1
        if not sound:
            guard.restore()
            state.zero_grad()
            what = "a loss or gradient is not finite"
            if state.overflowed:
                what = "gradients overflow float16: the loss is scaled by half from now on"
            log.event("skip", f"step {state.step}: {what}", step=state.step)
        if self._skips < MAX_SKIPS:
            return True
        if state.rollbacks == MAX_ROLLBACKS:
            raise diverged(state.step, state.rollbacks)
        self._skips = 0
        state.roll_back(self.good)
        log.resume(state.step)
        log.event("rollback", f"rolled back to step {state.step}", step=state.step)
        return False

    def check_end(self, state: TrainState, total: int) -> None:
        """Refuse a run of ``total`` steps (too few for a rollback) of which none was sound.

        Raises:
            DivergedError: so it was.
        """
        if self._skips == total:
            raise diverged(state.step, state.rollbacks)


def diverged(step: int, rollbacks: int) -> DivergedError:
    """Return the error of a run that cannot go on, with what to try."""
    return DivergedError(
        f"losses are not finite at step {step}, after {rollbacks} rollbacks with half the "
        "learning rate each. Lower generator_optim.lr and discriminator_optim.lr, or set "
        "precision=float32"
    )


def finite_step(loss: Tensor, parameters: Iterable[nn.Parameter]) -> bool:
    """Return whether ``loss`` and the norm of every gradient are finite (one sync on a device)."""
    return bool(_finite(loss, parameters))


def finite_and(
    beside: Tensor, loss: Tensor, parameters: Iterable[nn.Parameter]
) -> tuple[bool, Tensor]:
    """Return `finite_step` and ``beside`` (k,) on the CPU, in the same single sync."""
    answer = torch.cat([_finite(loss, parameters).to(beside.dtype)[None], beside]).cpu()
    return bool(answer[0]), answer[1:]


def _finite(loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(grads) if grads else []
    return torch.isfinite(torch.stack([loss.detach().float(), *norms])).all()


def finite_tensors(tensors: Iterable[Tensor]) -> bool:
    """Return whether every floating tensor holds finite numbers only."""
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())
