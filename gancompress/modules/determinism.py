"""Which operators that generators use have no deterministic kernel on a device: by trying them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


def _resized(mode: str) -> Operator:
    return lambda x: F.interpolate(x, scale_factor=2, mode=mode)


def _sampled(x: Tensor) -> Tensor:
    theta = torch.eye(2, 3, device=x.device).expand(len(x), 2, 3)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), False), align_corners=False)


def _embedded(x: Tensor) -> Tensor:
    rows = x.flatten(1)
    return F.embedding(torch.zeros(5, dtype=torch.int64, device=x.device), rows)


def _scattered(x: Tensor) -> Tensor:
    index = torch.zeros(x.flatten().shape, dtype=torch.int64, device=x.device)
    return torch.zeros(3, device=x.device).index_add(0, index, x.flatten())


OPERATORS: dict[str, Operator] = {
    "conv2d": lambda x: F.conv2d(x, x.transpose(0, 1)),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, x),
    "interpolate nearest": _resized("nearest"),
    "interpolate bilinear": _resized("bilinear"),
    "interpolate bicubic": _resized("bicubic"),
    "pad reflect": lambda x: F.pad(x, [1, 1, 1, 1], mode="reflect"),
    "pad replicate": lambda x: F.pad(x, [1, 1, 1, 1], mode="replicate"),
    "grid_sample": _sampled,
    "embedding": _embedded,
    "index_add": _scattered,
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 3),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 3),
    "cumsum": lambda x: x.cumsum(-1),
    "matmul": lambda x: x @ x.transpose(-1, -2),
}


def without_deterministic_kernel(
    device: torch.device, operators: dict[str, Operator] | None = None
) -> list[str]:
    """Return the names of ``operators`` that torch refuses on ``device`` in deterministic mode.

    Each runs forwards and backwards once, on a few numbers (ours). The mode is put back.
    """
    refused: list[str] = []
    with _deterministic():
        for name, operator in (OPERATORS if operators is None else operators).items():
            x = torch.ones(2, 2, 4, 4, device=device, requires_grad=True)
            try:
                operator(x).sum().backward()
            except RuntimeError as error:
                if "deterministic" not in str(error).lower():
                    raise
                # cuBLAS has deterministic kernels, and wants to be asked for them by a variable.
                variable = "CUBLAS_WORKSPACE_CONFIG" in str(error)
                refused.append(
                    f"{name} (unless CUBLAS_WORKSPACE_CONFIG=:4096:8)" if variable else name
                )
    return refused


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
