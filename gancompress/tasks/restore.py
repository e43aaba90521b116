"""Task ``restore``: make a spoilt picture good again (super-resolution, deblurring, denoising)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.errors import ConfigError, DataError
from gancompress.tasks.paired import Joined, Paired
from gancompress.tasks.protocol import TASKS, Sources
from gancompress.tasks.split import Split


def _possible(
    *, scale: int, blur: float, noise: float, patch: int, unit: bool, held_out: float
) -> None:
    if scale < 1 or blur < 0 or noise < 0 or patch < 0:
        raise ConfigError(
            f"task restore: scale {scale} must be at least 1; blur {blur}, noise {noise} and patch "
            f"{patch} must not be negative"
        )
    if patch % scale:
        raise ConfigError(f"task restore: patch {patch} is no multiple of scale {scale}")


@TASKS.register("restore", check=_possible)
def restore(
    sources: Sources,
    *,
    scale: int = 1,
    blur: float = 0.0,
    noise: float = 0.0,
    patch: int = 0,
    unit: bool = False,
    held_out: float = 0.05,
) -> Paired:
    """Spoil the data's pictures as said, and want them back.

    Args:
        sources: ``dataset`` holds the good pictures; or pairs of spoilt and good ones (also
            ``sampler`` reads the spoilt ones from files of the same names), taken as they are.
        scale: how many times smaller the input is (bicubic, with antialiasing).
        blur: sigma in pixels of a Gaussian blur before that.
        noise: standard deviation of Gaussian noise after it, values being in [-1, 1].
        patch: side of random squares that are cut out of the good pictures; 0: whole pictures.
        unit: the network reads and makes [0, 1] instead of [-1, 1].
        held_out: share of the pictures that is only measured on.

    Raises:
        ConfigError: no data, nothing is spoilt, or both pairs and how to spoil.
        DataError: names without a partner, or the pictures are no multiple of ``scale``, or
            smaller than ``patch``.
    """
    data = sources.needs_dataset("restore", "good pictures")
    files = sources.sampler is not None and bool(sources.sampler.files)
    if sources.sampler is not None and sources.sampler.parts and not files:
        raise ConfigError(
            f"task restore makes its inputs of --data, or reads them from files; the inputs given "
            f"are {', '.join(sources.sampler.specs)}. Leave --input out"
        )
    if files or hasattr(data, "pairs"):
        if blur or noise:
            raise ConfigError(
                "task restore takes pairs as they are: leave task.blur and task.noise out, or give "
                "the good pictures alone"
            )
        pairs: Any = Joined(sources.sampler, data) if files and sources.sampler else data
        rows: Any = Scaled(pairs, unit, patch)
    elif scale == 1 and blur == 0 and noise == 0:
        raise ConfigError(
            "task restore spoils nothing: set task.scale, task.blur or task.noise, or give pairs"
        )
    else:
        rows = Spoilt(data, scale=scale, blur=blur, noise=noise, patch=patch, unit=unit)
    return Paired(
        rows,
        Split(len(data), sources.seed, held_out),
        show_condition=False,
        output_key=sources.output,
        values=(0.0, 1.0) if unit else (-1.0, 1.0),
        name="restore",
    )


@dataclass(frozen=True)
class Scaled:
    """Pairs in [-1, 1], or in [0, 1] where ``unit``; squares of ``patch`` pixels of them (ours)."""

    data: Any
    unit: bool
    patch: int = 0

    def rows(self, indices: Tensor, rng: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return inputs and wanted pictures.

        Raises:
            DataError: pictures smaller than a patch, or no whole number of times as large.
        """
        if hasattr(self.data, "pairs"):
            x, wanted, _ = self.data.pairs(indices)
            given: tuple[Tensor, ...] = (x,)
        else:
            given, wanted = self.data.rows(indices, rng)
        if self.patch:
            given, wanted = self._cut(given, wanted, rng)
        inputs = (_shifted(x, self.unit) if x.ndim == 4 else x for x in given)
        return tuple(inputs), _shifted(wanted, self.unit)

    def _cut(
        self, given: tuple[Tensor, ...], wanted: Tensor, rng: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the same random square of inputs and wanted pictures, another of each sample."""
        high, wide = next(x for x in given if x.ndim == 4).shape[2:]
        times = wanted.shape[2] // high
        if wanted.shape[2:] != (times * high, times * wide) or self.patch % times:
            raise DataError(
                f"pictures of {tuple(wanted.shape[2:])} are no whole number of times as large as "
                f"inputs of {(high, wide)}, or task.patch={self.patch} is no multiple of it"
            )
        side = self.patch // times
        if min(high, wide) < side:
            raise DataError(
                f"pictures of {tuple(wanted.shape[2:])} are smaller than task.patch={self.patch}; "
                "task.patch=0 takes them whole"
            )
        tops = torch.randint(high - side + 1, (len(wanted),), generator=rng).tolist()
        lefts = torch.randint(wide - side + 1, (len(wanted),), generator=rng).tolist()

        def cut(x: Tensor, by: int) -> Tensor:
            squares = [
                one[:, by * t : by * (t + side), by * left : by * (left + side)]
                for one, t, left in zip(x, tops, lefts, strict=True)
            ]
            return torch.stack(squares)

        return tuple(cut(x, 1) if x.ndim == 4 else x for x in given), cut(wanted, times)


class Spoilt:
    """Good pictures and what is left of them; a function of index and ``rng`` (ours)."""

    def __init__(
        self, data: Any, *, scale: int, blur: float, noise: float, patch: int, unit: bool
    ) -> None:
        self.data, self.scale, self.blur, self.noise = data, scale, blur, noise
        self.patch, self.unit = patch, unit
        first = data.batch(torch.zeros(1, dtype=torch.int64))[0]
        high, wide = first.shape[2:]
        if patch and min(high, wide) < patch:
            raise DataError(f"pictures are {wide}x{high}, smaller than patch {patch}")
        if not patch and (high % scale or wide % scale):
            raise DataError(
                f"pictures are {wide}x{high}, no multiple of scale {scale}: set task.patch, or "
                "--crop"
            )

    def rows(self, indices: Tensor, rng: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return spoilt and good pictures (n, c, h, w)."""
        good = self.data.batch(indices)[0]
        if self.patch:
            good = torch.stack([self._cut(picture, rng) for picture in good])
        x = blurred(good, self.blur)
        if self.scale > 1:
            size = [side // self.scale for side in x.shape[2:]]
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
        if self.noise:
            x = x + self.noise * torch.randn(x.shape, generator=rng)
        return (_shifted(x, self.unit),), _shifted(good, self.unit)

    def _cut(self, picture: Tensor, rng: torch.Generator) -> Tensor:
        high, wide = picture.shape[1:]
        top = int(torch.randint(high - self.patch + 1, (), generator=rng))
        left = int(torch.randint(wide - self.patch + 1, (), generator=rng))
        return picture[:, top : top + self.patch, left : left + self.patch]


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images (n, c, h, w) under a Gaussian of ``sigma`` pixels, edges repeated."""
    if sigma == 0:
        return images
    reach = max(1, math.ceil(3 * sigma))
    line = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    line = (line / line.sum()).to(images)
    c = images.shape[1]
    padded = F.pad(images, [reach] * 4, mode="replicate")
    rows = F.conv2d(padded, line.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
    return F.conv2d(rows, line.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)


def _shifted(x: Tensor, unit: bool) -> Tensor:
    return (x + 1) / 2 if unit else x
