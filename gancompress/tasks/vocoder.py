"""Task ``vocoder``: from mel spectrograms, tokens or codes to sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gancompress.errors import ConfigError, DataError
from gancompress.modules.spectra import log_mel
from gancompress.tasks.paired import Joined, Paired
from gancompress.tasks.protocol import TASKS, Sources
from gancompress.tasks.split import Split


def _possible(
    *, n_fft: int, hop: int, n_mels: int, low: float, high: float, held_out: float
) -> None:
    if min(n_fft, hop, n_mels) < 1 or hop > n_fft or not 0 <= low < high:
        raise ConfigError(
            f"task vocoder: n_fft {n_fft}, hop {hop}, n_mels {n_mels}, low {low}, high {high} make "
            "no mel spectrogram; sizes are at least 1, hop at most n_fft, low below high"
        )


@TASKS.register("vocoder", check=_possible)
def vocoder(
    sources: Sources,
    *,
    n_fft: int = 1024,
    hop: int = 256,
    n_mels: int = 80,
    low: float = 0.0,
    high: float = 8000.0,
    held_out: float = 0.05,
) -> Paired:
    """Take what describes sound back to sound.

    Args:
        sources: ``dataset`` holds pieces of sound (n, 1, time) of one rate; ``sampler`` reads what
            the network is given from files of the same names (``npy``), else mel spectrograms are
            made of the sound itself, as HiFi-GAN's (`log_mel`).
        n_fft: size of the transform.
        hop: samples from one frame to the next; pieces are a multiple of it long.
        n_mels: mel bands.
        low: lowest band's edge in hertz.
        high: highest band's edge in hertz.
        held_out: share of the pieces that is only measured on.

    Raises:
        ConfigError: no sound.
        DataError: pieces that are no multiple of ``hop`` long, a band above half the rate, names
            without a partner, or inputs that are sound of another rate.
    """
    data = sources.needs_dataset("vocoder", "sound (wav or flac)")
    rate = getattr(data, "rate", None)
    if rate is None:
        raise ConfigError("task vocoder needs sound: --data FOLDER with wav or flac files")
    if sources.sampler is not None and sources.sampler.parts and not sources.sampler.files:
        raise ConfigError(
            "task vocoder makes mels of the sound, or reads what the network is given from files "
            f"('mel=npy(DIR)'); the inputs given are {', '.join(sources.sampler.specs)}. Leave "
            "them out, or say --task noise"
        )
    if sources.sampler is not None and sources.sampler.files:
        for part in sources.sampler.parts:
            if (other := getattr(part.source, "rate", rate)) != rate:
                raise DataError(
                    f"input {part.name!r} is sound of {other:,} samples a second, --data of "
                    f"{rate:,}. Resample one of them"
                )
        rows: Any = Joined(sources.sampler, data)
    else:
        if data.length % hop:
            raise DataError(f"pieces are {data.length} samples long, no multiple of hop {hop}")
        if high > rate / 2:
            raise DataError(f"bands up to {high:g} Hz, and sound of {rate} Hz holds {rate / 2:g}")
        rows = Mels(data, rate, n_fft=n_fft, hop=hop, n_mels=n_mels, low=low, high=high)
    return Paired(
        rows,
        Split(len(data), sources.seed, held_out),
        show_condition=False,
        output_key=sources.output,
        rate=rate,
        name="vocoder",
    )


@dataclass(frozen=True)
class Mels:
    """Sound with its mel spectrograms (ours)."""

    data: Any
    rate: int
    n_fft: int
    hop: int
    n_mels: int
    low: float
    high: float

    def rows(self, indices: Tensor, rng: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return mels (n, n_mels, time / hop) and sound (n, 1, time)."""
        sound = self.data.batch(indices)[0]
        mels = log_mel(
            sound,
            rate=self.rate,
            n_fft=self.n_fft,
            hop=self.hop,
            n_mels=self.n_mels,
            low=self.low,
            high=self.high,
        )
        return (mels,), sound
