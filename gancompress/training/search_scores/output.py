"""Nearness of outputs to the teacher's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gancompress.training.width_search import SEARCH_SCORES, Asked


@SEARCH_SCORES.register("output")
def output(asked: Asked, *, samples: Annotated[int, Field(ge=1, le=65536)] = 64) -> float:
    """Minus the mean absolute difference of outputs to the teacher's on ``samples`` inputs (ours).

    0 at best; no data is needed. What it does not see is whether the set of outputs stays diverse.
    """
    total = count = 0.0
    for batch in asked.batches(samples):
        gap = asked.output(batch, asked.generator) - asked.output(batch, asked.teacher)
        total, count = total + float(gap.abs().sum()), count + gap.numel()
    return -total / count
