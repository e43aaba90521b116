"""Task ``paired``: each input has one wanted output (pix2pix, label maps, colouring)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import stems_of
from gancompress.data.inputs import InputSampler
from gancompress.data.order import stream
from gancompress.data.pair_adapters import adapt_pairs, holds_pairs
from gancompress.errors import ConfigError, DataError, closest
from gancompress.modules.nested import pick
from gancompress.tasks.check_networks import check_networks
from gancompress.tasks.protocol import TASKS, Batch, Draw, Shown, Sources
from gancompress.tasks.split import Split

ROWS = 4


@TASKS.register("paired")
def paired(
    sources: Sources, *, condition: bool | list[str] = True, held_out: float = 0.05
) -> Paired:
    """Take each input to the output that belongs to it.

    Args:
        sources: ``dataset`` holds pairs (`gancompress.data.pairs`), or the wanted outputs of the
            files that ``sampler`` reads, joined by name. Samples of a data set of another library
            that hold two pictures are pairs (`adapt_pairs`).
        condition: show a discriminator that asks for it the input beside the output: all inputs
            of the output's size, joined along the channels, or only those of these names.
        held_out: share of the pairs that is only measured on.

    Raises:
        ConfigError: no pairs, or no input of that name.
        DataError: names without a partner.
    """
    files = sources.sampler is not None and bool(sources.sampler.files)
    if not files and not hasattr(sources.dataset, "pairs") and holds_pairs(sources.dataset):
        sources = replace(sources, dataset=adapt_pairs(sources.dataset))
    data = sources.needs_dataset("paired", "the wanted outputs")
    if not hasattr(data, "pairs"):
        if sources.sampler is None or not sources.sampler.files:
            raise ConfigError(
                "task paired needs to know what belongs to the data: --input 'x=images(FOLDER)' "
                "with the same file names, or pictures that lie side by side with --ab left"
            )
        data = Joined(sources.sampler, data)
    return Paired(
        data,
        Split(len(data), sources.seed, held_out),
        show_condition=condition if isinstance(condition, bool) else _known(data, condition),
        output_key=sources.output,
    )


class Joined:
    """Inputs that a sampler reads from files, with the outputs of the same names (ours)."""

    def __init__(self, sampler: InputSampler, data: Any) -> None:
        self.sampler, self.data = sampler, data
        stems = stems_of(data)
        if stems is None:
            if len(data) != len(sampler.files):
                raise DataError(
                    f"{len(sampler.files):,} inputs and {len(data):,} wanted outputs, which have "
                    "no file names to join them by"
                )
            self._places = torch.arange(len(data))
            return
        known = {name: i for i, name in enumerate(sampler.files)}
        alone = [stem for stem in stems if stem not in known]
        unused = sorted(set(known) - set(stems))
        if alone or unused:
            raise DataError(
                f"inputs and wanted outputs are joined by file name: {len(unused):,} inputs have "
                f"no output ({_few(unused)}), {len(alone):,} outputs no input ({_few(alone)})"
                f"{mirror_advice(alone, unused)}"
            )
        self._places = torch.tensor([known[stem] for stem in stems])

    def __len__(self) -> int:
        return len(self.data)

    def rows(self, indices: Tensor, rng: torch.Generator) -> tuple[tuple[Any, ...], Tensor]:
        """Return the arguments of the forward, and the wanted outputs."""
        return self.sampler.at(self._places[indices], rng), self.data.batch(indices)[0]


@dataclass(frozen=True)
class Paired:
    """Pairs of input and wanted output (ours).

    Attributes:
        data: has ``pairs(indices)`` or ``rows(indices, rng)``.
        split: which pairs train.
        show_condition: whether a discriminator may see the inputs, or which of them by name.
        output_key: which of the generator's outputs counts, see `pick`.
        rate: of sound, in hertz; ``None``: pictures.
        values: black and white of pictures.
        name: of the task.
    """

    data: Any
    split: Split
    show_condition: bool | tuple[str, ...] = True
    output_key: str | None = None
    rate: int | None = None
    values: tuple[float, float] = (-1.0, 1.0)
    name: str = "paired"

    @property
    def has_real(self) -> bool:
        """Return True: the wanted outputs are real."""
        return True

    @property
    def real_count(self) -> int:
        """Return how many wanted outputs training reads."""
        return self.split.length - self.split.held

    def check(
        self, generator: nn.Module, discriminator: nn.Module | None, augment: tuple[Any, ...]
    ) -> Batch:
        """Run two pairs through the networks.

        Raises:
            DataError: they do not fit.
        """
        batch = self._at(self.split.held_out(2), stream(0, "probe"))
        return check_networks(self, batch, generator, discriminator, augment)

    def batch(self, draw: Draw) -> Batch:
        """Return pairs: every one once before any comes again."""
        return self._at(self.split.training(draw), draw.rng)

    def real(self, draw: Draw) -> Shown:
        """Return the wanted outputs of ``batch`` of this draw, beside their inputs."""
        batch = self._at(self.split.training(draw), draw.rng)
        assert batch.wanted is not None
        return self.shown(batch, batch.wanted)

    def shown(self, batch: Batch, output: Tensor) -> Shown:
        """Return the output, beside its input."""
        return Shown(output, batch.labels, batch.condition)

    def output(self, raw: Any) -> Tensor:
        """Return the output that counts."""
        return pick(raw, self.output_key)

    def terms(self, batch: Batch, output: Tensor, network: nn.Module) -> dict[str, Tensor]:
        """Return nothing: the recipe's losses compare with the wanted output."""
        return {}

    def preview(self, columns: int) -> Batch:
        """Return held-out pairs."""
        return self._at(self.split.held_out(ROWS * columns), stream(self.split.seed, "samples"))

    def held_out(self, n: int, batch: int) -> Iterator[Batch]:
        """Yield pairs that no training sees."""
        rng = stream(self.split.seed, "held out")
        for indices in self.split.held_out(n).split(batch):
            yield self._at(indices, rng)

    def _at(self, indices: Tensor, rng: torch.Generator) -> Batch:
        labels = None
        if hasattr(self.data, "rows"):
            inputs, wanted = self.data.rows(indices, rng)
        else:
            x, wanted, labels = self.data.pairs(indices)
            inputs = (x,)
        return Batch(
            tuple(inputs), labels=labels, wanted=wanted, condition=self._seen(inputs, wanted)
        )

    def _seen(self, inputs: tuple[Any, ...], wanted: Tensor) -> Tensor | None:
        """Return what a discriminator may see of ``inputs``, joined along the channels."""
        seen = list(self._beside_it(inputs, wanted).values())
        return torch.cat(seen, 1) if len(seen) > 1 else seen[0] if seen else None

    def _beside_it(self, inputs: tuple[Any, ...], wanted: Tensor) -> dict[str, Tensor]:
        """Return the inputs by name that make the condition."""
        if self.show_condition is False:
            return {}
        given = dict(zip(input_names(self.data) or [""], inputs, strict=False))
        if self.show_condition is True:
            return {name: x for name, x in given.items() if _beside(x, wanted)}
        for name in self.show_condition:
            if not _beside(given[name], wanted):
                raise DataError(
                    f"task.condition: input {name!r} {tuple(given[name].shape[1:])} does not lie "
                    f"beside the output {tuple(wanted.shape[1:])}: another size"
                )
        return {name: given[name] for name in self.show_condition}

    def condition_names(self) -> list[str]:
        """Return the names of the inputs that make the condition, in their order; maybe none."""
        batch = self._at(self.split.held_out(1), stream(0, "probe"))
        assert batch.wanted is not None
        return [name for name in self._beside_it(batch.inputs, batch.wanted) if name]


def input_names(data: Any) -> list[str]:
    """Return the names of the inputs that ``data`` brings, in order; none without names."""
    sampler = getattr(data, "sampler", None)
    return [] if sampler is None else [part.name for part in sampler.parts]


def _known(data: Any, names: list[str]) -> tuple[str, ...]:
    known = input_names(data)
    for name in names:
        if name not in known:
            raise ConfigError(f"task.condition: no input {name!r}.{closest(name, known)}")
    return tuple(names)


def _beside(x: Any, wanted: Tensor) -> bool:
    return (
        isinstance(x, Tensor)
        and x.is_floating_point()
        and x.ndim == wanted.ndim
        and x.shape[2:] == wanted.shape[2:]
    )


def mirror_advice(alone: list[str], unused: list[str]) -> str:
    """Return what to do where one side alone is mirrored."""
    for names, advice in (
        (alone, "Mirror the inputs, too: 'x=images(FOLDER,flip)'"),
        (unused, "Mirror the outputs, too: --flip"),
    ):
        if any(name.endswith(" (mirrored)") for name in names):
            return f". {advice}"
    return ""


def _few(names: list[str]) -> str:
    return (", ".join(names[:3]) or "none") + (", ..." if names[3:] else "")
