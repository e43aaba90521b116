"""Relations between images and their latent-shifted versions (StyleKD, Xu et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill.maths import full_precision, unit, widen
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs, resolve_pairs
from gancompress.distill.taps import Taps, deafened
from gancompress.errors import ConfigError, DataError
from gancompress.modules.undisturbed import evaluating, traceless

_DRAWS = 8


def relation_divergence(
    student: Tensor, student_shifted: Tensor, teacher: Tensor, teacher_shifted: Tensor
) -> Tensor:
    """Return KL(teacher || student) of softmaxed cosines between samples and shifted samples.

    The relation loss of StyleKD (Xu et al. 2022).
    Activations are (n, c, h, w); row i of the (n, n) matrix compares sample i with every shifted
    one. In nats, mean over rows.
    """
    logits = unit(student.flatten(1)) @ unit(student_shifted.flatten(1)).T
    wanted = unit(teacher.flatten(1)) @ unit(teacher_shifted.flatten(1)).T
    return F.kl_div(
        logits.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean"
    )


def latent_directions(
    module: nn.Module, example: tuple[Any, ...], latent: int, taps: Sequence[str], count: int
) -> Tensor:
    """Return the ``count`` latent directions (count, dim) that move ``taps`` most (ours).

    Eigenvectors of the mean of J'J over the example, J the derivative of the taps by the latent,
    estimated with random projections. StyleKD takes those of the style layers' weights, which only
    StyleGAN has.
    """
    z = example[latent].detach().clone().requires_grad_()
    args = (*example[:latent], z, *example[latent + 1 :])
    rng = torch.Generator().manual_seed(0)
    second = torch.zeros(z[0].numel(), z[0].numel(), dtype=z.dtype, device=z.device)
    devices = sorted({p.device for p in module.parameters() if p.device.type == "cuda"}, key=str)
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), evaluating(module):
        with Taps(module, taps) as recorder:
            traceless(module, args)
            outputs = list(recorder.take().values())
        for draw in range(_DRAWS):
            signs = [
                (torch.randint(0, 2, x.shape, generator=rng) * 2 - 1).to(x.device, x.dtype)
                for x in outputs
            ]
            total = torch.stack([(x * s).sum() for x, s in zip(outputs, signs, strict=True)]).sum()
            (row,) = torch.autograd.grad(total, z, retain_graph=draw + 1 < _DRAWS)
            second += row.flatten(1).T @ row.flatten(1)
    return torch.linalg.eigh(second.double()).eigenvectors.flip(1).T[:count].to(z.dtype)


@DISTILLERS.register("latent_direction")
class LatentDirection(nn.Module):
    """Mean over pairs of ``relation_divergence`` under shifts along main latent directions.

    Sample i is shifted along direction i mod ``count`` by ``strength`` times the next sample's own
    coordinate there: as random as the latents, without a random state of its own. The only
    distiller that runs the networks again: one more pass of each on the first ``samples`` of the
    batch (their buffers are left as they were). The shift of StyleKD is 5 times a Gaussian on unit
    directions of its style space; 2 for a Gaussian latent is ours. Scale: nats, below 2 as cosines
    are in [-1, 1]; StyleKD's weight is 30. Channels may shrink freely.

    Raises:
        ConfigError: the generator takes no floating latent of shape (n, dim).
        DataError: a batch of fewer than 2.
    """

    pairs: Pairs

    def __init__(
        self,
        context: Context,
        *,
        pairs: Sequence[str | Sequence[str]] | None = None,
        strength: Annotated[float, Field(gt=0.0)] = 2.0,
        samples: Annotated[int, Field(ge=2)] = 16,
        count: Annotated[int, Field(ge=1)] = 8,
    ) -> None:
        super().__init__()
        self.pairs = resolve_pairs(context, pairs)
        self.strength = strength
        self.samples = samples
        self.latent = _latent(context.example)
        # In a tuple: the networks must not become part of our parameters or state.
        self._networks = (context.student, context.teacher)
        theirs = list(dict.fromkeys(t for _, t in self.pairs))
        self.register_buffer(
            "directions",
            latent_directions(context.teacher, context.example, self.latent, theirs, count),
        )

    directions: Tensor

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        n = min(self.samples, batch.student_images.shape[0])
        if n < 2:
            raise DataError("latent_direction compares samples: it needs a batch of at least 2")
        full = batch.student_images.shape[0]
        args = tuple(
            x[:n] if isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == full else x
            for x in batch.inputs
        )
        args = (*args[: self.latent], self.shifted(args[self.latent]), *args[self.latent + 1 :])
        student, teacher = self._networks
        own = _activations(student, args, [s for s, _ in self.pairs])
        with torch.no_grad():
            theirs = _activations(teacher, args, [t for _, t in self.pairs])
        losses: list[Tensor] = []
        for s, t in self.pairs:
            a, b = batch.pair(s)
            # The batch holds dead channels at zero; our own pass does not know them.
            living = a.detach().transpose(0, 1).flatten(1).any(dim=1)
            shifted = widen(own[s]) * living.view(1, -1, *[1] * (a.dim() - 2))
            with full_precision(a):
                losses.append(relation_divergence(a[:n], shifted, b[:n], widen(theirs[t])))
        return torch.stack(losses).mean()

    def shifted(self, z: Tensor) -> Tensor:
        """Return latents (n, dim) moved along one direction each."""
        picked = self.directions.to(z.device, z.dtype)
        picked = picked[torch.arange(z.shape[0], device=z.device) % picked.shape[0]]
        length = (z.roll(-1, dims=0) * picked).sum(1, keepdim=True)
        return z + self.strength * length * picked

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: no state depends on channels."""


def _latent(example: tuple[Any, ...]) -> int:
    for index, value in enumerate(example):
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 2:
            return index
    raise ConfigError(
        "latent_direction needs a generator with a floating latent (n, dim) among its inputs; "
        "for image-to-image networks choose 'relational'"
    )


def _activations(module: nn.Module, args: tuple[Any, ...], names: list[str]) -> dict[str, Tensor]:
    with deafened(module), Taps(module, list(dict.fromkeys(names))) as taps:
        traceless(module, args)
        return taps.take()
