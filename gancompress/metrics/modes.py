"""Put a network in eval mode for a while, and every part back where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Switch ``module`` to eval mode, and restore each submodule's own mode on leaving.

    Restoring by ``module.train()`` would also thaw parts that the user keeps in eval mode.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for part, mode in modes:
            part.training = mode
