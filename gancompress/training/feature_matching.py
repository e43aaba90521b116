"""Feature matching: made outputs look like the wanted ones to the layers of the discriminator."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.distill.tap_pairs import find_taps
from gancompress.distill.taps import Taps, tap_path
from gancompress.errors import ConfigError
from gancompress.modules.discriminator import DiscriminatorCall, call_of
from gancompress.modules.undisturbed import look
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Shown, Task


@dataclass(frozen=True)
class Judged:
    """What a discriminator says to outputs: logits of each head, and features of its layers."""

    heads: list[Tensor]
    features: list[Tensor]


@dataclass(frozen=True)
class FeatureMatching:
    """Where the features of a discriminator are found (ours).

    Attributes:
        weight: of the term in the generator's loss.
        taps: layers by path; empty: the discriminator returns features beside its logits.
    """

    weight: float
    taps: tuple[str, ...] = ()

    def judged(self, D: nn.Module, call: DiscriminatorCall, shown: Shown) -> Judged:
        """Return what ``D`` says to ``shown``, features in the order of its layers."""
        positional, keywords = call.bind(
            image=shown.output, label=shown.labels, condition=shown.condition
        )
        with Taps(D, self.taps) if self.taps else nullcontext() as taps:
            output: Any = D(*positional, **keywords)
            heads = call.read(output)
            tapped = call.read_features(output) if taps is None else list(taps.take().values())
        return Judged(heads, tapped)

    def loss(self, made: Judged, wanted: Judged) -> Tensor:
        """Return the mean absolute difference, summed over layers and averaged over heads.

        Wang et al. 2018 (pix2pixHD), eq. 4; Kong et al. 2020 (HiFi-GAN), eq. 5. They add up the
        heads as well; here adversarial loss and this one are both averaged, so that their ratio is
        that of the papers.
        """
        pairs = zip(made.features, wanted.features, strict=True)
        terms = [(a.float() - b.float()).abs().mean() for a, b in pairs]
        return torch.stack(terms).sum() / len(made.heads)

    def describe(self) -> str:
        """Return in one line what is matched."""
        where = ", ".join(self.taps) or "the features that the discriminator returns"
        return f"feature matching on {where}"


def gather_feature_matching(
    recipe: Recipe, task: Task, *, discriminator: nn.Module | None, example: Batch, made: Tensor
) -> FeatureMatching | None:
    """Return what the recipe asks for; ``None``: nothing.

    Args:
        recipe: its ``feature_matching``.
        task: knows what a discriminator is shown.
        discriminator: the one that judges in this run.
        example: two samples.
        made: an output for them.

    Raises:
        ConfigError: no discriminator, no wanted output, an unknown layer, or nothing to match.
    """
    asked = recipe.feature_matching
    if asked.weight == 0:
        return None
    if discriminator is None:
        raise ConfigError(
            "feature_matching looks through the discriminator of the run, and there is none (or "
            "adversarial.weight is 0). Set feature_matching.weight=0, or discriminator.policy=fresh"
        )
    if example.wanted is None and asked.to == "wanted":
        raise ConfigError(
            f"feature_matching compares with wanted outputs, and task {task.name} wants no "
            "particular output. Set feature_matching.weight=0, match "
            "feature_matching.to=teacher, or give pairs: --task paired"
        )
    shown = task.shown(example, made)
    call = call_of(discriminator, shown.output, shown.labels, shown.condition)
    values = {"image": shown.output, "label": shown.labels, "condition": shown.condition}
    positional, keywords = call.bind(**values)
    if asked.taps is not None:
        for tap in asked.taps:
            tap_path(discriminator, tap)
        if not asked.taps:
            raise ConfigError("feature_matching.taps is empty: name a layer, or leave it out")
        return FeatureMatching(asked.weight, asked.taps)
    if call.read_features(look(discriminator, positional, keywords)):
        return FeatureMatching(asked.weight)
    try:
        found = find_taps(discriminator, tuple(positional), keywords, results=call.read)
    except ConfigError as error:
        name = type(discriminator).__name__
        raise ConfigError(
            f"feature_matching: {name} returns no features: {error}. Name layers: "
            "feature_matching.taps=[...]"
        ) from error
    return FeatureMatching(asked.weight, tuple(found.values()))
