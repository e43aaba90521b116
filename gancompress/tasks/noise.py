"""Task ``noise``: latents, and a class where there is one, become images like those of the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import Dataset
from gancompress.data.inputs import InputSampler
from gancompress.data.order import batch_indices, stream
from gancompress.errors import ConfigError
from gancompress.tasks.check_fit import check_fit
from gancompress.tasks.protocol import TASKS, Batch, Draw, Shown, Sources

ROWS = 10


@TASKS.register("noise")
def noise(sources: Sources, *, rate: int = 0) -> Noise:
    """Take latents, and classes where there are any, to images like those of the data.

    Args:
        sources: ``sampler`` draws the inputs; ``dataset`` holds images, or pieces of sound.
        rate: samples a second, of sound without data; 0: the outputs are no sound.

    Raises:
        ConfigError: nothing says how the inputs are drawn, or the data has another rate.
    """
    sampler, data = sources.needs_sampler("noise"), sources.dataset
    return Noise(sampler, data, sources.seed, sound=rate_of(rate, data))


def rate_of(asked: int, data: Any) -> int | None:
    """Return the rate of sound: that of ``data``, else the one asked for; ``None``: no sound.

    Raises:
        ConfigError: they differ, or it is negative.
    """
    own = getattr(data, "rate", None)
    if asked < 0 or (own is not None and asked not in (0, own)):
        raise ConfigError(f"task.rate={asked}: sound of --data has {own} samples a second")
    return own or asked or None


@dataclass(frozen=True)
class Noise:
    """Draws inputs, and real images of the data set if there is one (ours).

    Attributes:
        sampler: draws the generator's inputs.
        dataset: real images in [-1, 1]; without, the teacher's stand in.
        seed: of the order of images and of the preview.
        sound: samples a second; ``None``: the outputs are no sound.
    """

    sampler: InputSampler
    dataset: Dataset | None = None
    seed: int = 0
    name: str = "noise"
    sound: int | None = None

    @property
    def has_real(self) -> bool:
        """Return whether there is a data set."""
        return self.dataset is not None

    def check(
        self, generator: nn.Module, discriminator: nn.Module | None, augment: tuple[Any, ...]
    ) -> Batch:
        """Run two samples through the networks, see `check_fit`.

        Raises:
            DataError: they do not fit.
        """
        inputs = check_fit(
            generator,
            self.sampler,
            discriminator=discriminator,
            dataset=self.dataset,
            augment=augment,
        )
        return Batch(inputs, labels=self.sampler.labels(inputs))

    def batch(self, draw: Draw) -> Batch:
        """Return freshly drawn inputs."""
        inputs = self.sampler(draw.n, draw.rng)
        return Batch(inputs, labels=self.sampler.labels(inputs))

    def real(self, draw: Draw) -> Shown:
        """Return images of the data: every one once before any comes again."""
        assert self.dataset is not None
        picked = batch_indices(len(self.dataset), batch=draw.n, seed=self.seed, step=draw.number)
        output, labels = self.dataset.batch(draw.rows(picked))
        # Classes that the generator knows nothing of are not shown: made images have none.
        return Shown(output, labels if self.sampler.draws_labels else None)

    def shown(self, batch: Batch, output: Tensor) -> Shown:
        """Return the image with its class."""
        return Shown(output, batch.labels)

    def output(self, raw: Any) -> Tensor:
        """Return the images, picked as the sampler says."""
        return self.sampler.image(raw)

    def terms(self, batch: Batch, output: Tensor, network: nn.Module) -> dict[str, Tensor]:
        """Return nothing: images from noise have no wanted answer."""
        return {}

    def preview(self, columns: int) -> Batch:
        """Return ten rows of fixed latents, a class a column; of more classes the first ones."""
        n = ROWS * columns
        inputs = self.sampler(n, stream(self.seed, "samples"))
        labels = self.sampler.labels(inputs)
        if self.sampler.n_classes is not None and labels is not None:
            shown = min(columns, self.sampler.n_classes)
            inputs = self.sampler.relabelled(inputs, torch.arange(n) % columns % shown)
        return Batch(inputs, labels=self.sampler.labels(inputs))

    def held_out(self, n: int, batch: int) -> Iterator[Batch]:
        """Yield latents of a stream that no training draws from."""
        rng = stream(self.seed, "held out")
        for start in range(0, n, batch):
            inputs = self.sampler(min(batch, n - start), rng)
            yield Batch(inputs, labels=self.sampler.labels(inputs))

    @property
    def real_count(self) -> int | None:
        """Return how many real outputs there are; ``None``: no end of them."""
        return None if self.dataset is None else len(self.dataset)

    @property
    def rate(self) -> int | None:
        """Return the rate of sound, ``None`` of images."""
        return self.sound

    @property
    def values(self) -> tuple[float, float]:
        """Return [-1, 1]."""
        return (-1.0, 1.0)
