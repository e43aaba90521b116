"""The registry of motifs: one small generator class per idiom, with the share that could go.

A motif class takes its width as the only constructor argument (`c`, default given), so that the
stated free channels can be checked against a narrower build of the very same class: a weight whose
output dimension follows `c` is free, one that does not is fixed by the interface of the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Motif:
    """One idiom.

    Attributes:
        name: identifier used in tests and tables.
        family: the module of the zoo it lives in.
        cls: generator class; `cls(c)` builds it, `example()` gives (args, kwargs).
        free: output rows that could go, by weight. A key is a module path ("up1") or
            "parameter:dim" where the output channels do not sit in the usual place.
        kept: weights that must be reported as kept, with words one of which the reason must name.
        graph_free: rows that are free in mathematics but not under the Python code as it stands
            (a literal size), or not together with what is stated in `free`.
        field: True for the 21 motifs of the published comparison.
        seeds: random plans to try.
    """

    name: str
    family: str
    cls: Callable[..., nn.Module]
    free: Mapping[str, int]
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    graph_free: Mapping[str, int] = field(default_factory=dict)
    field: bool = False
    seeds: tuple[int, ...] = (0, 1)

    def build(self, c: int | None = None) -> Built:
        """Return (module in eval mode, args, kwargs), deterministic; `c` overrides the width."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            # The deprecated hook APIs of weight norm are what old GAN code is made of.
            warnings.simplefilter("ignore", FutureWarning)
            module = self.cls() if c is None else self.cls(c)
        args, kwargs = module.example()
        return module.eval(), args, kwargs


MOTIFS: dict[str, Motif] = {}


def motif(name: str, *, free: Mapping[str, int], **options: Any) -> Callable[[type], type]:
    """Register a generator class under `name`; see `Motif` for the options."""

    def register(cls: type) -> type:
        if name in MOTIFS:
            raise ValueError(f"motif {name!r} is registered twice")
        family = cls.__module__.rsplit(".", 1)[-1]
        MOTIFS[name] = Motif(name=name, family=family, cls=cls, free=free, **options)
        return cls

    return register


# Where a re-parametrisation keeps the raw weight, in the order in which we look for it.
_RAW = (
    "weight",
    "weight_bar",
    "weight_v",
    "weight_orig",
    "parametrizations.weight.original1",
    "parametrizations.weight.original",
)


def locate(module: nn.Module, key: str) -> tuple[str, int]:
    """Resolve a key of `free` to (parameter name, output dimension)."""
    names = dict(module.named_parameters(remove_duplicate=False))
    if ":" in key:
        name, dim = key.split(":")
        return name, int(dim)
    owner = module.get_submodule(key)
    raw = next((f"{key}.{n}" for n in _RAW if f"{key}.{n}" in names), None)
    if raw is None:
        raise KeyError(f"{key!r} owns none of {_RAW}")
    transposed = isinstance(owner, nn.modules.conv._ConvTransposeNd)
    if transposed and owner.groups > 1:
        raise KeyError(f"name the output parameter of the grouped {key!r}, as in 'up.bias:0'")
    # A shared parameter is known by its first name only.
    first = next(n for n, p in names.items() if p is names[raw])
    return first, 1 if transposed else 0


def rows(module: nn.Module, key: str) -> int:
    """Return the size of the output dimension that `key` names."""
    name, dim = locate(module, key)
    return dict(module.named_parameters(remove_duplicate=False))[name].shape[dim]
