"""Which held-out samples the student makes least like its teacher, and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gancompress.errors import DataError
from gancompress.metrics.distances import log_mel_distance
from gancompress.reporting.pictures import value_range
from gancompress.reporting.side_by_side import Column, beside, named_columns
from gancompress.reporting.sound_pictures import sound_sheet
from gancompress.tasks.protocol import Batch, Task

KEEP = 6


@dataclass(frozen=True)
class Example:
    """One sample: its distance, its number among the held-out ones, and its columns (1, ...)."""

    distance: float
    number: int
    columns: list[Column]


class Farthest:
    """Keeps the samples whose outputs are farthest from the teacher's (ours).

    The distance is the mean absolute difference, of sound that of log mel spectrograms.

    Args:
        task: whose outputs they are.
        keep: how many.
    """

    def __init__(self, task: Task, keep: int = KEEP) -> None:
        self.task, self.keep = task, keep
        self.examples: list[Example] = []
        self._seen = 0

    @property
    def measure(self) -> str:
        """What the distance is called."""
        return "L1" if self.task.rate is None else "log mel"

    def see(self, batch: Batch, made: Tensor, answer: Tensor | None) -> None:
        """Take notice of a batch: the student's outputs (n, ...) and the teacher's, if any."""
        if answer is None:
            return
        made, answer = made.detach().float().cpu(), answer.detach().float().cpu()
        for i in range(len(made)):
            example = Example(
                self._distance(made[i : i + 1], answer[i : i + 1]), self._seen + i, []
            )
            if len(self.examples) < self.keep or example.distance > self.examples[-1].distance:
                one = batch.only(i)
                columns = named_columns(one, made[i : i + 1], answer[i : i + 1])
                example.columns.extend(columns)
                self.examples.append(example)
                self.examples.sort(key=lambda e: (-e.distance, e.number))
                del self.examples[self.keep :]
        self._seen += len(made)

    def record(self) -> dict[str, Any]:
        """Return what was found, for JSON: the measure, distances and numbers, the worst first."""
        return {
            "measure": self.measure,
            "distances": [e.distance for e in self.examples],
            "numbers": [e.number for e in self.examples],
        }

    def picture(self) -> Image.Image:
        """Return the samples, the worst first, with their distances beside them.

        Raises:
            DataError: nothing was seen, or outputs are no pictures.
        """
        if not self.examples:
            raise DataError("no sample was compared with the teacher")
        rows = zip(*(e.columns for e in self.examples), strict=True)
        columns = [(row[0][0], torch.cat([x for _, x in row])) for row in rows]
        titles = [f"{self.measure} {e.distance:.3g}" for e in self.examples]
        if self.task.rate is not None:
            return sound_sheet(columns, self.task.rate, titles)
        shown = self.task.values
        if columns[-1][1].ndim == 4 and all(
            title in ("teacher", "student") for title, _ in columns
        ):
            shown = value_range(columns[0][1])  # nobody says what is black and white
        return beside(columns, shown, titles)

    def _distance(self, made: Tensor, answer: Tensor) -> float:
        if self.task.rate is not None and made.ndim == 3:
            return log_mel_distance(made, answer, self.task.rate)
        return float((made - answer).abs().mean())
