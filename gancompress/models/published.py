"""From the content of a published file to the state dict of a reference network.

Each reference class says in ``checkpoint_keys`` under which entries of a file its weights lie, the
preferred first; an empty tuple means that the file is the state dict itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from gancompress.errors import CheckpointError
from gancompress.models.normed_layers import Renamed

__all__ = ["published_state"]


def published_state(loaded: Mapping[str, Any], network: nn.Module) -> dict[str, Tensor]:
    """Return the weights that ``loaded``, a published file's content, holds for ``network``.

    A bare table of tensors is taken as it is, or the first of the network's ``checkpoint_keys``
    that the file has (BasicSR: the moving average before the raw weights). A prefix ``module.`` on
    every name is dropped; names of torch's parametrizations and of folded weight norms become those
    that ``network`` holds; statistics of instance norms that it does not have are left out. Names
    and shapes are not compared with the network's: ``load_state_dict`` does that.

    Raises:
        CheckpointError: the file holds neither, or an entry that is no table of tensors.
    """
    table, where = _table(loaded, network)
    wrong = [name for name, value in table.items() if not isinstance(value, Tensor)]
    if wrong or not table:
        held = f"{wrong[0]!r} of type {type(table[wrong[0]]).__name__}" if wrong else "nothing"
        raise CheckpointError(f"{where} holds {held}, expected tensors by name")
    state = cast("dict[str, Tensor]", dict(table))
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    for path, layer in network.named_modules():
        if isinstance(layer, Renamed):
            layer.translate_keys_(state, f"{path}." if path else "")
    return state


def _table(loaded: Mapping[str, Any], network: nn.Module) -> tuple[Mapping[str, Any], str]:
    if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
        return loaded, "the file"
    keys = cast("tuple[str, ...]", getattr(network, "checkpoint_keys", ()))
    for key in keys:
        if isinstance(loaded.get(key), Mapping):
            return loaded[key], f"entry {key!r} of the file"
    wanted = f"an entry {' or '.join(map(repr, keys))}, or " if keys else ""
    raise CheckpointError(
        f"the file holds {', '.join(map(repr, list(loaded)[:6])) or 'nothing'}; weights of "
        f"{type(network).__name__} are {wanted}a bare table of tensors"
    )
