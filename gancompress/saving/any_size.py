"""One run, many sizes: a network trained at nested widths, taken out at any of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gancompress.errors import CheckpointError, ConfigError, TargetError
from gancompress.graph.groups import Cost
from gancompress.graph.plan import Plan
from gancompress.modules.copying import duplicate
from gancompress.saving.files import CONFIG
from gancompress.saving.load import load
from gancompress.saving.save import save
from gancompress.storage import read_folder
from gancompress.surgery.reconstruction.options import Call
from gancompress.surgery.reconstruction.statistics import measure_norms
from gancompress.surgery.verify import Verification
from gancompress.wrapping.entry import wrap
from gancompress.wrapping.handle import Masked
from gancompress.wrapping.widths import uniform_widths

WHOLE = "nested"
"""The folder of a run that holds the network of all sizes."""


@dataclass(frozen=True)
class Sized:
    """A network of one size, taken out of that of all sizes (ours).

    Attributes:
        generator: plain, in eval mode; knows its cut, so that `save` needs no plan.
        verification: of the cut, before norms were measured again.
        before: cost of the whole network, ``after`` of this one.
        norms: paths of norms whose statistics were measured again.
    """

    generator: nn.Module
    verification: Verification
    before: Cost
    after: Cost
    norms: tuple[str, ...] = ()


def save_nested(
    folder: Path, network: nn.Module, order: Mapping[str, Sequence[int]], least: Mapping[str, int]
) -> None:
    """Save a network that was trained at nested widths, with what is needed to cut it.

    Args:
        folder: to make, or to replace where `save` made it.
        network: plain, at its full widths.
        order: by group its channels, the one that the narrowest network has first.
        least: by group the narrowest width that was trained.
    """
    record = {"order": {n: [int(c) for c in o] for n, o in order.items()}, "least": dict(least)}
    save(folder, network, info={"nested": record}, replace=True)


def load_size(
    build_fn: Callable[[], nn.Module],
    path: str | Path,
    target: str,
    example: tuple[Any, ...],
    *,
    inputs: Sequence[Call] = (),
    round_to: int = 1,
) -> Sized:
    """Take the network of size ``target`` out of a run that trained all sizes together (ours).

    Every group keeps the same share of its channels, those that all narrower networks share first;
    the cut is verified. Statistics of norms are those of a mix of widths until they are measured
    again (Yu & Huang 2019, section 4): give ``inputs``.

    Args:
        build_fn: makes the original, uncut network.
        path: the run folder, or its folder ``nested``.
        target: as for `wrap`, of parameters and MACs, no smaller than what was trained.
        example: arguments of one call.
        inputs: calls on which norms are measured again; several hundred samples.
        round_to: widths become multiples of this.

    Raises:
        ConfigError: the run holds one size only, or the target is of time.
        TargetError: narrower than what was trained, or out of reach.
        CheckpointError: the folder is damaged.
    """
    folder = nested_folder(Path(path))
    order, least = _read(folder)
    if "latency" in target:
        raise ConfigError(f"size {target!r}: a size is of params or macs, for example params=3x")
    network = load(build_fn, folder)
    masked = wrap(duplicate(network), example, target=target, round_to=round_to)
    assert masked.budget is not None
    widths = uniform_widths(masked.graph, masked.budget)
    _check_widths(masked, widths, order, least, target)
    keep = {n: sorted(order[n][: widths[n]]) for n in masked.masks}
    small = masked.prune(Plan.of(masked.graph, keep)).eval()
    assert masked.verification is not None
    after = masked.graph.cost({**masked.graph.widths, **{n: len(k) for n, k in keep.items()}})
    norms = measure_norms(small, inputs) if inputs else []
    return Sized(small, masked.verification, masked.original, after, tuple(norms))


def nested_folder(path: Path) -> Path:
    """Return the folder with the network of all sizes of the run ``path``.

    Raises:
        ConfigError: there is none.
    """
    for folder in (path / WHOLE, path, path.parent / WHOLE if path.name == "model" else path):
        if folder.name == WHOLE and folder.is_dir():
            return folder
    raise ConfigError(
        f"{path} holds one size only: a run whose companion sampled_widths has keep: true (recipe "
        "anytime) holds all of them"
    )


def _read(folder: Path) -> tuple[dict[str, list[int]], dict[str, int]]:
    _, files = read_folder(folder)
    try:
        record = json.loads(files[CONFIG])["info"]["nested"]
        order = {str(n): [int(c) for c in o] for n, o in record["order"].items()}
        least = {str(n): int(w) for n, w in record["least"].items()}
        if any(sorted(o) != list(range(len(o))) for o in order.values()) or set(least) != set(
            order
        ):
            raise ValueError("the order of a group is none")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder} holds no network of nested widths: {error!r}") from error
    return order, least


def _check_widths(
    masked: Masked,
    widths: Mapping[str, int],
    order: Mapping[str, Sequence[int]],
    least: Mapping[str, int],
    target: str,
) -> None:
    sizes = {n: m.size for n, m in masked.masks.items()}
    if sizes != {n: len(o) for n, o in order.items()}:
        raise CheckpointError(
            "the network that was built has other channel groups than the one that was trained: "
            f"{_listed(sizes)} against {_listed({n: len(o) for n, o in order.items()})}"
        )
    short = {n: w for n, w in widths.items() if n in least and w < least[n]}
    if short:
        smallest = masked.graph.cost({**masked.graph.widths, **least})
        times = masked.original.params / smallest.params
        raise TargetError(
            f"size {target} is narrower than what was trained: the smallest has "
            f"{smallest.params:,} parameters (params={np.floor(times * 100) / 100:g}x)"
        )


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{n} ({s})" for n, s in sorted(sizes.items())[:4])
