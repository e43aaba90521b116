"""Narrower networks: every group keeps one share of its channels, those of largest magnitude."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gancompress.errors import GraphError
from gancompress.graph.groups import Cost
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.masks.attach import detach
from gancompress.masks.budget import Budget
from gancompress.masks.importance import channel_norm
from gancompress.modules.discriminator import call_arguments_of
from gancompress.recipes.schema import Recipe
from gancompress.surgery.live_cut import operate
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.target import Target, parse_targets
from gancompress.tasks.protocol import Batch, Task
from gancompress.training.log import Log
from gancompress.wrapping.widths import largest, uniform_widths


class Narrowing:
    """Takes channels out of a discriminator, in place, so that it keeps pace with the generator.

    The idea is that of Li et al. 2021 (GCC), who switch its channels off: an opponent of the
    teacher's size is more than a small generator needs. Cutting instead, evenly and by magnitude,
    is ours: what its layers put out does change, and it learns on.

    Attributes:
        history: all that was cut from the first discriminator so far; None before.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        arguments: tuple[Tensor, ...],
        keywords: Mapping[str, Tensor] | None = None,
        *,
        kind: str = "params",
        min_channels: int = 1,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        """Trace ``discriminator`` on ``arguments``.

        Args:
            discriminator: a plain module; it stays the same object.
            arguments: of one call of it.
            keywords: likewise.
            kind: the cost that is kept in proportion, params or macs.
            min_channels: each group keeps at least so many.
            warn: is told when a cut is refused; nothing has changed then.

        Raises:
            GraphError: it cannot be traced, or none of its channels can go.
        """
        self.discriminator = discriminator
        self._warn = warn
        self.history: Plan | None = None
        self._kind, self._least = kind, min_channels
        # It learns on: no cut of it needs to be exact.
        self._graph = trace(discriminator, arguments, keywords or {}, exact=False)
        self._original = self._graph.cost()
        if not self._graph.groups:
            raise GraphError(f"no channel of {type(discriminator).__name__} can go")

    @property
    def params(self) -> int:
        """Parameters of the discriminator as it is now."""
        return self._graph.cost().params

    def follow(
        self, now: Cost, first: Cost, optimizers: Sequence[torch.optim.Optimizer] = ()
    ) -> bool:
        """Narrow to the share of its first cost that the generator (``now``) keeps of ``first``.

        Widths are rounded up to fast ones (`fast_width`). Moments of ``optimizers`` are cut alike.
        Returns whether anything went. Where the share is out of reach, all goes that can.
        """
        share = Target(self._kind, 1.0).of(now) / Target(self._kind, 1.0).of(first)
        target = Target(self._kind, share)
        budget = Budget(target, self._original, min_channels=self._least)
        if target.of(self._graph.cost()) <= budget.goal:
            return False
        tensors = raw_tensors(self.discriminator)
        keep = {}
        for name, width in uniform_widths(self._graph, budget).items():
            group = self._graph[name]
            keep[name] = largest(channel_norm(group, tensors), fast_width(width, group.size))
        plan = Plan.of(self._graph, keep)
        if plan.widths == self._graph.widths:
            return False
        try:
            self._cut(plan, optimizers)
        except GraphError as error:
            # A run of hours is worth more than a smaller opponent.
            self._warn(f"the discriminator keeps its size: {error}")
            return False
        return True

    def state(self) -> str | None:
        """Return all that was cut so far, as JSON text, for a checkpoint."""
        return None if self.history is None else self.history.to_json()

    def restore(self, state: str | None, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Cut an uncut discriminator as `state` says.

        Raises:
            CheckpointError: it says nothing readable.
            GraphError: it is of another discriminator.
        """
        if state is not None:
            self._cut(Plan.from_json(state), optimizers)

    def _cut(self, plan: Plan, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._graph = operate(
            self.discriminator, plan, graph=self._graph, strip=detach, optimizers=optimizers
        )
        self.history = plan if self.history is None else self.history.then(plan)


def fast_width(width: int, size: int) -> int:
    """Return the width from ``width`` to ``size`` that is as fast as ``width`` and largest (ours).

    Kernels compute 16 channels at a time: 28 of 64 take as long as 32, and 43 as long as 48. Layers
    of fewer than 32 channels cost little, and go to ``width``.
    """
    return width if size < 32 else min(size, -(-width // 16) * 16)


def start_narrowing(
    recipe: Recipe,
    discriminator: nn.Module | None,
    teacher: nn.Module,
    task: Task,
    example: Batch,
    log: Log,
) -> Narrowing | None:
    """Return what narrows ``discriminator``, if ``recipe`` asks; one that cannot be stays whole.

    The log says so then, and why.
    """
    if discriminator is None or recipe.target is None or not recipe.shrink.discriminator:
        return None
    reasons = {"frozen": "it is frozen", "fresh": "it was made for the student's"}
    if why := reasons.get(recipe.discriminator.policy):
        log.event("discriminator_whole", f"the discriminator keeps its size: {why}")
        return None
    with torch.no_grad():
        images = task.output(example.run(teacher))
    try:
        return Narrowing(
            discriminator,
            *call_arguments_of(discriminator, images, example.labels, example.condition),
            kind=_kind_of(recipe.target),
            min_channels=recipe.min_channels,
            warn=partial(log.event, "discriminator_whole"),
        )
    except GraphError as error:
        log.event("discriminator_whole", f"the discriminator keeps its size: {error}")
        return None


def _kind_of(target: str) -> str:
    """Return the cost to keep in proportion: params, or macs where a target is of more."""
    return "params" if all(t.kind == "params" for t in parse_targets(target)) else "macs"
