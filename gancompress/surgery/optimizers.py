"""Optimisers follow a cut: their state is sliced with the parameters that they hold."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import torch

from gancompress.errors import GraphError
from gancompress.surgery.slicing import slice_tensor


def plan_optimizer(
    optimizer: torch.optim.Optimizer,
    table: Mapping[int, Sequence[Sequence[int] | None]],
    twins: Mapping[int, torch.Tensor],
    gone: Container[int] = (),
) -> Callable[[], None]:
    """Prepare an optimiser's move to sliced parameters; the returned call commits it.

    Args:
        optimizer: is left alone until then.
        table: id of a parameter to the indices it keeps.
        twins: id of a parameter to the new one.
        gone: ids of parameters that have no place in the new network.

    Raises:
        GraphError: a state tensor is neither a scalar nor of its parameter's shape.
    """
    groups: list[list[Any]] = []
    state: dict[Any, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        row = []
        for p in group["params"]:
            if id(p) in gone:
                continue
            new = twins.get(id(p), p)
            row.append(new)
            if p not in optimizer.state:
                continue
            kept = table.get(id(p))
            state[new] = {
                key: _slice_state(key, value, p, kept, optimizer)
                for key, value in optimizer.state[p].items()
            }
        groups.append(row)

    def commit() -> None:
        for group, row in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = row
        optimizer.state.clear()
        optimizer.state.update(state)

    return commit


def _slice_state(
    key: str,
    value: Any,
    p: torch.Tensor,
    kept: Sequence[Sequence[int] | None] | None,
    optimizer: torch.optim.Optimizer,
) -> Any:
    if kept is None:
        return value
    if isinstance(value, torch.Tensor):
        if value.shape == p.shape:
            return slice_tensor(value, kept)
        if value.numel() == 1:  # a step count
            return value
        what = f"shape {tuple(value.shape)}"
    elif isinstance(value, (list, tuple, dict)):
        what = f"type {type(value).__name__}"
    else:
        return value
    raise GraphError(
        f"{type(optimizer).__name__} keeps {key!r} of {what} for a parameter of shape "
        f"{tuple(p.shape)}: its state cannot be sliced. Use an optimiser with per-element state "
        "(Adam, SGD, RMSprop, ...) or make a new one after the cut."
    )
