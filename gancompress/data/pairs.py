"""Two pictures that belong together: two sources joined by file name, or one picture in halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from gancompress.data.arrays import Dataset, notes_of, size_of, square
from gancompress.data.folders import open_images
from gancompress.data.framing import Frame, mirror
from gancompress.data.picture_set import PictureSet
from gancompress.errors import ConfigError, DataError

SIDES = ("left", "right")


class Paired:
    """Pairs (input, target), each a function of its index (ours).

    As a `Dataset` it is its targets, so that it can stand where images are asked for.
    """

    def __init__(
        self, inputs: Dataset, targets: Dataset, order: Tensor, notes: Sequence[str] = ()
    ) -> None:
        self.inputs, self.targets, self._order = inputs, targets, order
        self.notes = tuple(notes)

    @property
    def n_classes(self) -> int | None:
        """Classes of the targets, or ``None``."""
        return self.targets.n_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names of the targets, or ``None``."""
        return getattr(self.targets, "class_names", None)

    @property
    def channels(self) -> int:
        """Channels of the targets."""
        return self.targets.channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the targets in pixels."""
        return size_of(self.targets)

    @property
    def resolution(self) -> int:
        """Side of square targets in pixels."""
        return self.targets.resolution

    def __len__(self) -> int:
        return len(self._order)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return the targets alone: images (n, c, h, w) in [-1, 1], and their labels."""
        return self.targets.batch(torch.as_tensor(indices, dtype=torch.int64))

    def pairs(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return inputs and targets (n, c, h, w) in [-1, 1], and the labels of the targets."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        inputs, _ = self.inputs.batch(self._order[chosen])
        targets, labels = self.targets.batch(chosen)
        return inputs, targets, labels


def paired(
    inputs: str | Path | Dataset,
    targets: str | Path | Dataset,
    *,
    scale: int = 1,
    **options: Any,
) -> Paired:
    """Join two sources by the names of their files, suffixes aside.

    Arrays have no names; they are joined by row. Folders (classes) are part of a name on both
    sides or on none.

    Args:
        inputs: what the generator reads: a path for `open_images`, or a data set.
        targets: what it should make of them.
        scale: how many times as high and wide a target is (super-resolution).
        options: of `open_images`, for both sides; a ``size`` is that of the inputs.

    Raises:
        DataError: names without a partner, names twice, or sizes that do not fit.
        ConfigError: an option is none.
    """
    if not isinstance(scale, int) or scale < 1:
        raise ConfigError(f"scale must be a whole number of at least 1; found {scale!r}")
    x = open_images(inputs, **options) if isinstance(inputs, (str, Path)) else inputs
    if options.get("size") is not None:
        high, wide = size_of(x)
        options = {**options, "size": (high * scale, wide * scale)}
    crop = Frame.of(crop=options.get("crop")).crop
    if isinstance(crop, tuple):
        options = {**options, "crop": (crop[0] * scale, crop[1] * scale)}
    y = open_images(targets, **options) if isinstance(targets, (str, Path)) else targets
    order = _joined(x, y)
    (high, wide), found = size_of(x), size_of(y)
    if found != (high * scale, wide * scale):
        times = f" times scale={scale}" if scale > 1 else ""
        raise DataError(
            f"inputs are {wide}x{high} (width x height){times}, targets {found[1]}x{found[0]}. "
            "Give size=..., or scale=... where targets are larger"
        )
    notes = [f"inputs: {n}" for n in notes_of(x)] + [f"targets: {n}" for n in notes_of(y)]
    return Paired(x, y, order, [f"{len(order):,} pairs", *notes])


def side_by_side(path: str | Path, *, ab: str = "left", **options: Any) -> Paired:
    """Split pictures that hold input and target beside each other, as pix2pix stores them.

    ``ab`` is the side of the input. Options are those of `open_images` and hold for each half.

    Raises:
        DataError: no pictures, or an odd width.
        ConfigError: ``ab`` is no side.
    """
    if ab not in SIDES:
        raise ConfigError(f"ab={ab!r} is none of {', '.join(SIDES)}: the side of the input")
    defaults = (("size", None), ("crop", None), ("flip", False))
    frame = Frame.of(*[options.pop(name, default) for name, default in defaults])
    whole = open_images(path, **options)
    if not isinstance(whole, PictureSet):
        raise DataError(f"{path} holds arrays; only pictures lie side by side")
    if size_of(whole)[1] % 2:
        high, wide = size_of(whole)
        raise DataError(f"pictures of {path} are {wide}x{high}: an odd width has no halves")
    inputs, targets = Half(whole, ab, frame), Half(whole, SIDES[ab == "left"], frame)
    notes = [f"side by side, the input is {ab}", *whole.notes]
    return Paired(inputs, targets, torch.arange(len(inputs)), notes)


class Half:
    """The left or right half of each picture of a set, framed on its own (ours)."""

    def __init__(self, whole: PictureSet, side: str, frame: Frame) -> None:
        self.whole, self.side, self.frame = whole, side, frame
        self.channels, self.n_classes = whole.channels, whole.n_classes
        self.class_names = whole.class_names
        high, wide = whole.size
        self.size = frame.size_of(high, wide // 2, f"the {side} half of each picture")

    @property
    def resolution(self) -> int:
        """Side of square halves in pixels."""
        return square(self.size)

    def __len__(self) -> int:
        return len(self.whole) * (2 if self.frame.flip else 1)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 halves (n, c, h, w) in [-1, 1] and labels (n,) or ``None``."""
        chosen, count = torch.as_tensor(indices, dtype=torch.int64), len(self.whole)
        raw, labels = self.whole.raw(chosen % count)
        middle = raw.shape[-1] // 2
        halves = raw[..., :middle] if self.side == "left" else raw[..., middle:]
        frame = replace(self.frame, flip=False)
        framed = torch.stack([frame.apply(half.permute(1, 2, 0).numpy()) for half in halves])
        # Mirrored where they lie: flipping the whole would swap input and target.
        mirrored = torch.stack(
            [mirror(f) if i >= count else f for f, i in zip(framed, chosen.tolist())]
        )
        return self.whole.scaled(mirrored), labels


def _joined(x: Dataset, y: Dataset) -> Tensor:
    """Return for each target the index of its input."""
    x_names, y_names = (getattr(data, "names", None) or None for data in (x, y))
    if x_names is None or y_names is None:
        if (x_names is None) != (y_names is None) or len(x) != len(y):
            raise DataError(
                f"{len(x):,} inputs and {len(y):,} targets cannot be joined: "
                + ("one side has no file names" if len(x) == len(y) else "different numbers")
            )
        return torch.arange(len(y))
    if (x.n_classes is None) != (y.n_classes is None):
        raise DataError("one side has class folders and the other has none: names cannot match")
    inputs, targets = _stems(x_names, "inputs"), _stems(y_names, "targets")
    alone = [name for name in targets if name not in inputs]
    unused = [name for name in inputs if name not in targets]
    if alone or unused:
        raise DataError(
            f"{len(unused):,} inputs have no target ({_few(unused)}); "
            f"{len(alone):,} targets have no input ({_few(alone)})"
        )
    order = torch.tensor([inputs[name] for name in targets], dtype=torch.int64)
    flips = len(y) // len(targets)
    if len(x) != len(inputs) * flips:
        raise DataError("one side is mirrored and the other is not; give flip=True to both")
    return torch.cat([order + k * len(inputs) for k in range(flips)])


def _stems(names: Sequence[str], what: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for i, name in enumerate(names):
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in found:
            raise DataError(f"two {what} are called {stem}: {names[found[stem]]} and {name}")
        found[stem] = i
    return found


def _few(names: Sequence[str]) -> str:
    return (", ".join(names[:5]) or "none") + (", ..." if len(names) > 5 else "")
