"""Run a network without leaving a trace: modes, buffers and random states come back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from gancompress.modules.undisturbed import evaluating


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
