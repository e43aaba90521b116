"""Generators that replay real images, well or badly, and the sampler of their inputs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress import assets

HELD_OUT = Path(__file__).parent / "t10k200.npz"


def load(file: Path) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 32, 32) in [-1, 1] and labels (n,) of an npz of 28 x 28 bytes."""
    with np.load(file, allow_pickle=False) as data:
        x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"]).long()
    return F.pad(x[:, None].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0), y


class Replay(nn.Module):
    """Shows image ``index`` of class ``y`` of the embedded set, spoiled by ``fault``."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        images, _ = load(assets.path("fashion2000.npz"))
        self.register_buffer("images", images.view(10, 200, 1, 32, 32))
        self.fault = fault

    def forward(self, index: Tensor, y: Tensor) -> Tensor:
        if self.fault == "mode drop":  # six images a class
            index = index % 6
        if self.fault == "wrong class":
            y = (y + 1) % 10
        out = self.images[y, index]
        if self.fault == "blur":
            return F.avg_pool2d(F.pad(out, (1, 1, 1, 1), value=-1.0), 3, 1)
        if self.fault in ("noise", "more noise"):
            rng = torch.Generator().manual_seed(int(index.sum()))
            spread = 0.1 if self.fault == "noise" else 0.4
            return (out + spread * torch.randn(out.shape, generator=rng)).clamp(-1, 1)
        return out


class ReplaySampler:
    """Draws an index and a label."""

    n_classes = 10

    def __call__(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        return torch.randint(0, 200, (n,), generator=rng), torch.randint(0, 10, (n,), generator=rng)

    def labels(self, inputs: Sequence[Tensor]) -> Tensor | None:
        return inputs[1]


class Set:
    """Images in memory as a reference."""

    def __init__(self, images: Tensor, labels: Tensor | None) -> None:
        self.images, self.labels = images, labels
        self.n_classes = None if labels is None else int(labels.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.images[indices], None if self.labels is None else self.labels[indices]
