"""All or nothing: put modules and optimisers back as they were when a step fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from gancompress.modules.snapshot import Snapshot


@contextlib.contextmanager
def all_or_nothing(
    modules: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> Iterator[None]:
    """Undo everything that the body did to structure and bindings if it raises (ours).

    Covers classes, attributes, registered tensors, submodules and hooks of each module, and groups
    and state of each optimiser. Tensors are not copied: the body must make new ones instead of
    writing into those it found.
    """
    before = Snapshot(*modules, values=False)
    groups = [
        (o, [(g, {**g, "params": list(g["params"])}) for g in o.param_groups], dict(o.state))
        for o in optimizers
    ]
    try:
        yield
    except BaseException:
        before.restore()
        for optimizer, saved, state in groups:
            for group, values in saved:
                group.clear()
                group.update(values)
            optimizer.state.clear()
            optimizer.state.update(state)
        raise
