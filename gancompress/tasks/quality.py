"""What any task can measure without anything to download: distances on held-out inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.metrics.distances import distances
from gancompress.modules.undisturbed import evaluating
from gancompress.tasks.feature_quality import unit
from gancompress.tasks.protocol import Batch, Task

BATCH = 16
Seen = Callable[[Batch, Tensor, Tensor | None], None]
"""Is called with a batch of inputs, the outputs made of it and, if any, the teacher's."""


@torch.no_grad()
def task_quality(
    task: Task,
    network: nn.Module,
    teacher: nn.Module | None = None,
    *,
    n: int = 256,
    seen: Seen | None = None,
) -> dict[str, Any]:
    """Return how far ``network`` is from ``teacher`` and from what was wanted (ours).

    Args:
        task: its held-out inputs are used, the same at every call.
        network: the generator to measure, in eval mode.
        teacher: the original; ``None``: no distance to it.
        n: samples at most.
        seen: is shown every batch with the outputs of both, before they are thrown away.

    Returns:
        ``n``, and under ``to_teacher`` and ``to_wanted`` what `distances` measures, each the mean
        over samples, where there is something to compare with. Values are on the scale of the
        task's own outputs.

    Raises:
        DataError: outputs have other shapes than what they are compared with.
    """
    sums: dict[str, dict[str, float]] = {}
    count = 0
    home = next(network.parameters()).device
    for batch in task.held_out(n, BATCH):
        here = batch.to(home)
        with evaluating(network):
            made = task.output(here.run(network))
        others: dict[str, Tensor] = {}
        if teacher is not None:
            with evaluating(teacher):
                others["to_teacher"] = task.output(here.run(teacher))
        if seen is not None:
            seen(batch, made, others.get("to_teacher"))
        if here.wanted is not None:
            others["to_wanted"] = here.wanted
        for name, other in others.items():
            found = distances(unit(made, task.values), unit(other, task.values), rate=task.rate)
            _add(sums.setdefault(name, {}), found, len(made))
        count += len(made)
    means = {name: {k: v / max(count, 1) for k, v in kinds.items()} for name, kinds in sums.items()}
    return {"n": count, **means}


def _add(sums: dict[str, float], found: Mapping[str, float], n: int) -> None:
    for name, value in found.items():
        sums[name] = sums.get(name, 0.0) + value * n
