"""How long one forward pass takes, with what it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from gancompress.errors import DataError
from gancompress.modules.undisturbed import evaluating


@dataclass(frozen=True)
class Latency:
    """Median and interquartile range in milliseconds of one forward pass, and its conditions."""

    median_ms: float
    iqr_ms: float
    runs: int
    batch: int
    dtype: str
    layout: str
    device: str
    threads: int

    def __str__(self) -> str:
        return f"{self.median_ms:.2f} ms (IQR {self.iqr_ms:.2f})"


def _layout(module: nn.Module) -> str:
    weights = [p for p in module.parameters() if p.ndim == 4 and min(p.shape[1], p.shape[2]) > 1]
    last = [p.is_contiguous(memory_format=torch.channels_last) for p in weights]
    if not last or not any(last):
        return "contiguous"
    return "channels_last" if all(last) else "mixed"


def latency(
    module: nn.Module, example: Sequence[object], *, seconds: float = 1.0, threads: int = 1
) -> Latency:
    """Time ``module(*example)`` in eval mode without gradients for about ``seconds``.

    ``torch.utils.benchmark`` warms up, synchronises the device and picks the block size; the
    median and IQR are over blocks.

    Raises:
        DataError: the example holds no tensor with a batch axis, or the module has no parameter.
    """
    batched = next((a for a in example if isinstance(a, Tensor) and a.ndim > 0), None)
    weight = next(module.parameters(), None)
    if batched is None or weight is None:
        raise DataError("latency needs a module with parameters and an example with a batch axis")
    timer = Timer(
        "module(*example)",
        globals={"module": module, "example": tuple(example)},
        num_threads=threads,
    )
    with evaluating(module), torch.no_grad():
        measured = timer.blocked_autorange(min_run_time=seconds)
    return Latency(
        median_ms=measured.median * 1e3,
        iqr_ms=measured.iqr * 1e3,
        runs=len(measured.times) * measured.number_per_run,
        batch=len(batched),
        dtype=str(weight.dtype).removeprefix("torch."),
        layout=_layout(module),
        device=str(weight.device),
        threads=threads,
    )
