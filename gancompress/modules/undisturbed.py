"""Put a network in eval mode for a while, and every part back where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
