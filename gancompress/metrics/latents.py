"""Whether the student still reacts to its latent: one latent at a time, moved a little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancompress.metrics.features import Features
from gancompress.metrics.sampling import Sampler, check_images, image_of
from gancompress.modules.undisturbed import evaluating

NAMED = 8
"""How many latents are named."""


@dataclass(frozen=True)
class LatentToll:
    """What was lost of the diversity around single latents (ours).

    Around each latent some others are drawn, at ``strength`` times a normal number away in each
    coordinate; the spread of their outputs in the features, the student's over the teacher's, says
    whether a turn of the latent still changes as much.

    Attributes:
        n: latents looked at.
        mean: of the ratios; 1: nothing was lost.
        dull: how many latents kept less than half.
        worst: their numbers, the least first, and ``ratios`` of these.
        strength: how far the others are.
    """

    n: int
    mean: float
    dull: int
    worst: tuple[int, ...]
    ratios: tuple[float, ...]
    strength: float


@torch.no_grad()
def latent_toll(
    teacher: nn.Module,
    student: nn.Module,
    sampler: Sampler,
    features: Features,
    *,
    n: int = 64,
    others: int = 4,
    strength: float = 0.5,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> LatentToll | None:
    """Compare how outputs of both networks spread around each of ``n`` latents (ours).

    All other inputs (the class, say) stay as they are. ``None`` where the generator takes no latent
    (n, z) of real numbers.

    Raises:
        DataError: the images cannot be read, or do not fit the features.
    """
    rng = torch.Generator().manual_seed(seed)
    inputs = sampler(n, rng)
    place = next((i for i, x in enumerate(inputs) if x.is_floating_point() and x.ndim == 2), None)
    if place is None:
        return None
    spreads: list[Tensor] = []
    noise = [torch.randn(inputs[place].shape, generator=rng) * strength for _ in range(others)]
    for network in (teacher, student):
        views = []
        for one in noise:
            moved = (*inputs[:place], inputs[place] + one.to(inputs[place]), *inputs[place + 1 :])
            views.append(_seen(network, sampler, moved, features, device))
        x = torch.stack(views)  # (others, n, d)
        spreads.append((x - x.mean(0)).norm(dim=2).mean(0))
    ratios = spreads[1] / spreads[0].clamp_min(1e-12)
    order = ratios.argsort()[:NAMED]
    return LatentToll(
        n, float(ratios.mean()), int((ratios < 0.5).sum()),
        tuple(order.tolist()), tuple(ratios[order].tolist()), strength,
    )  # fmt: skip


def _seen(
    network: nn.Module,
    sampler: Sampler,
    inputs: Sequence[Tensor],
    features: Features,
    device: str | torch.device,
) -> Tensor:
    with evaluating(network):
        images = image_of(sampler, network(*(part.to(device) for part in inputs)))
    check_images(images)
    return features(images.float().cpu())[0].double()
