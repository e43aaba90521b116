"""Convolutions under weight norm and spectral norm, under the state-dict names of torch's hooks.

Published vocoders and discriminators were saved with ``torch.nn.utils.weight_norm`` (names
``weight_g``, ``weight_v``) and ``torch.nn.utils.spectral_norm`` (``weight_orig``, ``weight_u``,
``weight_v``). Those hooks are deprecated and keep a module from being copied; these layers hold the
same tensors and compute the same weight. Every layer also loads the names of torch's
parametrizations, and a plain ``weight``.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "Renamed",
    "SpectralNormConv1d",
    "SpectralNormConv2d",
    "WeightNormConv1d",
    "WeightNormConv2d",
    "WeightNormConvTranspose1d",
    "remove_weight_norm_",
]

_NEW_WEIGHT_NORM = ("parametrizations.weight.original0", "parametrizations.weight.original1")
_NEW_SPECTRAL = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}


class Renamed(nn.Module):
    """Translates an incoming state dict to the names that the layer holds, then loads it."""

    def translate_keys_(self, state: dict[str, Any], prefix: str) -> None:
        """Rename this layer's entries of ``state``, in place."""
        raise NotImplementedError

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self.translate_keys_(state_dict, prefix)
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


class _WeightNorm(Renamed):
    """Weight norm (Salimans & Kingma 2016, Eq. 2): weight = g v / |v|, one norm per first index.

    ``weight_g`` (o, 1, ...) and ``weight_v`` (o, i, ...) are the parameters; for a transposed
    convolution the first index is the input channel, as with torch's default ``dim=0``.
    """

    weight_g: nn.Parameter
    weight_v: nn.Parameter

    def _split(self) -> None:
        whole = cast(Tensor, self._parameters["weight"]).detach()
        del self._parameters["weight"]
        # After the bias, in this order, as torch's hook registers them.
        self.weight_g = nn.Parameter(_norm(whole))
        self.weight_v = nn.Parameter(whole)

    @property
    def weight(self) -> Tensor:
        """The weight that the convolution uses, in the shape of ``weight_v``."""
        if "weight" in self._parameters:
            return cast(Tensor, self._parameters["weight"])
        return torch._weight_norm(self.weight_v, self.weight_g, 0)  # pyright: ignore[reportPrivateUsage]

    def translate_keys_(self, state: dict[str, Any], prefix: str) -> None:
        """Rename this layer's entries of ``state`` to the names that it holds now, in place."""
        for mine, theirs in zip(("weight_g", "weight_v"), _NEW_WEIGHT_NORM, strict=True):
            if prefix + theirs in state:
                state[prefix + mine] = state.pop(prefix + theirs)
        g, v, weight = (prefix + name for name in ("weight_g", "weight_v", "weight"))
        if "weight" in self._parameters:
            if g in state and v in state:
                state[weight] = _product(state.pop(v), state.pop(g))
        elif weight in state:
            whole = state.pop(weight)
            norm = _norm(whole)
            # A row of zeros has no direction: any will do beside a length of 0.
            state[v] = torch.where(norm > 0, whole, torch.ones_like(whole))
            state[g] = norm


class WeightNormConv1d(_WeightNorm, nn.Conv1d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Convolution (n, i, t) -> (n, o, t') under weight norm; arguments of ``nn.Conv1d``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._split()


class WeightNormConv2d(_WeightNorm, nn.Conv2d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Convolution (n, i, h, w) -> (n, o, h', w') under weight norm; arguments of ``nn.Conv2d``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._split()


class WeightNormConvTranspose1d(_WeightNorm, nn.ConvTranspose1d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Transposed convolution (n, i, t) -> (n, o, t') under weight norm, one norm per input."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._split()


class _SpectralNorm(Renamed):
    """Spectral norm (Miyato et al. 2018): weight = orig / (u' orig v), orig as (o, i * kernel).

    In training each forward first makes one power iteration; in eval mode ``weight_u`` (o,) and
    ``weight_v`` (i * kernel,) are used as they are.
    """

    weight_orig: nn.Parameter
    weight_u: Tensor
    weight_v: Tensor

    def _split(self) -> None:
        whole = cast(Tensor, self._parameters["weight"]).detach()
        del self._parameters["weight"]
        self.weight_orig = nn.Parameter(whole)
        rows = whole.flatten(1)
        self.register_buffer("weight_u", _unit(torch.randn(len(rows), device=rows.device)))
        self.register_buffer("weight_v", _unit(torch.randn(rows.shape[1], device=rows.device)))

    @property
    def weight(self) -> Tensor:
        """The weight that the convolution uses, in the shape of ``weight_orig``."""
        if "weight" in self._parameters:
            return cast(Tensor, self._parameters["weight"])
        u, v = self.weight_u, self.weight_v
        if self.training:
            # The next forward overwrites the buffers before this one's backward has run.
            u, v = u.clone(), v.clone()
        device = self.weight_orig.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return _over_sigma(self.weight_orig, u, v)
        return _over_sigma(self.weight_orig, u, v)

    @torch.no_grad()
    def iterate_(self) -> None:
        """Make one power iteration on ``weight_v`` and ``weight_u``."""
        rows = self.weight_orig.flatten(1)
        self.weight_v.copy_(_unit((self.weight_u[:, None] * rows).sum(0)))
        self.weight_u.copy_(_unit((rows * self.weight_v).sum(1)))

    def translate_keys_(self, state: dict[str, Any], prefix: str) -> None:
        """Rename this layer's entries of ``state`` to the names that it holds, in place."""
        for mine, theirs in _NEW_SPECTRAL.items():
            if prefix + theirs in state:
                state[prefix + mine] = state.pop(prefix + theirs)


class SpectralNormConv1d(_SpectralNorm, nn.Conv1d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Convolution (n, i, t) -> (n, o, t') under spectral norm; arguments of ``nn.Conv1d``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._split()

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, i, t) to (n, o, t')."""
        if self.training:
            self.iterate_()
        return super().forward(input)


class SpectralNormConv2d(_SpectralNorm, nn.Conv2d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Convolution (n, i, h, w) -> (n, o, h', w') under spectral norm; takes what nn.Conv2d does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._split()

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, i, h, w) to (n, o, h', w')."""
        if self.training:
            self.iterate_()
        return super().forward(input)


def remove_weight_norm_(network: nn.Module) -> None:
    """Fold every weight norm inside ``network`` into a plain ``weight``; the output stays."""
    for layer in network.modules():
        if isinstance(layer, _WeightNorm) and "weight" not in layer._parameters:
            whole = layer.weight.detach()
            del layer.weight_g, layer.weight_v
            layer.register_parameter("weight", nn.Parameter(whole))


def _norm(weight: Tensor) -> Tensor:
    """Length of each ``weight[k]``, in the shape (o, 1, ...)."""
    return torch.linalg.vector_norm(weight, dim=list(range(1, weight.dim())), keepdim=True)


def _product(v: Tensor, g: Tensor) -> Tensor:
    return v * (g / _norm(v))


def _over_sigma(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return weight / torch.dot(u, torch.mv(weight.flatten(1), v))


def _unit(vector: Tensor) -> Tensor:
    return functional.normalize(vector, dim=0, eps=1e-12)
