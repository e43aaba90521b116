"""Global kernel alignment of CAT (Jin et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gancompress.distill.maths import EPS, full_precision
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs, resolve_pairs
from gancompress.errors import DataError


def kernel_alignment(x: Tensor, y: Tensor) -> Tensor:
    """Return KA = <XX', YY'>_F / (|XX'|_F |YY'|_F) of activations flattened to (n, d), in [0, 1].

    Global kernel alignment of CAT (Jin et al. 2021) on the Gram matrices of a batch. d may differ
    between x and y; orthogonal maps of d, permutations among them, change nothing.
    """
    a, b = _gram(x), _gram(y)
    # Gram matrices of zero features are zero: eps inside the root keeps the gradient finite.
    scale = (a.square().sum() * b.square().sum() + EPS).sqrt()
    return (a * b).sum() / scale


def _gram(x: Tensor) -> Tensor:
    rows = x.flatten(1)
    # KA is scale-free: at unit size first, squares of squares stay in the range of float32.
    rows = rows / (rows.detach().square().sum(1).mean().sqrt() + EPS)
    return rows @ rows.T


@DISTILLERS.register("kernel_alignment")
class KernelAlignment(nn.Module):
    """Mean over pairs of 1 - KA (CAT maximises the sum of KA; the 1 makes equal networks give 0).

    Scale [0, 1]. It compares samples of one batch with each other, so it needs a large one;
    channels may shrink freely.

    Raises:
        DataError: a batch of one sample, for which it is always zero.
    """

    pairs: Pairs

    def __init__(
        self, context: Context, *, pairs: Sequence[str | Sequence[str]] | None = None
    ) -> None:
        super().__init__()
        self.pairs = resolve_pairs(context, pairs)

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        if batch.student_images.shape[0] < 2:
            raise DataError("kernel_alignment compares samples: it needs a batch of at least 2")
        with full_precision(batch.student_images):
            losses = [1 - kernel_alignment(*batch.pair(tap)) for tap, _ in self.pairs]
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: no state depends on channels."""
