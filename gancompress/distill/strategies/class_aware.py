"""Class-aware attention distillation: four readings of what the PPCD-GAN paper names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gancompress.distill.bank import ClassBank, class_means
from gancompress.distill.class_gains import ClassGain, find_gain, named_gain
from gancompress.distill.frozen_discriminator import FrozenDiscriminator
from gancompress.distill.maths import attention_map, full_precision, map_distance, unit
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs, resolve_pairs
from gancompress.errors import ConfigError

Variant = Literal["plain", "gain", "prototype", "cam"]


def _check_options(
    variant: str, pairs: object, gains: object, taps: object, momentum: float
) -> None:
    for option, value, homes in (
        ("pairs", pairs, ("plain", "gain", "prototype")),
        ("gains", gains, ("gain",)),
        ("taps", taps, ("cam",)),
    ):
        if value is not None and variant not in homes:
            raise ConfigError(
                f"class_aware: option {option!r} has no meaning for variant {variant!r} "
                f"(only {', '.join(homes)})"
            )


@DISTILLERS.register("class_aware", check=_check_options)
class ClassAware(nn.Module):
    """Match class-aware attention maps of student and teacher.

    The definitions are ours: PPCD-GAN (Vo et al. 2022) names class-aware attention maps, and gives
    no equation in public. A(F) is the unit map of the mean over channels of F^2, for the same (z,
    y) in both networks.

    - ``plain``: A(F). The class enters only through the generator's input (Zagoruyko & Komodakis
      2017).
    - ``gain``: A(gamma(y) F), with gamma(y) the gains of the conditional norm that reads the tap,
      one a channel (a class) or one a channel and place (a label map, SPADE): each network with
      its own, so the student's channels may be any number; gradient also reaches the gains. A tap
      that no conditional norm reads is matched plainly (``remark`` says which). ``gains`` given
      maps a student tap to the module of its gain.
    - ``prototype``: A(F) averaged over the samples of a class, in a moving average over steps
      (``momentum``) kept for each class and network; the gradient is that of the batch's average.
    - ``cam``: sum_c (d s_y / d F_c) F_c with F the features of the teacher's discriminator on each
      image and s_y its score for class y (``FrozenDiscriminator.class_maps``); beside a condition,
      the score for that: the maps are condition-aware then, and no class is needed. Cheap and
      exact: one pass of the discriminator an image, and the derivative of its head only. It uses no
      generator taps;
      ``taps`` names those of the discriminator (the last found).

    Scale [0, 2], ``cam`` [0, 4] (its maps are signed); sum over pixels, mean over batch
    (``prototype``: classes met) and pairs.

    Raises:
        ConfigError: an unknown variant, an option of another variant, no conditional norm behind
            any tap (``gain``), no discriminator (``cam``).
    """

    pairs: Pairs

    @property
    def remark(self) -> str:
        """Which taps are matched plainly though the variant is ``gain``; empty: none."""
        plain = [tap for tap, gain in self.gains.items() if gain is None]
        if not plain:
            return ""
        return (
            f"class_aware: no conditional norm reads {', '.join(plain)} as such (in both "
            "networks): matched without the class"
        )

    def __init__(
        self,
        context: Context,
        *,
        variant: Variant = "gain",
        pairs: Sequence[str | Sequence[str]] | None = None,
        gains: Mapping[str, str | Sequence[str]] | None = None,
        momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9,
        taps: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.variant = variant
        self.gains: dict[str, tuple[ClassGain, ClassGain] | None] = {}
        self.discriminator: FrozenDiscriminator | None = None
        self.banks = nn.ModuleList()
        if variant == "cam":
            self.discriminator = FrozenDiscriminator(context, "class_aware variant 'cam'", taps)
            if taps is None:
                self.discriminator.keep([list(self.discriminator.sizes)[-1]])
            self._taps: Pairs = ()
        else:
            self._taps = resolve_pairs(context, pairs)
        wanted = list(self._taps)
        if variant == "gain":
            self.gains = _find_gains(context, self._taps, gains or {})
            wanted += [(s.path, t.path) for s, t in filter(None, self.gains.values())]
        if variant == "prototype":
            self.banks.extend(ClassBank(momentum) for _ in range(2 * len(self._taps)))
        self.pairs = tuple(dict.fromkeys(wanted))

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch.

        Raises:
                DataError: no labels in the batch (``prototype``; ``cam`` without a condition).
        """
        if self.discriminator is not None:
            return self._cam(batch, self.discriminator)
        with full_precision(batch.student_images):
            losses = [self._match(batch, index, tap) for index, (tap, _) in enumerate(self._taps)]
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: weights on channels are read anew in each step, maps have no channels."""

    def _match(self, batch: DistillBatch, index: int, tap: str) -> Tensor:
        student, teacher = batch.recorded(tap)
        gains = self.gains.get(tap)
        if gains is not None:
            outputs = batch.recorded(gains[0].path)
            own, wanted = (gain.of(output) for gain, output in zip(gains, outputs, strict=True))
            return map_distance(attention_map(student, own), attention_map(teacher, wanted))
        own, wanted = attention_map(student), attention_map(teacher)
        if self.variant == "prototype":
            labels = batch.classes("class_aware variant 'prototype'")
            means, share = class_means(own, labels)
            theirs, _ = class_means(wanted, labels)
            own = self.banks[2 * index](labels, means, batch.host_labels)
            wanted = self.banks[2 * index + 1](labels, theirs, batch.host_labels).detach()
            return map_distance(own, wanted, share)
        return map_distance(own, wanted)

    def _cam(self, batch: DistillBatch, discriminator: FrozenDiscriminator) -> Tensor:
        labels = batch.labels
        if batch.condition is None:
            labels = batch.classes("class_aware variant 'cam'")
        student, teacher = batch.images()
        wanted = discriminator.class_maps(teacher, labels, batch.condition)
        found = discriminator.class_maps(student, labels, batch.condition)
        with full_precision(student):
            losses = [
                map_distance(unit(found[tap].flatten(1)), unit(wanted[tap].detach().flatten(1)))
                for tap in found
            ]
            return torch.stack(losses).mean()


def _find_gains(
    context: Context, pairs: Pairs, given: Mapping[str, str | Sequence[str]]
) -> dict[str, tuple[ClassGain, ClassGain] | None]:
    known = [s for s, _ in pairs]
    for tap in given:
        if tap not in known:
            raise ConfigError(f"gains: {tap!r} is not a student tap of this distiller: {known}")
    result: dict[str, tuple[ClassGain, ClassGain] | None] = {}
    for s, t in pairs:
        if s in given:
            entry = given[s]
            both = (entry, entry) if isinstance(entry, str) else tuple(entry)
            if len(both) != 2:
                raise ConfigError(
                    f"gains: {entry!r} is neither a path nor [student path, teacher path]"
                )
            own = named_gain(context.student, s, both[0], context.example)
            theirs = named_gain(context.teacher, t, both[1], context.example)
        else:
            own = find_gain(context.student, s, context.example)
            theirs = find_gain(context.teacher, t, context.example)
        result[s] = (own, theirs) if own is not None and theirs is not None else None
    if not any(result.values()):
        raise ConfigError(
            f"class_aware variant 'gain': no conditional norm reads any of {known} directly, in "
            "both networks. Name the gains (gains={tap: module}), or choose other pairs or another "
            "variant."
        )
    return result
