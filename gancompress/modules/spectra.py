"""Spectrograms of sound: magnitudes and mel bands, as vocoders define them."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


@functools.lru_cache(maxsize=16)
def _window(n_fft: int, window: int, device: torch.device) -> Tensor:
    found = torch.hann_window(window, device=device)
    left = (n_fft - window) // 2
    return torch.nn.functional.pad(found, (left, n_fft - window - left))


def magnitudes(sound: Tensor, n_fft: int, hop: int, window: int | None = None) -> Tensor:
    """Return |STFT| (n, n_fft // 2 + 1, frames) of ``sound`` (n, 1, time) or (n, time).

    Frames begin at multiples of ``hop`` of the sound padded by (n_fft - hop) / 2 on each side by
    reflection, so that time / hop frames come out (Kong et al. 2020, public code of HiFi-GAN).
    """
    flat = sound.float().reshape(len(sound), -1)
    pad = (n_fft - hop) // 2
    flat = torch.nn.functional.pad(flat.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
    shape = _window(n_fft, window or n_fft, flat.device)
    found = torch.stft(flat, n_fft, hop, n_fft, shape, center=False, return_complex=True)
    return torch.sqrt(found.real.square() + found.imag.square() + 1e-9)


def log_mel(
    sound: Tensor,
    *,
    rate: int = 22050,
    n_fft: int = 1024,
    hop: int = 256,
    n_mels: int = 80,
    low: float = 0.0,
    high: float | None = 8000.0,
) -> Tensor:
    """Return log mel spectrograms (n, n_mels, time / hop) of ``sound`` (n, 1, time) in [-1, 1].

    Magnitudes, Slaney's mel bands of unit area, natural logarithm, at least 1e-5: what HiFi-GAN
    reads, with its numbers as defaults (Kong et al. 2020, public code).
    """
    bands = mel_bands(rate, n_fft, n_mels, low, high or rate / 2).to(sound.device)
    return torch.log(torch.clamp(bands @ magnitudes(sound, n_fft, hop), min=1e-5))


@functools.lru_cache(maxsize=16)
def mel_bands(rate: int, n_fft: int, n_mels: int, low: float, high: float) -> Tensor:
    """Return Slaney's triangular bands (n_mels, n_fft // 2 + 1), each of unit area in hertz."""
    edges = torch.tensor(
        [
            _hertz(_mel(low) + (_mel(high) - _mel(low)) * i / (n_mels + 1))
            for i in range(n_mels + 2)
        ],
        dtype=torch.float64,
    )
    bins = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp(min=0) * area[:, None]).float()


def _mel(hertz: float) -> float:
    # Slaney: linear below 1 kHz, logarithmic above.
    if hertz < 1000.0:
        return hertz * 3 / 200
    return 15.0 + math.log(hertz / 1000.0) * 27.0 / math.log(6.4)


def _hertz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15.0 else 1000.0 * math.exp((mel - 15.0) * math.log(6.4) / 27.0)
