"""What a score is: a worth for each channel, found by looking at the uncut generator at work.

They live in `gancompress.training.scores`. An importance sees weights and what training left in a
mask; a score runs the generator before the first step, and the masks' scores begin with its ranks:
within each group, or, where its values are of one unit for all (fact ``across``), over all groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gancompress.data.order import stream
from gancompress.errors import ConfigError
from gancompress.masks.importance import ranked
from gancompress.modules.undisturbed import evaluating
from gancompress.plugins.kinds import SCORES as SCORES
from gancompress.recipes.schema import Recipe
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.tasks.protocol import Batch, Task, drawn
from gancompress.wrapping import Masked

BATCH = 32


@dataclass(frozen=True)
class Look:
    """What a score sees (ours).

    Attributes:
        masked: handle of the generator with all gates open, in eval mode.
        task: gives inputs and reads outputs.
        seed: of the recipe.
        device: where the generator lies.
    """

    masked: Masked
    task: Task
    seed: int
    device: torch.device

    def batches(self, samples: int) -> list[Batch]:
        """Return inputs for ``samples`` images, the same ones at each call."""
        return drawn(self.task, samples, BATCH, stream(self.seed, "score"), self.device)

    def images(self, batch: Batch) -> Tensor:
        """Return what the generator makes of ``batch``, with graph, in float32."""
        return self.task.output(batch.run(self.masked.generator)).float()

    def slopes(self, loss: Tensor) -> dict[str, np.ndarray]:
        """Return, by group, mean |d loss / d weight| over the weights that read each channel (c,).

        The score of Liu et al. 2021 (CAGAN), section 3.2, over all readers of a group.
        """
        tensors = raw_tensors(self.masked.generator)
        graph = self.masked.graph
        slots = {n: graph[n].readers or list(graph[n].slots) for n in self.masked.masks}
        names = sorted({t for each in slots.values() for t, _ in each if tensors[t].requires_grad})
        grads = torch.autograd.grad(loss, [tensors[n] for n in names], allow_unused=True)
        by_name = {n: g for n, g in zip(names, grads, strict=True) if g is not None}
        found: dict[str, np.ndarray] = {}
        for group, readers in slots.items():
            total = np.zeros(graph[group].size)
            for name, dim in readers:
                if name in by_name:
                    g = by_name[name].abs().double().movedim(dim, 0).flatten(1).mean(1)
                    total += g.cpu().numpy()[graph[group].slots[name, dim]].mean(1)
            found[group] = total
        return found


def score_channels(recipe: Recipe, task: Task, masked: Masked | None, device: torch.device) -> None:
    """Let the masks' scores begin with the ranks that the recipe's ``score`` gives, if it has one.

    Raises:
        ConfigError: it gives something else than one finite number a channel.
    """
    if recipe.score is None or masked is None:
        return
    devices = [device] if device.type == "cuda" else []
    with evaluating(masked.generator), torch.enable_grad(), torch.random.fork_rng(devices):
        found = SCORES.bind(recipe.score)(Look(masked, task, recipe.seed, device))
    checked: dict[str, np.ndarray] = {}
    for name, mask in masked.masks.items():
        values = np.asarray(found.get(name), np.float64)
        if values.shape != (mask.size,) or not np.isfinite(values).all():
            raise ConfigError(
                f"score {recipe.score.name!r} gives group {name!r} "
                f"{'no finite numbers' if values.shape == (mask.size,) else values.shape}: it must "
                f"be one finite number for each of its {mask.size} channels"
            )
        checked[name] = values
    if SCORES.fact(recipe.score, "across"):
        starts = _ranked_across(checked)
    else:
        starts = {name: ranked(values, masked.masks[name]) for name, values in checked.items()}
    with torch.no_grad():
        for name, start in starts.items():
            masked.masks[name].scores.copy_(torch.from_numpy(start))


def _ranked_across(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Spread the channels of all groups over (0.5, 1.5], in one order of ``values``."""
    every = np.concatenate(list(values.values()))
    rank = np.empty(len(every))
    rank[np.argsort(every, kind="stable")] = np.arange(1, len(every) + 1)
    ends = np.cumsum([len(v) for v in values.values()])[:-1]
    return dict(zip(values, np.split(0.5 + rank / max(len(every), 1), ends), strict=True))


ScoreFunction = Callable[[Look], dict[str, np.ndarray]]
"""What is registered: looks, and returns a worth by group (c,), larger is better."""
