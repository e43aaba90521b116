"""Chance left out of a run: what train() draws in the shape of its channels differs by width."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DROPOUT = {
    "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "alpha_dropout_", "feature_dropout", "feature_dropout_", "feature_alpha_dropout",
    "feature_alpha_dropout_",
}  # fmt: skip
_LIKE = {"rand_like", "randn_like"}
_NEW = {"rand", "randn"}
_IN_PLACE = {"bernoulli_", "uniform_", "normal_", "exponential_", "log_normal_", "cauchy_"}
_DRAW = 0.375
"""What stands for every number drawn: exact in any precision."""


class Calm(TorchFunctionMode):
    """Replaces random numbers by a constant, and dropout by nothing (ours).

    A masked network and its cut version draw other numbers from the same seed wherever a tensor of
    random numbers has channels; apart from them they must be the same function.

    Args:
        draw: the constant, in (0, 1).

    Attributes:
        drew: whether numbers were asked for (dropout aside).
    """

    def __init__(self, draw: float = _DRAW) -> None:
        super().__init__()
        self._draw, self.drew = draw, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").split(".")[0]
        if name in _DROPOUT:
            return args[0] if args else kwargs["input"]
        if name in ("multi_head_attention_forward", "rrelu"):
            kwargs["training"] = False
        if name == "scaled_dot_product_attention":
            args, kwargs = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args, kwargs
            if len(args) < 5:
                kwargs["dropout_p"] = 0.0
        if name in _LIKE | _NEW | _IN_PLACE or name == "bernoulli":
            self.drew = True
        if name in _LIKE | _NEW:
            kwargs.pop("generator", None)
            if name in _LIKE:
                return torch.full_like(*args, fill_value=self._draw, **kwargs)
            return torch.zeros(*args, **kwargs).add_(self._draw)
        if name == "bernoulli":
            return torch.ones_like(args[0])
        if name in _IN_PLACE and args:
            return args[0].fill_(1.0 if name == "bernoulli_" else self._draw)
        return func(*args, **kwargs)
