"""Stored statistics of norms, measured again on what the cut network puts into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.modules.undisturbed import undisturbed
from gancompress.surgery.reconstruction.options import Call


@dataclass(frozen=True)
class Stored:
    """The buffers of a norm that hold the mean and the variance of each channel."""

    mean: Tensor
    variance: Tensor


def stored_norms(network: nn.Module) -> Iterator[tuple[str, Stored]]:
    """Yield, by path, every module whose own buffers hold a mean and a variance (ours).

    Told by their names (``running_mean``, ``stored_var``) and their equal shape (c,).
    """
    for path, module in network.named_modules():
        own = {n: b for n, b in module.named_buffers(recurse=False) if b.dim() == 1}
        means = [b for n, b in own.items() if "mean" in n]
        variances = [b for n, b in own.items() if "var" in n]
        if len(means) == len(variances) == 1 and means[0].shape == variances[0].shape:
            yield path, Stored(means[0], variances[0])


class Spread:
    """Mean and variance of each channel (dim 1), streamed in float64."""

    def __init__(self) -> None:
        self.n, self.sum, self.square = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take an activation (n, c, ...)."""
        over = [d for d in range(x.dim()) if d != 1]
        x = x.double()
        self.n += x.numel() // x.shape[1]
        self.sum = self.sum + x.sum(over).cpu()
        self.square = self.square + x.square().sum(over).cpu()

    @property
    def mean(self) -> Tensor:
        """The mean (c,)."""
        return self.sum / self.n

    @property
    def variance(self) -> Tensor:
        """The variance (c,), not corrected for the sample."""
        return (self.square / self.n - self.mean.square()).clamp_min(0)


def move_statistics(
    student: Stored, teacher: Stored, kept: Tensor, ours: Spread, theirs: Spread
) -> None:
    """Set the student's statistics to the teacher's, moved by what the cut changed (ours).

    The teacher's stored figures come from its training, not from these samples; only the
    difference between the two networks on the same samples is taken over. With no difference
    nothing changes.

    Args:
        student: written in place.
        teacher: only read.
        kept: the teacher's channels that the student has.
        ours: what the student puts in.
        theirs: what the teacher puts in.
    """
    old_mean, old_var = teacher.mean.double().cpu()[kept], teacher.variance.double().cpu()[kept]
    mean = old_mean + ours.mean - theirs.mean[kept]
    ratio = ours.variance / theirs.variance[kept].clamp_min(1e-30)
    still = theirs.variance[kept] <= 1e-12 * old_var.clamp_min(1e-30)
    variance = torch.where(still, old_var + ours.variance, old_var * ratio)
    student.mean.copy_(mean)
    student.variance.copy_(variance)


def _adds_to(spread: Spread) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """Return a forward pre-hook that notes what comes in."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        spread.add(args[0])

    return hook


@torch.no_grad()
def measure_norms(network: nn.Module, calls: Sequence[Call]) -> list[str]:
    """Set every stored mean and variance to those of what comes in on ``calls``; return the paths.

    All norms normalise by the batch meanwhile, so that each one sees what the others will put out
    (Yu & Huang 2019, section 4). Batches should be as large as in training.
    """
    norms = dict(stored_norms(network))
    modules = {path: network.get_submodule(path) for path in norms}
    spreads = {path: Spread() for path in norms}
    hooks = [
        module.register_forward_pre_hook(_adds_to(spreads[path]))
        for path, module in modules.items()
    ]
    try:
        with undisturbed(network):
            for module in modules.values():
                module.training = True
            for inputs, kwargs in calls:
                network(*inputs, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    seen = [path for path, spread in spreads.items() if spread.n]
    for path in seen:
        norms[path].mean.copy_(spreads[path].mean)
        norms[path].variance.copy_(spreads[path].variance)
    return seen
