"""What a finished run hands to its closing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gancompress.commands.resolve.subject import EMBEDDED, Subject
from gancompress.metrics.features import Features
from gancompress.recipes.schema import Recipe
from gancompress.reporting.side_by_side import shows_inputs
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Task


@dataclass(frozen=True)
class Finished:
    """Networks, task and facts of a run that is over."""

    kind: str
    recipe: Recipe
    teacher: nn.Module | None
    student: Subject
    run: Path
    steps: int
    seconds: float
    verified: dict[str, Any] | None
    device: str
    task: Task
    notes: tuple[str, ...] = ()
    features: Features | None = None

    @property
    def embedded(self) -> bool:
        """Whether the embedded metrics are made for this generator."""
        return self.student.spec == EMBEDDED and isinstance(self.task, Noise)

    @property
    def beside(self) -> bool:
        """Whether outputs are shown beside their inputs."""
        return shows_inputs(self.task)
