"""What must follow a live cut beside the generator: its optimisers, and moving averages of it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Collection, Sequence

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.surgery.raw_tensors import raw_tensors


def average_in(copy: object, generator: nn.Module) -> nn.Module:
    """Return the copy of ``generator`` that ``copy`` is, or holds (`AveragedModel.module`) (ours).

    Raises:
        GraphError: it is no module, or holds none with the generator's tensors.
    """
    if not isinstance(copy, nn.Module):
        advice = "pass the module in it that has the averaged weights (often .module)"
        if hasattr(copy, "shadow_params"):
            advice = "it holds bare tensors: make a new one from the generator after the cut"
        raise GraphError(f"copies must be modules, not a {type(copy).__name__}: {advice}")
    names = set(raw_tensors(generator))
    for part in copy.modules():
        if part is not generator and set(raw_tensors(part)) == names:
            return part
    raise GraphError(
        f"the {type(copy).__name__} in copies has not the tensors of {type(generator).__name__}: "
        "copies must be deep copies of the wrapped generator; pass the one that an average wraps "
        "(often .module)"
    )


def warn_of_forgotten(
    parameters: Collection[torch.Tensor], given: Sequence[torch.optim.Optimizer]
) -> None:
    """Warn of optimisers in use that hold parameters which a cut replaced, and were not given."""
    known, moved = {id(o) for o in given}, {id(p) for p in parameters}
    # By type, not isinstance: lazy proxies among all objects would be loaded by it.
    found = [o for o in gc.get_objects() if issubclass(type(o), torch.optim.Optimizer)]
    for optimizer in found:
        if id(optimizer) in known:
            continue
        lost = [p for g in optimizer.param_groups for p in g["params"] if id(p) in moved]
        held = len(lost)
        # One that was made and never used may be what another replaced: it trains nothing.
        if any(p in optimizer.state or p.grad is not None for p in lost):
            warnings.warn(
                f"shrink() was not given the optimizer ({type(optimizer).__name__}) that holds "
                f"{held} of the parameters which it has replaced: its next steps move tensors that "
                "the generator no longer uses. Pass it, shrink([optimizer]), or make a new one",
                stacklevel=3,
            )
