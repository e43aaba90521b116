"""``x=wav(DIR)``: sound of ``.wav`` files."""

from __future__ import annotations

import contextlib
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Stored
from gancompress.errors import ConfigError, DataError

_DAMAGED = (struct.error, wave.Error)
_SCALE = {1: 2**7, 2: 2**15, 3: 2**23, 4: 2**31}


class StoredSound:
    """Mono PCM sound as float32 (n, 1, samples) in [-1, 1]: each file from its start.

    Attributes:
        rate: samples a second, the same in all files.
    """

    def __init__(self, folder: Path, length: int | None) -> None:
        try:
            self._files = sorted(folder.rglob("*.wav"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot look through {folder}: {error}") from error
        if not self._files:
            raise DataError(f"{folder} holds no .wav file")
        self.names = [str(f.relative_to(folder).with_suffix("")) for f in self._files]
        self.rate, frames = _header(self._files[0])
        for file in self._files:
            rate, found = _header(file)
            if rate != self.rate:
                raise DataError(
                    f"{file} has {rate} samples a second, {self._files[0]} has {self.rate}. "
                    "Resample them to one rate"
                )
            if length is None and found != frames:
                raise DataError(
                    f"{file} has {found} samples, {self._files[0]} has {frames}: a batch needs one "
                    f"length. Take the first of each: wav({folder},{min(found, frames)})"
                )
            if length is not None and found < length:
                raise DataError(f"{file} has {found} samples, {length} are asked for")
        self._length = frames if length is None else length
        self.shape = (1, self._length)

    def read(self, indices: Tensor) -> Tensor:
        """Return the sounds at ``indices``."""
        return torch.stack([self._sound(self._files[int(i)]) for i in indices])

    def _sound(self, file: Path) -> Tensor:
        with _opened(file) as stream:
            width = stream.getsampwidth()
            data = stream.readframes(self._length)
        if len(data) != self._length * width:
            raise DataError(f"{file} ends before the {self._length} samples that its header tells")
        raw = np.frombuffer(data, np.uint8).reshape(-1, width)
        if width == 1:
            values = raw[:, 0].astype(np.int64) - 128
        else:  # little-endian, the sign in the last byte
            high = raw[:, -1].view(np.int8).astype(np.int64) << 8 * (width - 1)
            low = (raw[:, i].astype(np.int64) << 8 * i for i in range(width - 1))
            values = high + sum(low)
        return torch.from_numpy(values / _SCALE[width]).float()[None]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[wave.Wave_read]:
    try:
        with wave.open(str(file), "rb") as stream:
            yield stream
    except (OSError, EOFError, ValueError, RuntimeError, ArithmeticError, *_DAMAGED) as error:
        raise DataError(f"cannot read {file} as PCM sound: {error}") from error


def _header(file: Path) -> tuple[int, int]:
    with _opened(file) as stream:
        channels, frames = stream.getnchannels(), stream.getnframes()
        rate, width = stream.getframerate(), stream.getsampwidth()
    if width not in _SCALE or rate < 1:
        raise DataError(f"{file} has samples of {width} bytes at a rate of {rate}: no PCM sound")
    if channels != 1:
        raise DataError(f"{file} has {channels} channels; mix it down to one")
    if not frames:
        raise DataError(f"{file} holds no sound")
    return rate, frames


@INPUT_KINDS.register("wav")
def wav(text: str) -> Stored:
    """Return the sounds of a folder: all of each, or the first samples for ``wav(DIR,8192)``.

    Raises:
        ConfigError: no folder is named.
        DataError: no sound, stereo, or rates or lengths that differ; the files are named.
    """
    folder, comma, number = text.rpartition(",")
    length = int(number) if comma and number.strip().isdecimal() else None
    path = Path((text if length is None else folder).strip())
    if not text.strip() or length == 0:
        raise ConfigError("wav takes a folder, and a number of samples if any: wav(speech,8192)")
    if not path.is_dir():
        raise DataError(f"no folder {str(path)!r} with .wav files")
    return StoredSound(path, length)
