"""Optimiser state by parameter name, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError

NamedParameters = Iterable[tuple[str, nn.Parameter]]


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: NamedParameters
) -> dict[str, Tensor]:
    """Return an optimiser's state as tensors called ``"<parameter>:<key>"`` (ours).

    Names, not positions: masks and cuts reorder parameters. Learning rates and the like are not
    state here; they come from the recipe.

    Raises:
        TypeError: a state entry is no tensor, or its parameter is not among ``parameters``.
    """
    names = {id(parameter): name for name, parameter in parameters}
    found: dict[str, Tensor] = {}
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if not isinstance(value, Tensor) or id(parameter) not in names:
                raise TypeError(f"cannot save optimiser state {key!r} of type {type(value)}")
            found[f"{names[id(parameter)]}:{key}"] = value
    return found


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: NamedParameters, saved: Mapping[str, Tensor]
) -> None:
    """Put back what ``optimizer_state`` returned.

    Raises:
        CheckpointError: it was saved for other parameters.
    """
    by_name = dict(parameters)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    optimizer.state.clear()
    for label, value in saved.items():
        name, _, key = label.rpartition(":")
        parameter = by_name.get(name)
        if parameter is None or id(parameter) not in held:
            raise CheckpointError(f"the checkpoint has optimiser state for an unknown {name!r}")
        if value.ndim == 0:
            optimizer.state[parameter][key] = value.clone()  # a step count, kept on the CPU
        elif value.shape == parameter.shape:
            optimizer.state[parameter][key] = torch.empty_like(parameter.detach()).copy_(value)
        else:
            raise CheckpointError(
                f"optimiser state {key!r} of {name!r} is {tuple(value.shape)}; the parameter is "
                f"{tuple(parameter.shape)}"
            )


_DIRECTIONS = ("exp_avg", "momentum_buffer", "grad_avg")
"""State of torch's optimisers that points somewhere; what else they keep is a size."""


def forget_directions(
    optimizers: Iterable[torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> None:
    """Set the momentum of ``parameters`` to zero, where weights were moved to another place.

    Sizes (second moments) stay: how large gradients are has not changed.
    """
    moved = {id(p) for p in parameters}
    for optimizer in optimizers:
        for parameter, entries in optimizer.state.items():
            for key in _DIRECTIONS if id(parameter) in moved else ():
                if isinstance(entries.get(key), Tensor):
                    entries[key].zero_()


def held_by(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters of ``optimizer``; no network is walked."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def check_held_once(
    optimizers: Iterable[torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> None:
    """Make sure that each live parameter is in exactly one optimiser group, and no dead one is.

    Raises:
        RuntimeError: a parameter would stop learning, or learn twice: a bug of ours.
    """
    held = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    live = [id(p) for p in parameters]
    if sorted(held) != sorted(live):
        raise RuntimeError(
            f"{len(live)} live parameters, {len(held)} held by optimisers, "
            f"{len(set(held) & set(live))} in common: the optimisers lost track"
        )
