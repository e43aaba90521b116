"""Losses of sound: mel bands, and magnitudes at several resolutions."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.errors import ConfigError
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


def _bands(rate: int, sizes: tuple[int, ...], mels: tuple[int, ...]) -> None:
    if not sizes or len(sizes) != len(mels) or min(rate, *sizes, *mels) < 1 or min(sizes) < 4:
        raise ConfigError(
            f"loss multi_mel: rate {rate}, sizes {sizes} and mels {mels} make no spectrograms: as "
            "many mels as sizes, sizes of 4 or more"
        )


@LOSSES.register("multi_mel", check=_bands)
def multi_mel(
    output: Tensor,
    wanted: Tensor,
    *,
    rate: int = 22050,
    sizes: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048),
    mels: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320),
) -> Tensor:
    """Return the mean of `mel` over FFT ``sizes`` with ``mels`` bands each (Kumar et al. 2023).

    The hop is a quarter of the size; those longer than the sound are left out.
    """
    same_shape(output, wanted, "multi_mel")
    pairs = list(zip(sizes, mels, strict=True))
    fitting = [p for p in pairs if output.shape[-1] > p[0]] or [min(pairs)]
    found = [
        mel(output, wanted, rate=rate, n_fft=size, hop=size // 4, n_mels=bands)
        for size, bands in fitting
    ]
    return torch.stack(found).mean()


def _possible(resolutions: tuple[tuple[int, int, int], ...]) -> None:
    for n_fft, hop, window in resolutions:
        if not 1 <= hop <= n_fft or not 1 <= window <= n_fft:
            raise ConfigError(
                f"loss stft: resolution ({n_fft}, {hop}, {window}) is no (FFT size, hop, window): "
                "hop and window are at least 1 and at most the FFT size"
            )
    if not resolutions:
        raise ConfigError("loss stft: resolutions is empty: give (FFT size, hop, window), ...")


@LOSSES.register("stft", check=_possible)
def stft(
    output: Tensor,
    wanted: Tensor,
    *,
    resolutions: tuple[tuple[int, int, int], ...] = RESOLUTIONS,
) -> Tensor:
    """Return spectral convergence plus log magnitude distance (Yamamoto et al. 2020, eq. 6).

    The mean over ``resolutions``, each (FFT size, hop, window); those longer than the sound are
    left out.
    """
    a, b = same_shape(output, wanted, "stft")
    shortest = min(resolutions, key=lambda r: r[0])
    fitting = [r for r in resolutions if a.shape[-1] > r[0]] or [shortest]
    total = torch.zeros((), device=a.device)
    for n_fft, hop, window in fitting:
        made, real = magnitudes(a, n_fft, hop, window), magnitudes(b, n_fft, hop, window)
        converged = torch.linalg.vector_norm(real - made) / torch.linalg.vector_norm(real)
        total = total + converged + (real.log() - made.log()).abs().mean()
    return total / len(fitting)
