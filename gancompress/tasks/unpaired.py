"""Task ``unpaired``: from one set of pictures to another, without pairs (CycleGAN, CUT)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.input_kinds import Drawn
from gancompress.data.inputs import InputSampler
from gancompress.data.order import batch_indices, stream
from gancompress.errors import ConfigError, DataError
from gancompress.modules.undisturbed import evaluating
from gancompress.tasks.check_fit import run_or_name
from gancompress.tasks.check_networks import check_networks
from gancompress.tasks.protocol import TASKS, Batch, Draw, Shown, Sources
from gancompress.tasks.split import Split

ROWS = 4


@TASKS.register("unpaired")
def unpaired(
    sources: Sources,
    *,
    identity: float = 0.0,
    cycle: float = 0.0,
    held_out: float = 0.05,
) -> Unpaired:
    """Take pictures of one domain to look like those of the data.

    Args:
        sources: ``sampler`` reads the inputs from files (and draws domain labels, where the
            generator takes them), ``dataset`` holds the domain wanted, ``reverse`` the frozen
            generator of the way back.
        identity: weight of |G(b) - b| for b of the wanted domain (Zhu et al. 2017, section 5.2); a
            generator of several domains is asked for that of b.
        cycle: weight of |reverse(G(a)) - a| (Zhu et al. 2017, eq. 2); the way back is given G(a)
            alone.
        held_out: share of the inputs that is only measured on.

    Raises:
        ConfigError: no inputs from files, or a cycle without a way back.
        DataError: an empty domain, or other domains in the data than the generator is asked for.
    """
    data = sources.needs_dataset("unpaired", "pictures of the wanted domain")
    sampler = sources.needs_sampler("unpaired")
    if not sampler.files:
        raise ConfigError(
            "task unpaired reads pictures: --input 'x=images(FOLDER)'; the inputs given are "
            f"{', '.join(sampler.specs)}"
        )
    cycle = 0.0 if sources.finished else cycle
    if cycle > 0 and sources.reverse is None:
        raise ConfigError("task unpaired: cycle needs the generator of the way back: --reverse")
    if len(data) < 1:
        raise DataError("the wanted domain is empty")
    if sampler.n_classes is not None and data.n_classes != sampler.n_classes:
        raise DataError(
            f"the generator is asked for {sampler.n_classes} domains; --data has "
            f"{data.n_classes or 'no folders of them'}. Give a folder a domain, in the order of "
            "the labels, or another number of labels"
        )
    return Unpaired(
        sampler,
        data,
        Split(len(sampler.files), sources.seed, held_out),
        reverse=sources.reverse,
        identity=identity,
        cycle=cycle,
    )


@dataclass(frozen=True)
class Unpaired:
    """Pictures of two domains (ours).

    Attributes:
        sampler: reads inputs from files.
        data: the wanted domain.
        split: which inputs train.
        reverse: frozen generator of the way back, or ``None``.
        identity: weight of the identity term.
        cycle: weight of the cycle term.
        name: of the task.
    """

    sampler: InputSampler
    data: Any
    split: Split
    reverse: nn.Module | None = None
    identity: float = 0.0
    cycle: float = 0.0
    name: str = "unpaired"

    @property
    def has_real(self) -> bool:
        """Return True: the wanted domain is real."""
        return True

    @property
    def real_count(self) -> int:
        """Return how many real outputs there are: pictures of the wanted domain."""
        return len(self.data)

    @property
    def rate(self) -> int | None:
        """Return ``None``: pictures."""
        return None

    @property
    def values(self) -> tuple[float, float]:
        """Return [-1, 1]."""
        return (-1.0, 1.0)

    def check(
        self, generator: nn.Module, discriminator: nn.Module | None, augment: tuple[Any, ...]
    ) -> Batch:
        """Run two inputs through the networks.

        Raises:
            DataError: they do not fit, or the wanted domain has pictures of another size.
        """
        batch = self._at(self.split.held_out(2), stream(0, "probe"))
        batch = check_networks(self, batch, generator, discriminator, augment)
        with evaluating(generator), torch.no_grad():
            made = self.output(batch.run(generator))
            self._check_terms(batch, made)
        real = self.data.batch(torch.zeros(1, dtype=torch.int64))[0]
        if made.shape[1:] != real.shape[1:]:
            raise DataError(
                f"the generator makes {tuple(made.shape[1:])}, pictures of the wanted domain are "
                f"{tuple(real.shape[1:])}. Use data of one size, or --size / --crop"
            )
        return batch

    def batch(self, draw: Draw) -> Batch:
        """Return inputs, with pictures of the wanted domain where the identity term needs them."""
        batch = self._at(self.split.training(draw), draw.rng)
        if self.identity == 0:
            return batch
        real = self.real(draw)
        extras = {"wanted domain": real.output}
        if real.labels is not None:
            extras["its labels"] = real.labels
        return replace(batch, extras=extras)

    def real(self, draw: Draw) -> Shown:
        """Return pictures of the wanted domain, in an order of their own."""
        seed = self.split.seed + 1
        picked = batch_indices(len(self.data), batch=draw.n, seed=seed, step=draw.number)
        output, labels = self.data.batch(draw.rows(picked))
        # Classes that the generator knows nothing of are not shown: made pictures have none.
        return Shown(output, labels if self.sampler.draws_labels else None)

    def shown(self, batch: Batch, output: Tensor) -> Shown:
        """Return the output, with its domain label where there is one."""
        return Shown(output, batch.labels)

    def output(self, raw: Any) -> Tensor:
        """Return the output that counts."""
        return self.sampler.image(raw)

    def terms(self, batch: Batch, output: Tensor, network: nn.Module) -> dict[str, Tensor]:
        """Return the cycle and the identity term, where they have a weight."""
        found: dict[str, Tensor] = {}
        place = self._picture
        if self.reverse is not None and self.cycle > 0:
            back = self._back(self.reverse, output)
            wanted = batch.inputs[place].float()
            found["cycle"] = self.cycle * (back.float() - wanted).abs().mean()
        if self.identity > 0:
            real = batch.extras["wanted domain"]
            inputs = (*batch.inputs[:place], real, *batch.inputs[place + 1 :])
            if "its labels" in batch.extras:
                inputs = self.sampler.relabelled(inputs, batch.extras["its labels"])
            same = self.output(network(*inputs))
            found["identity"] = self.identity * (same.float() - real.float()).abs().mean()
        return found

    def preview(self, columns: int) -> Batch:
        """Return held-out inputs."""
        return self._at(self.split.held_out(ROWS * columns), stream(self.split.seed, "samples"))

    def held_out(self, n: int, batch: int) -> Iterator[Batch]:
        """Yield inputs that no training sees."""
        rng = stream(self.split.seed, "held out")
        for indices in self.split.held_out(n).split(batch):
            yield self._at(indices, rng)

    @property
    def _picture(self) -> int:
        """Which of the inputs is the picture: the first that is read from files."""
        parts = enumerate(self.sampler.parts)
        return next((i for i, part in parts if not isinstance(part.source, Drawn)), 0)

    def _back(self, reverse: nn.Module, output: Tensor) -> Tensor:
        return self.output(reverse.to(output.device)(output))

    def _check_terms(self, batch: Batch, made: Tensor) -> None:
        """Try the cycle on two samples.

        Raises:
            DataError: the way back fails on outputs, or makes no inputs of them.
        """
        if self.reverse is None or self.cycle == 0:
            return
        back = run_or_name(
            partial(self._back, self.reverse, made),
            f"the way back fails on outputs {tuple(made.shape)} of the generator",
        )
        x = batch.inputs[self._picture]
        if back.shape != x.shape:
            raise DataError(
                f"the way back makes {tuple(back.shape[1:])} of outputs; inputs are "
                f"{tuple(x.shape[1:])}: it is no generator of the way back"
            )

    def _at(self, indices: Tensor, rng: torch.Generator) -> Batch:
        inputs = self.sampler.at(indices, rng)
        return Batch(inputs, labels=self.sampler.labels(inputs))
