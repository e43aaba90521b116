"""The distillers of a run, wired to the activations that they asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.distill import DistillBatch, Distiller, Taps, build_distiller
from gancompress.distill.maths import first_rows
from gancompress.errors import ConfigError
from gancompress.recipes.parts import Weighted

KeptChannels = Callable[[str], Tensor]
"""Module path in the student -> indices (along dim 1) of the channels that live."""


class Distillation:
    """All distillers of a recipe with their weights and taps (ours).

    ``teacher`` and ``student`` must be those that will run in training: hooks are attached here and
    stay until ``remove``.
    """

    def __init__(
        self,
        entries: Sequence[Weighted],
        *,
        teacher: nn.Module,
        student: nn.Module,
        discriminator: nn.Module | None,
        example: tuple[Any, ...],
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        image: Tensor | None = None,
    ) -> None:
        self.weights = [entry.weight for entry in entries]
        self.distillers: list[Distiller] = [
            build_distiller(
                entry.name,
                teacher=teacher,
                student=student,
                discriminator=discriminator,
                example=example,
                labels=labels,
                condition=condition,
                image=image,
                **entry.options,
            )
            for entry in entries
        ]
        self._student = [Taps(student, [s for s, _ in d.pairs]) for d in self.distillers]
        self._teacher = [Taps(teacher, dict(d.pairs)) for d in self.distillers]
        self._kept: dict[str, Tensor] = {}
        self._device = next((p.device for p in student.parameters()), torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.distillers)

    def loss(
        self,
        *,
        inputs: tuple[Any, ...],
        labels: Tensor | None,
        student_images: Tensor,
        teacher_images: Tensor,
        condition: Tensor | None = None,
        host_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the weighted sum of all distillers for the last forward of both networks.

        The teacher may have run on the first samples of the batch only: then the distillers see no
        more of what the student made.

        Raises:
            ConfigError: a tap of the student does not have the batch as its first dimension.
        """
        batch, seen = len(student_images), len(teacher_images)
        total = torch.zeros((), device=student_images.device)
        for weight, distiller, ours, theirs in zip(
            self.weights, self.distillers, self._student, self._teacher, strict=True
        ):
            taken = ours.take(self._kept)
            step = DistillBatch(
                inputs=tuple(part[:seen] for part in inputs),
                labels=None if labels is None else labels[:seen],
                student_images=first_rows(student_images, seen),
                teacher_images=teacher_images,
                student={tap: _first(x, tap, seen, batch) for tap, x in taken.items()},
                teacher=theirs.take(),
                condition=None if condition is None else condition[:seen],
                host_labels=host_labels,
            )
            total = total + weight * distiller(step).float()
        return total

    def remarks(self) -> list[str]:
        """Return what the distillers have to say about how they look (their ``remark``), if any."""
        return [getattr(distiller, "remark", "") for distiller in self.distillers]

    def mute(self, kept: KeptChannels) -> None:
        """Hide from the distillers the channels that have died since the last cut."""
        # Moved once, not in every step that looks at it.
        self._kept = self._by_tap(kept)
        for tap, index in self._kept.items():
            self._kept[tap] = index.to(self._device)

    def shrink(self, kept: KeptChannels) -> None:
        """Follow a live cut: ``kept`` tells the channels that survived it."""
        by_tap = self._by_tap(kept)
        for distiller in self.distillers:
            distiller.shrink({s: by_tap[s] for s, _ in distiller.pairs})
        self._kept = {}

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what learns of the distillers (connectors, own networks) with names."""
        for index, distiller in enumerate(self.distillers):
            for number, parameter in enumerate(distiller.parameters()):
                if parameter.requires_grad:
                    yield f"{index}.{number}", parameter

    def to(self, device: torch.device) -> Distillation:
        """Move the connectors to ``device``, and return this."""
        for distiller in self.distillers:
            if isinstance(distiller, nn.Module):
                distiller.to(device)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Return every distiller's tensors, prefixed with its number."""
        return {
            f"{index}.{name}": tensor
            for index, distiller in enumerate(self.distillers)
            for name, tensor in distiller.state_dict().items()
        }

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Take up the state of a checkpoint."""
        for index, distiller in enumerate(self.distillers):
            own = {
                name.partition(".")[2]: tensor
                for name, tensor in saved.items()
                if name.partition(".")[0] == str(index)
            }
            distiller.load_state_dict(own)

    def remove(self) -> None:
        """Take all hooks off both networks."""
        for taps in (*self._student, *self._teacher):
            taps.remove()

    def _by_tap(self, kept: KeptChannels) -> dict[str, Tensor]:
        taps = {s for distiller in self.distillers for s, _ in distiller.pairs}
        # `encoder[1]` is one of several outputs of module `encoder`.
        return {tap: kept(tap.partition("[")[0]) for tap in sorted(taps)}


def _first(x: Tensor, tap: str, seen: int, batch: int) -> Tensor:
    if seen == batch:
        return x
    if len(x) != batch:
        raise ConfigError(
            f"distill_share: tap {tap!r} has shape {tuple(x.shape)}, without the batch of {batch} "
            "as its first dimension, so that a share of it cannot be told. Set distill_share=1"
        )
    return first_rows(x, seen)
