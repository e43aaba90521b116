"""Sound files of one rate as pieces of one length: wav and flac, by libsndfile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gancompress.data.classes import arrange, read_classes
from gancompress.data.pictures import Source
from gancompress.data.stores import FolderStore, list_folder
from gancompress.data.survey import BAD, check_on_bad, survey
from gancompress.errors import ConfigError, DataError
from gancompress.extras import require

SOUND_SUFFIXES = (".wav", ".flac")


def open_sound(
    folder: str | Path,
    *,
    length: int | None = None,
    rate: int | None = None,
    channels: int = 1,
    classes: str | Path | Sequence[str] | None = None,
    on_bad_sample: str = "error",
) -> SoundFolder:
    """Return the wav and flac files of a folder; each folder in it is a class (ours).

    Args:
        folder: where the files lie.
        length: samples of a piece: every file gives its pieces in order, the rest at its end is
            left out. ``None``: whole files, which must be equally long.
        rate: samples a second that the files must have; ``None``: those of the first.
        channels: channels that the files must have: 1, or 2 for stereo.
        classes: a classes file, or names.
        on_bad_sample: ``"error"``, or ``"skip"``: files that cannot be read give no piece.

    Raises:
        DataError: no sound, files that cannot be read, rates or channels that differ, files
            shorter than a piece; the file is named.
        ConfigError: an option is none, or soundfile is not installed.
    """
    require("soundfile", "data")
    for name, value in (("length", length), ("rate", rate), ("channels", channels)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} must be a whole number of at least 1; found {value!r}")
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path} is no folder of sound files ({', '.join(SOUND_SUFFIXES)})")
    listing, stamps = list_folder(path, SOUND_SUFFIXES)
    found = arrange(listing, read_classes(classes))
    if not found.files:
        said = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise DataError(f"{path} holds no sound ({', '.join(SOUND_SUFFIXES)}){said}")
    labels = np.repeat(np.arange(len(found.names)), found.counts) if found.names else None
    return SoundFolder(
        FolderStore(path, found.files, stamps),
        None if labels is None else torch.from_numpy(labels),
        found.names,
        length=length,
        rate=rate,
        channels=channels,
        on_bad_sample=on_bad_sample,
        notes=found.notes,
    )


class SoundFolder:
    """Pieces (channels, length) of sound files in [-1, 1]; a piece is a function of its index."""

    def __init__(
        self,
        store: FolderStore,
        labels: Tensor | None,
        class_names: Sequence[str],
        *,
        length: int | None,
        rate: int | None,
        channels: int,
        on_bad_sample: str,
        notes: Sequence[str],
    ) -> None:
        check_on_bad(on_bad_sample)
        self.store, self.channels, self._names = store, channels, tuple(class_names)
        table, self.bad = survey(store, "sound", _described, width=3, on_bad=on_bad_sample)
        good = np.flatnonzero(table[:, 0] != BAD)
        if not len(good):
            raise DataError(f"{store.where} holds no sound that can be read")
        frames, rates, wide = (table[good, i] for i in range(3))
        self.rate = int(rates[0]) if rate is None else rate
        self._refuse(good, rates, self.rate, "samples a second", "Resample it beforehand")
        advice = (
            f"Mix it down to one channel (or, from Python, channels={int(wide.max())})"
            if channels == 1
            else "Leave it out"
        )
        self._refuse(good, wide, channels, "channels", advice)
        self.length = int(frames[0]) if length is None else length
        if length is None:
            self._refuse(good, frames, self.length, "samples", "Say length= to cut pieces")
        pieces = frames // self.length
        if not pieces.all():
            first = int(np.argmin(pieces))
            raise DataError(
                f"{store.name(int(good[first]))} has {int(frames[first]):,} samples, fewer than "
                f"length={self.length:,}"
            )
        self._files = np.repeat(good, pieces)
        self._starts = np.concatenate([np.arange(count) for count in pieces]) * self.length
        self.labels = None if labels is None else labels[torch.from_numpy(self._files)]
        said = [f"{len(good):,} files of {self.rate:,} Hz, {len(self):,} pieces"]
        if self.bad:
            said.append(f"{len(self.bad):,} bad files give no piece")
        self.notes = (*notes, *said)

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or ``None`` without labels."""
        return len(self._names) or None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The class names in label order, or ``None``."""
        return self._names or None

    @property
    def names(self) -> list[str] | None:
        """The file of each piece; ``None`` where files give several, which have no name."""
        if len(set(self._files.tolist())) < len(self):
            return None
        return [self.store.files[int(i)] for i in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 sound (n, channels, length) in [-1, 1], int64 labels (n,) or ``None``.

        Raises:
            DataError: a file is damaged or lies outside [-1, 1]; it is named.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        pieces = torch.stack([self._piece(int(i)) for i in chosen])
        return pieces, None if self.labels is None else self.labels[chosen]

    def _piece(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} pieces")
        file, start = int(self._files[index]), int(self._starts[index])
        name = self.store.name(file)
        try:
            data, _ = require("soundfile", "data").read(
                str(self.store.source(file)),
                frames=self.length,
                start=start,
                dtype="float32",
                always_2d=True,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{name} is damaged: {error}. Repair or remove it") from error
        if data.shape != (self.length, self.channels):
            raise DataError(f"{name} is cut off: {len(data):,} of {self.length:,} samples")
        if not np.isfinite(data).all() or float(np.abs(data).max(initial=0.0)) > 1.0:
            raise DataError(f"{name} has samples outside [-1, 1]; normalise it")
        return torch.from_numpy(np.ascontiguousarray(data.T))

    def _refuse(
        self, good: np.ndarray, found: np.ndarray, wanted: int, what: str, advice: str
    ) -> None:
        if (found != wanted).any():
            other = int(np.argmax(found != wanted))
            raise DataError(
                f"{self.store.name(int(good[other]))} has {int(found[other]):,} {what}; expected "
                f"{wanted:,} ({int((found != wanted).sum()):,} of {len(found):,} files differ). "
                + advice
            )


def _described(source: Source, name: str) -> tuple[int, int, int]:
    try:
        info: Any = require("soundfile", "data").info(str(source))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{name} is no readable sound: {error}. Remove it") from error
    if info.format not in ("WAV", "WAVEX", "FLAC", "RF64"):
        raise DataError(f"{name} holds {info.format}; only wav and flac are read")
    if info.frames < 1:
        raise DataError(f"{name} holds no sample. Remove it")
    return int(info.frames), int(info.samplerate), int(info.channels)
