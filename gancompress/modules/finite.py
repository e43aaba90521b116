"""Which weight is not finite, in words."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn

from gancompress.errors import DataError


def first_not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Say which tensor first holds NaN, or else infinity; empty if none does (ours).

    Args:
        named: names and tensors; those that are not floating-point are passed over.
    """
    tensors = [(n, t) for n, t in named if t.is_floating_point() or t.is_complex()]
    for what, test in (("NaN", torch.isnan), ("infinity", torch.isinf)):
        for name, t in tensors:
            count = int(test(t).sum())
            if count:
                return f"{name!r} is not finite: {what} in {count:,} of {t.numel():,} numbers"
    return ""


def refuse_not_finite(values: torch.Tensor, what: str, module: nn.Module | None = None) -> None:
    """Raise where ``values`` hold NaN or infinity, naming the weight of ``module`` at fault (ours).

    Args:
        values: a batch of pictures, outputs or logits.
        what: what they are, in the plural: ``"the generator's images"``.
        module: what made them; None for data.

    Raises:
        DataError: they do.
    """
    if torch.isfinite(values).all():
        return
    named = () if module is None else chain(module.named_parameters(), module.named_buffers())
    cause = first_not_finite(named)
    if cause:
        cause += ". The weights are of a training that diverged, or damaged: load earlier ones"
    elif module is not None:
        cause = "no weight is, so a sum or a quotient overflows on these inputs"
    raise DataError(f"{what} hold NaN or infinity before any step" + (cause and f": {cause}"))
