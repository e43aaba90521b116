"""How far outputs are from others made for the same inputs: pictures and sound."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.errors import DataError
from gancompress.modules.spectra import log_mel, magnitudes

EQUAL = 120.0
"""PSNR in dB of what does not differ: beyond what float32 can tell."""

SPAN = 2.0  # of values in [-1, 1]


def distances(output: Tensor, other: Tensor, *, rate: int | None = None) -> dict[str, float]:
    """Return what is measured between two sets of outputs of one kind (ours).

    Pictures (n, c, h, w): ``l1``, ``psnr`` (dB), ``ssim``, ``sharpness``. Sound (n, c, time):
    ``l1``, ``log_mel``, ``stft``. Anything else: ``l1`` and ``psnr``.

    Raises:
        DataError: shapes differ.
    """
    if output.shape != other.shape:
        raise DataError(
            f"outputs {tuple(output.shape)} and {tuple(other.shape)} cannot be compared"
        )
    a, b = output.detach().float().cpu(), other.detach().float().cpu()
    found = {"l1": float((a - b).abs().mean())}
    if a.ndim == 3 and rate is not None:
        return {**found, "log_mel": log_mel_distance(a, b, rate), "stft": stft_distance(a, b)}
    found["psnr"] = psnr(a, b)
    if a.ndim == 4 and min(a.shape[2:]) >= WINDOW:
        found |= {"ssim": ssim(a, b), "sharpness": sharpness(a) / max(sharpness(b), 1e-12)}
    return found


def psnr(a: Tensor, b: Tensor, *, span: float = SPAN) -> float:
    """Return the peak signal-to-noise ratio in dB, of the mean over samples of their PSNR.

    A sample in which nothing differs counts as `EQUAL` dB, so that one of many does not make all
    of them infinite; ``span`` is the distance of the largest possible values.
    """
    errors = (a.double() - b.double()).square().flatten(1).mean(1)
    return float((10 * torch.log10(span**2 / errors)).clamp(max=EQUAL).mean())


WINDOW = 11


def ssim(a: Tensor, b: Tensor, *, span: float = SPAN) -> float:
    """Return the mean structural similarity of images (n, c, h, w) (Wang et al. 2004, eq. 13).

    Gaussian window of 11 pixels and sigma 1.5, K1 0.01, K2 0.03, over each channel, inside only.
    """
    channels = a.shape[1]
    line = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    gauss = torch.exp(-line.square() / (2 * 1.5**2))
    gauss = gauss / gauss.sum()
    kernel = torch.outer(gauss, gauss).expand(channels, 1, WINDOW, WINDOW)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    x, y = a.double(), b.double()
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    index = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(index.mean())


def sharpness(images: Tensor) -> float:
    """Return the mean size of the Laplacian of images (n, c, h, w) (ours): blur makes it small."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    flat = images.flatten(0, 1).unsqueeze(1)
    return float(F.conv2d(flat, kernel[None, None]).abs().mean())


def log_mel_distance(a: Tensor, b: Tensor, rate: int) -> float:
    """Return the mean absolute difference of log mel spectrograms of sound (n, c, time)."""
    left, right = (log_mel(x.flatten(0, 1).unsqueeze(1), rate=rate, high=None) for x in (a, b))
    return float((left - right).abs().mean())


def stft_distance(a: Tensor, b: Tensor) -> float:
    """Return the mean absolute difference of log magnitudes over three resolutions."""
    sizes = [s for s in (512, 1024, 2048) if a.shape[-1] > s] or [512]
    found = []
    for size in sizes:
        left, right = (magnitudes(x.flatten(0, 1), size, size // 4) for x in (a, b))
        found.append(float((left.log() - right.log()).abs().mean()))
    return sum(found) / len(found)
