"""``gancompress.report``: what compression changed, as one printable table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from gancompress.errors import DataError
from gancompress.metrics.cost import Footprint, footprint
from gancompress.metrics.latency import Latency, latency
from gancompress.modules.nested import pick
from gancompress.modules.undisturbed import evaluating
from gancompress.reporting.tables import Table, before_after, fewer, si


@dataclass(frozen=True)
class Report:
    """Size, cost and speed of teacher and small generator, and how far their outputs are apart.

    The differences are over the example's outputs, in the generator's own units.
    """

    teacher: Footprint
    small: Footprint
    teacher_latency: Latency
    small_latency: Latency
    max_difference: float
    mean_difference: float

    @property
    def compression(self) -> float:
        """Original over remaining parameters."""
        return self.teacher.params / self.small.params

    def table(self) -> Table:
        """Return the before/after table."""
        old, new = self.teacher, self.small
        was, now = self.teacher_latency, self.small_latency
        rows = [
            ("parameters", si(old.params), si(new.params), fewer(old.params, new.params, "fewer")),
            ("MACs an image", si(old.macs), si(new.macs), fewer(old.macs, new.macs, "fewer")),
            ("weights", f"{si(old.bytes)}B", f"{si(new.bytes)}B", fewer(old.bytes, new.bytes)),
            ("latency", str(was), str(now), fewer(was.median_ms, now.median_ms, "faster")),
            ("largest output difference", "", "", f"{self.max_difference:.3g}"),
            ("mean output difference", "", "", f"{self.mean_difference:.3g}"),
        ]
        layout = was.layout if was.layout == now.layout else f"{was.layout} then {now.layout}"
        note = (
            "MACs = FLOPs / 2, convolutions and matrix products. Latency: median of one pass, "
            f"batch {was.batch}, {was.dtype}, {layout}, {was.device}, "
            f"{was.threads} thread{'s' if was.threads > 1 else ''}."
        )
        return before_after("before and after", rows, note)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures with their conditions, ready for JSON."""
        return {**asdict(self), "compression": self.compression}

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        return str(self.table())


@torch.no_grad()
def output_difference(
    teacher: nn.Module, small: nn.Module, example: Sequence[object], output: str | None = None
) -> tuple[float, float]:
    """Return the largest and the mean absolute difference of the two outputs on ``example``.

    ``output`` says which of several tensors is compared (see `pick`).

    Raises:
        DataError: it cannot be told which tensor, or the two differ in shape.
    """
    with evaluating(teacher), evaluating(small):
        first, second = (pick(network(*example), output) for network in (teacher, small))
    if first.shape != second.shape:
        raise DataError(f"outputs differ in shape: {tuple(first.shape)} and {tuple(second.shape)}")
    gap = (first.double() - second.double()).abs()
    return float(gap.max()), float(gap.mean())


def report(
    teacher: nn.Module,
    small: nn.Module,
    *,
    example: Sequence[object],
    seconds: float = 0.5,
    threads: int | None = None,
    output: str | None = None,
) -> Report:
    """Compare ``small`` with ``teacher`` on the arguments ``example`` (first axis: batch).

    ``output`` says which of several outputs is compared: ``"0"``, or a key or field.

    Each is timed for about ``seconds`` on ``threads`` threads (``None``: torch's current number).

    Raises:
        DataError: the example has no batch axis, or the outputs cannot be compared.
    """
    threads = torch.get_num_threads() if threads is None else threads
    largest, mean = output_difference(teacher, small, example, output)
    return Report(
        teacher=footprint(teacher, example),
        small=footprint(small, example),
        teacher_latency=latency(teacher, example, seconds=seconds, threads=threads),
        small_latency=latency(small, example, seconds=seconds, threads=threads),
        max_difference=largest,
        mean_difference=mean,
    )
