"""Losses of sound: mel bands, and magnitudes at several resolutions."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.losses.protocol import LOSSES, same_shape
from gancompress.modules.spectra import log_mel, magnitudes

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""(FFT size, hop, window) of Parallel WaveGAN (Yamamoto et al. 2020, table 1)."""


@LOSSES.register("mel")
def mel(
    output: Tensor,
    wanted: Tensor,
    *,
    rate: int = 22050,
    n_fft: int = 1024,
    hop: int = 256,
    n_mels: int = 80,
) -> Tensor:
    """Return the mean absolute difference of log mel spectrograms (Kong et al. 2020, eq. 4).

    Up to half the sampling rate, as there; sound is (n, 1, time) in [-1, 1].
    """
    a, b = same_shape(output, wanted, "mel")
    spectra = [
        log_mel(x, rate=rate, n_fft=n_fft, hop=hop, n_mels=n_mels, high=None) for x in (a, b)
    ]
    return (spectra[0] - spectra[1]).abs().mean()


@LOSSES.register("stft")
def stft(output: Tensor, wanted: Tensor) -> Tensor:
    """Return spectral convergence plus log magnitude distance (Yamamoto et al. 2020, eq. 6).

    The mean over three resolutions (`RESOLUTIONS`); those longer than the sound are left out.
    """
    a, b = same_shape(output, wanted, "stft")
    fitting = [r for r in RESOLUTIONS if a.shape[-1] > r[0]] or [RESOLUTIONS[-1]]
    total = torch.zeros((), device=a.device)
    for n_fft, hop, window in fitting:
        made, real = magnitudes(a, n_fft, hop, window), magnitudes(b, n_fft, hop, window)
        converged = torch.linalg.vector_norm(real - made) / torch.linalg.vector_norm(real)
        total = total + converged + (real.log() - made.log()).abs().mean()
    return total / len(fitting)
