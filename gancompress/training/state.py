"""Optimiser state as named tensors plus plain JSON, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gancompress.errors import CheckpointError


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors named ``"<index>.<key>"`` and JSON (ours).

    Raises:
        TypeError: a state entry is neither a tensor nor plain JSON.
    """
    saved = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, entries in saved["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            elif value is None or isinstance(value, int | float | str | bool):
                plain[f"{index}.{key}"] = value
            else:
                raise TypeError(f"cannot save optimiser state {key!r} of type {type(value)}")
    return tensors, {"plain": plain, "groups": saved["param_groups"]}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]
) -> None:
    """Put back what ``optimizer_state`` returned.

    Raises:
        CheckpointError: it was saved from an optimiser over other parameters.
    """
    state: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | plain["plain"]).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = [
        {k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in plain["groups"]
    ]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the optimiser state does not fit the networks: {error}") from error
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise CheckpointError(
                    f"optimiser state {key!r} is {tuple(value.shape)} for a parameter of "
                    f"{tuple(parameter.shape)}"
                )
