"""Sound as pictures: the waveform above the mel spectrogram, without any plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancompress.modules.spectra import log_mel
from gancompress.reporting.pictures import INK, PAPER, titled

WIDTH, WAVE, MEL = 240, 48, 80
"""Pixels of one piece: across, and high the two parts."""

_DARK, _LIGHT = np.array([18, 16, 60.0]), np.array([250, 240, 170.0])
QUIET, LOUD = -11.5, 2.0
"""Natural logarithms of mel magnitudes that are shown darkest (the least there is) and lightest."""


def waveform(sound: Tensor, width: int = WIDTH, height: int = WAVE) -> np.ndarray:
    """Return uint8 (height, width, 3): least and largest sample of each column; [-1, 1] fills it.

    ``sound`` is (time,).
    """
    page = np.full((height, width, 3), PAPER, dtype=np.uint8)
    middle = (height - 1) / 2
    parts = np.array_split(sound.clamp(-1, 1).double().numpy(), width)
    for column, part in enumerate(parts):
        low, high = (part.min(), part.max()) if len(part) else (0.0, 0.0)
        top, bottom = round(middle - high * middle), round(middle - low * middle)
        page[top : bottom + 1, column] = INK
    return page


def mel_picture(sound: Tensor, rate: int, width: int = WIDTH, height: int = MEL) -> np.ndarray:
    """Return uint8 (height, width, 3): log mel spectrogram, low notes below, equal scale for all.

    ``sound`` is (time,); frames of short pieces are shorter, so that there are some of them, and
    pieces shorter than a frame are lengthened by silence.
    """
    n_fft = max(128, min(1024, 2 ** int(math.log2(max(len(sound), 1) / 16 + 1))))
    if len(sound) < n_fft:
        sound = torch.nn.functional.pad(sound, (0, n_fft - len(sound)))
    bands = min(80, n_fft // 8)
    found = log_mel(
        sound[None, None], rate=rate, n_fft=n_fft, hop=n_fft // 4, n_mels=bands, high=None
    )[0]
    share = ((found - QUIET) / (LOUD - QUIET)).clamp(0, 1).flip(0).double().numpy()[..., None]
    pixels = (_DARK + share * (_LIGHT - _DARK)).round().astype(np.uint8)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def sound_sheet(
    columns: Sequence[tuple[str, Tensor]], rate: int, row_titles: Sequence[str] = ()
) -> Image.Image:
    """Return one picture of ``columns`` of sound (n, c, time): a piece a row, channels averaged."""
    pad = 4
    rows, cell = len(columns[0][1]), (WAVE + MEL + 2 * pad, WIDTH + 2 * pad)
    page = np.full((rows * cell[0], len(columns) * cell[1], 3), PAPER, dtype=np.uint8)
    for across, (_, sound) in enumerate(columns):
        for down, piece in enumerate(sound):
            mono = piece.detach().float().cpu().mean(0)
            top, left = down * cell[0] + pad, across * cell[1] + pad
            page[top : top + WAVE, left : left + WIDTH] = waveform(mono)
            page[top + WAVE : top + WAVE + MEL, left : left + WIDTH] = mel_picture(mono, rate)
    titles = [title for title, _ in columns]
    return titled(Image.fromarray(page), rows, len(columns), row_titles, titles, "")
