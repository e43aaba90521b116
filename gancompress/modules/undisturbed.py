"""Put a network in eval mode for a while, and every part back where it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Switch ``module`` to eval mode, and restore each part's own mode on leaving (ours).

    Restoring by ``module.train()`` alone would also thaw parts that the user keeps in eval mode.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        # A class with a train() or eval() of its own may keep more than the flag (style mixing).
        for part, training in modes:
            if type(part).train is not nn.Module.train or type(part).eval is not nn.Module.eval:
                _ = part.train() if training else part.eval()
        for part, training in modes:
            part.training = training


class BufferGuard:
    """Remembers the buffers of some modules, to undo a forward pass that went wrong.

    A forward pass in training mode writes norm statistics and spectral vectors before any loss is
    known; skipping the optimiser step alone would leave NaN there (ours).
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._buffers = [b for module in modules for b in module.buffers()]
        self._saved = [b.detach().clone() for b in self._buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """Write the remembered values back."""
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(saved)


def traceless(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Call ``module(*args, **kwargs)`` on copies of its buffers and return the output (ours).

    Running statistics and power-iteration vectors stay as they were; the mode (train or eval) and
    autograd are the caller's. Hooks run.
    """
    # Swapped, not restored in place: the backward of an earlier forward may still need the buffers.
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    return functional_call(module, buffers, args, dict(kwargs or {}))


def look(
    module: nn.Module, example: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Return ``module(*example, **kwargs)`` in eval mode, without gradient or side effects (ours).

    The random state of the process is left as it was.
    """
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    fork = torch.random.fork_rng(devices=sorted(devices, key=str))
    with fork, evaluating(module), torch.no_grad():
        return traceless(module, example, kwargs)


def generators(module: nn.Module) -> list[torch.Generator]:
    """Return the random number generators that a module and its parts keep as attributes."""
    return [
        v for sub in module.modules() for v in vars(sub).values() if isinstance(v, torch.Generator)
    ]


@contextlib.contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Run the body with ``module`` in eval mode and no gradients (ours).

    Afterwards every submodule has its own training mode again, buffers their values, and Python's,
    NumPy's and torch's random states (accelerators in use and the module's own generators
    included) are as before.
    """
    own = [(g, g.get_state()) for g in generators(module)]
    # Hand-written spectral norms keep their vectors as parameters, and write to them in any mode.
    vectors = [p for p in module.parameters() if p.dim() == 1]
    values = [(t, t.detach().clone()) for t in (*module.buffers(), *vectors)]
    stores = [(p, p.data) for p in module.parameters()]
    states = random.getstate(), np.random.get_state()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if cuda else []
    try:
        with evaluating(module), torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for parameter, store in stores:
                if parameter.data_ptr() != store.data_ptr():
                    parameter.data = store
            for tensor, old in values:
                tensor.copy_(old)
        for generator, state in own:
            generator.set_state(state)
        random.setstate(states[0])
        np.random.set_state(states[1])
