"""What a distiller is: taps wanted in, one scalar out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gancompress.distill.maths import widen
from gancompress.errors import ConfigError, DataError, closest
from gancompress.plugins.kinds import DISTILLERS


@dataclass(frozen=True)
class DistillBatch:
    """One training step as the distillers see it (ours).

    Both mappings are keyed by the *student's* tap name. Student tensors carry gradient, dead
    channels at zero (``Taps.take(kept)``); images are (n, c, h, w) in [-1, 1]; labels are int64
    (n,) or None; ``condition`` (n, ...) is what a conditional discriminator is shown beside them;
    ``host_labels`` are the labels of these samples at least, on the host, where they are known.
    """

    inputs: tuple[Any, ...]
    labels: Tensor | None
    student_images: Tensor
    teacher_images: Tensor
    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    condition: Tensor | None = None
    host_labels: Tensor | None = None

    def pair(self, tap: str) -> tuple[Tensor, Tensor]:
        """Return ``recorded`` in at least float32."""
        student, teacher = self.recorded(tap)
        return widen(student), widen(teacher)

    def recorded(self, tap: str) -> tuple[Tensor, Tensor]:
        """Return (student, teacher) at ``tap`` as the run computed them, the teacher's detached.

        Raises:
            ConfigError: the tap is not in the batch (nearest named), or batch and spatial sizes
                differ.
        """
        for side, found in (("student", self.student), ("teacher", self.teacher)):
            if tap not in found:
                raise ConfigError(
                    f"no {side} activation {tap!r} in the batch.{closest(tap, found)} "
                    "Taps are recorded for each entry of distiller.pairs, under the student's name."
                )
        s, t = self.student[tap], self.teacher[tap]
        if s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
            raise ConfigError(
                f"tap {tap!r}: student {tuple(s.shape)} and teacher {tuple(t.shape)} differ in "
                "more than channels; pair maps of equal size"
            )
        return s, t.detach()

    def images(self) -> tuple[Tensor, Tensor]:
        """Return (student, teacher) images, at least float32, the teacher's detached.

        Raises:
            DataError: their shapes differ.
        """
        s, t = self.student_images, self.teacher_images
        if s.shape != t.shape:
            raise DataError(
                f"student images {tuple(s.shape)} and teacher images {tuple(t.shape)} differ"
            )
        return widen(s), widen(t).detach()

    def classes(self, who: str) -> Tensor:
        """Return the labels (n,), for a distiller called ``who`` that cannot do without.

        Raises:
            DataError: there are none.
        """
        if self.labels is None:
            raise DataError(
                f"{who} needs class labels and this batch has none; "
                "use a generator that takes labels, or choose distiller 'attention'"
            )
        return self.labels


@runtime_checkable
class Distiller(Protocol):
    """A loss between teacher and student, for example an ``nn.Module`` called on a batch (ours).

    It may bring a network of its own, made from its options: as a submodule of an ``nn.Module`` it
    is saved with the run and learns; with ``requires_grad_(False)`` it is saved and stays frozen.
    Nobody calls ``train()`` or ``eval()`` on it but the distiller itself.
    """

    @property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """Return the (student tap, teacher tap) wanted in each batch; may be empty."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the connectors and own networks; may be empty. They never change shape."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return tensors to checkpoint (connectors, running maps); may be empty."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take up the state of a checkpoint, also one written after live cuts."""
        ...

    def __call__(self, batch: DistillBatch) -> Tensor:
        """Return the loss, a scalar of at least float32."""
        ...

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Follow a live cut: student tap -> indices of the surviving channels, before the cut.

        A tap that is not named keeps all its channels.
        """
        ...


@dataclass(frozen=True)
class Context:
    """The networks a distiller is built for, and a generator's arguments as example (ours).

    ``condition`` is what a conditional discriminator is shown beside the example's images,
    ``classes`` (n,) int64 the classes of the example, where they are not among its arguments as
    such (one-hot rows); ``image`` what the teacher makes of the example, where it returns more than
    that.
    """

    teacher: nn.Module
    student: nn.Module
    discriminator: nn.Module | None
    example: tuple[Any, ...]
    condition: Tensor | None = None
    image: Tensor | None = None
    classes: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the student computes: a network that a distiller brings along belongs there."""
        return next(self.student.parameters()).device

    def labels(self) -> Tensor | None:
        """Return the class labels of the example: those given, else its only int64 of rank 1."""
        if self.classes is not None:
            return self.classes
        found = [
            value
            for value in self.example
            if isinstance(value, Tensor) and value.dim() == 1 and value.dtype == torch.int64
        ]
        return found[0] if len(found) == 1 else None


def build_distiller(
    name: str,
    *,
    teacher: nn.Module,
    student: nn.Module,
    discriminator: nn.Module | None,
    example: tuple[Any, ...],
    labels: Tensor | None = None,
    condition: Tensor | None = None,
    image: Tensor | None = None,
    **options: Any,
) -> Distiller:
    """Build the distiller registered as ``name`` with its own ``options`` (ours).

    ``discriminator`` is the teacher's; distillers that use it keep a frozen copy. ``labels`` (n,)
    int64 and ``condition`` are what it is shown beside the images of ``example``, if anything
    (labels among its arguments are found without); ``image`` is what the teacher
    makes of it, needed where it returns several tensors. Nothing given is changed.

    Raises:
        ConfigError: unknown name or option (nearest named), or a network that does not fit.
    """
    factory: Callable[[Context], Distiller] = DISTILLERS.bind({**options, "name": name})
    example = tuple(example)
    return factory(Context(teacher, student, discriminator, example, condition, image, labels))
