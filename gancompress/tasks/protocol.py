"""What a task is: all that the training loop knows of data, inputs and wanted outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gancompress.data.adapters import readable
from gancompress.data.inputs import InputSampler
from gancompress.data.named_inputs import bind_names
from gancompress.errors import ConfigError
from gancompress.plugins.kinds import TASKS as TASKS


@dataclass(frozen=True)
class Sources:
    """What the user gave that a task may be made of (ours).

    Attributes:
        sampler: how inputs are drawn or read; ``None`` where nothing says so.
        dataset: real or wanted outputs (images, sound); ``None`` without data.
        seed: of the recipe.
        output: which of the generator's outputs counts, see `pick`; ``None``: the only tensor.
        reverse: a frozen generator of the way back, for tasks that go in circles.
        finished: nothing will be trained: what only losses need may be missing.
    """

    sampler: InputSampler | None = None
    dataset: Any = None
    seed: int = 0
    output: str | None = None
    reverse: nn.Module | None = None
    finished: bool = False

    def needs_sampler(self, task: str) -> InputSampler:
        """Return the sampler.

        Raises:
            ConfigError: there is none.
        """
        if self.sampler is None:
            raise ConfigError(
                f"task {task} needs to know how inputs are drawn, for example "
                "--input 'z=normal(128)'"
            )
        return self.sampler

    def needs_dataset(self, task: str, what: str) -> Any:
        """Return the data set; ``what`` says what it should hold.

        A data set, stream or loader of another library is read as `gancompress.data.adapters.adapt`
        does.

        Raises:
            ConfigError: there is none, or it is no data set.
            DataError: its samples are something else, or it ends early.
        """
        if self.dataset is None:
            raise ConfigError(f"task {task} needs {what}: --data FOLDER")
        return readable(self.dataset)


@dataclass(frozen=True)
class Draw:
    """Which batch is asked for; a batch is a function of this and of the task's seed (ours).

    Attributes:
        n: samples in it.
        number: counts the batches of a run, from 0.
        rng: CPU generator, seeded by (seed, number, rollbacks); each call moves it on.
        part: which samples are looked at: those numbered part, part + parts, part + 2 parts ...
        parts: ranks that share the batch. A task may return the whole batch and leave the choice
            to the loop, or read no more than its `rows`.
        rollbacks: how often the run has gone back; each changes all noise from there on.
    """

    n: int
    number: int
    rng: torch.Generator
    part: int = 0
    parts: int = 1
    rollbacks: int = 0

    def rows(self, indices: Tensor) -> Tensor:
        """Return those of ``indices`` (n,) that are looked at."""
        return indices[self.part :: self.parts]


@dataclass(frozen=True)
class Batch:
    """What one step asks of a generator, and what is known of the answer (ours).

    Attributes:
        inputs: positional arguments of the forward, the batch first.
        kwargs: arguments by name.
        labels: classes (n,), int64, or ``None``.
        wanted: the output wanted for these very inputs, or ``None``.
        condition: what a conditional discriminator is shown beside the output, or ``None``.
        extras: tensors (n, ...) that only the task itself reads.
        host_labels: the labels of these samples at least, on the host, if they were ever there: so
            that nobody must wait for a device to know them.
    """

    inputs: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    labels: Tensor | None = None
    wanted: Tensor | None = None
    condition: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    host_labels: Tensor | None = None

    def __len__(self) -> int:
        parts = (*self.inputs, *self.kwargs.values())
        return len(next(part for part in parts if isinstance(part, Tensor)))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All arguments by place, those by name last: for a network that `bound_to` was told of."""
        return (*self.inputs, *self.kwargs.values())

    def to(self, device: torch.device) -> Batch:
        """Return this batch on ``device``."""
        here = self.labels is not None and self.labels.device.type == "cpu"
        moved = self._each(lambda x: x.to(device, non_blocking=True))
        return replace(moved, host_labels=self.labels) if here else moved

    def first(self, n: int) -> Batch:
        """Return its first ``n`` samples."""
        return self if n >= len(self) else self._each(lambda x: x[:n])

    def only(self, i: int) -> Batch:
        """Return its sample ``i`` alone, as a batch of one."""
        return self._each(lambda x: x[i : i + 1])

    def part(self, part: int, parts: int) -> Batch:
        """Return the samples ``part``, ``part + parts``, ``part + 2 parts`` ... of it."""
        return self if parts == 1 else self._each(lambda x: x[part::parts])

    def run(self, network: nn.Module) -> Any:
        """Return what ``network`` puts out for these inputs."""
        return network(*self.inputs, **self.kwargs)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        n = len(self)

        def maybe(x: Any) -> Any:
            # A tensor without a row a sample (a scale, a table) is the same for all of them.
            return change(x) if isinstance(x, Tensor) and x.ndim and len(x) == n else x

        return replace(
            self,
            inputs=tuple(maybe(x) for x in self.inputs),
            kwargs={name: maybe(x) for name, x in self.kwargs.items()},
            labels=maybe(self.labels),
            wanted=maybe(self.wanted),
            condition=maybe(self.condition),
            extras={name: maybe(x) for name, x in self.extras.items()},
        )


def bound_to(batch: Batch, network: nn.Module) -> None:
    """Let ``network(*batch.arguments)`` do what ``batch.run(network)`` does (ours)."""
    if batch.kwargs:
        slots = list(inspect.signature(network.forward).parameters)
        bind_names(network, [*slots[: len(batch.inputs)], *batch.kwargs])


@dataclass(frozen=True)
class Shown:
    """What a discriminator is shown: an output, real or made, and what comes with it (ours).

    Attributes:
        output: images (n, c, h, w), sound (n, c, time) or volumes.
        labels: classes (n,), int64, or ``None``.
        condition: a tensor (n, ...) that belongs to the output, or ``None``.
    """

    output: Tensor
    labels: Tensor | None = None
    condition: Tensor | None = None

    def to(self, device: torch.device) -> Shown:
        """Return this on ``device``."""
        labels = None if self.labels is None else self.labels.to(device)
        condition = None if self.condition is None else self.condition.to(device)
        return Shown(self.output.to(device), labels, condition)


class Task(Protocol):
    """Answers what the loop asks: inputs, real samples, wanted outputs, losses (ours).

    Everything returned lies on the CPU; the loop moves it to the device. It may also have
    ``real_count``, the number of real outputs (``None``: no end of them): with it, the Frechet
    distance has a floor beside it, measured on real outputs that no other figure looks at.
    """

    @property
    def name(self) -> str:
        """Return the name that it is registered by."""
        ...

    @property
    def has_real(self) -> bool:
        """Return whether it has real samples; without, the teacher's outputs stand in."""
        ...

    def check(
        self, generator: nn.Module, discriminator: nn.Module | None, augment: tuple[Any, ...]
    ) -> Batch:
        """Run two samples through all networks, and return them.

        Nothing is changed.

        Raises:
            DataError: networks, inputs and data do not fit; found and expected are named.
        """
        ...

    def batch(self, draw: Draw) -> Batch:
        """Return the inputs of a step."""
        ...

    def real(self, draw: Draw) -> Shown:
        """Return real samples; those of one ``draw`` belong to its ``batch`` where they pair."""
        ...

    def shown(self, batch: Batch, output: Tensor) -> Shown:
        """Return how ``output``, made for ``batch``, is shown to a discriminator."""
        ...

    def output(self, raw: Any) -> Tensor:
        """Return the tensor that counts among what a generator puts out."""
        ...

    def terms(self, batch: Batch, output: Tensor, network: nn.Module) -> Mapping[str, Tensor]:
        """Return losses of the task's own, by name, weighted; they are added up.

        ``network`` made ``output`` (n, ...), which carries its gradient, of ``batch``.
        """
        ...

    def preview(self, columns: int) -> Batch:
        """Return inputs that are the same at every call, some rows of ``columns``, to look at."""
        ...

    def held_out(self, n: int, batch: int) -> Iterator[Batch]:
        """Yield at most ``n`` samples that no training sees, ``batch`` at a time."""
        ...

    @property
    def rate(self) -> int | None:
        """Return the sampling rate of sound in hertz, ``None`` where outputs are no sound."""
        ...

    @property
    def values(self) -> tuple[float, float]:
        """Return the least and the largest value of outputs: black and white of pictures."""
        ...


def drawn(
    task: Task, samples: int, at_most: int, rng: torch.Generator, device: torch.device
) -> list[Batch]:
    """Return ``samples`` inputs of ``task`` on ``device``, in batches of ``at_most``."""
    left, found = samples, list[Batch]()
    while left > 0:
        found.append(task.batch(Draw(min(left, at_most), len(found), rng)).to(device))
        left -= len(found[-1])
    return found
