"""Students of fixed, smaller shape, and networks with fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from gancompress.data.order import derived_seed
from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.modules.copying import duplicate
from gancompress.recipes.schema import Recipe
from gancompress.surgery.reconstruction.choose import channel_losses
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.training.allocation import allocate
from gancompress.wrapping import Masked, wrap
from gancompress.wrapping.widths import largest, uniform_widths


def masked_student(generator: nn.Module, example: tuple[Any, ...], recipe: Recipe) -> Masked:
    """Put the recipe's masks on ``generator``, in place, and return their handle.

    Raises:
        GraphError: nothing of it can be pruned.
        TargetError: the target is out of reach.
    """
    return wrap(
        generator,
        example,
        target=recipe.target,
        relaxation=recipe.relaxation,
        penalty=recipe.penalty,
        importance=recipe.importance,
        allocation=recipe.allocation,
        schedule=recipe.schedule,
        window=(recipe.schedule.start, recipe.schedule.end),
        site=recipe.site,
        include=recipe.include,
        exclude=recipe.exclude,
        round_to=recipe.round_to,
        min_channels=recipe.min_channels,
        seed=recipe.seed,
    )


def narrow_student(
    teacher: nn.Module,
    example: tuple[Any, ...],
    recipe: Recipe,
    inputs: Callable[[], Sequence[Call]] | None = None,
) -> tuple[nn.Module, Plan, dict[str, Any]]:
    """Return ``teacher`` uniformly narrower, at ``recipe.target``, with its largest channels.

    Every group keeps the same share of its channels, up to rounding (ours); with student.init
    torch-pruning that library chooses instead, with student.channels residual those go whose loss
    the others make up for best on ``inputs``. Also returns the plan
    and the verification of the cut; ``teacher`` is left alone.

    Raises:
        ConfigError: student.channels is residual, and there are no inputs.
        TargetError: the target is out of reach.
    """
    assert recipe.target is not None
    if recipe.student.init == "torch-pruning":
        # Importing it takes seconds that no other recipe needs.
        from gancompress.training.torch_pruned import torch_pruned_student

        return torch_pruned_student(teacher, example, recipe)
    masked = wrap(
        duplicate(teacher),
        example,
        target=recipe.target,
        importance="magnitude",
        round_to=recipe.round_to,
        min_channels=recipe.min_channels,
        seed=recipe.seed,
    )
    budget = masked.budget
    assert budget is not None
    if recipe.student.channels == "residual":
        if inputs is None:
            raise ConfigError("student.channels residual needs inputs to look at")
        options = Options(seed=recipe.seed)
        worth = channel_losses(teacher, masked.graph, inputs(), options)
        keep = allocate(masked.graph, worth, budget)
    else:
        widths = uniform_widths(masked.graph, budget)
        value = masked.importance()
        keep = {name: largest(value[name], width) for name, width in widths.items()}
    plan = Plan.of(masked.graph, keep)
    small = masked.prune(plan)
    return small, plan, {} if masked.verification is None else vars(masked.verification)


def fresh(network: nn.Module, seed: int) -> nn.Module:
    """Return a copy of ``network`` with newly initialised weights, whatever its present widths.

    Each module's own ``reset_parameters`` is used; norms without one (a gain and a bias) get 1 and
    0. The global random state is left as it was.

    Raises:
        ConfigError: a module holds weights and cannot initialise them.
    """
    new = duplicate(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "fresh"))
        for path, module in new.named_modules():
            own = dict(module.named_parameters(recurse=False))
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif own and own.keys() <= {"gain", "weight", "bias"} and _is_norm(module):
                for name, parameter in own.items():
                    nn.init.constant_(parameter, 0.0 if name == "bias" else 1.0)
                _reset_statistics(module)
            elif own:
                raise ConfigError(
                    f"{path or type(new).__name__} ({type(module).__name__}) has no "
                    "reset_parameters(): its weights cannot be made afresh. Add that method, or "
                    "choose another student.init or discriminator.policy"
                )
            else:
                _reset_statistics(module)
    return new


def _is_norm(module: nn.Module) -> bool:
    return all(p.dim() == 1 for p in module.parameters(recurse=False)) and any(
        "mean" in name for name, _ in module.named_buffers(recurse=False)
    )


@torch.no_grad()
def _reset_statistics(module: nn.Module) -> None:
    for name, buffer in module.named_buffers(recurse=False):
        if name in ("stored_mean", "running_mean"):
            buffer.zero_()
        elif name in ("stored_var", "running_var"):
            buffer.fill_(1.0)
