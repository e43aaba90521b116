"""``m=masks(DIR,35)``: label maps, a class number a pixel, as planes of zeros and ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Stored, checked, whole_numbers
from gancompress.data.pictures import Source, opened
from gancompress.data.stores import FolderStore
from gancompress.data.survey import ERROR, survey
from gancompress.errors import ConfigError, DataError

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".gif")
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


class StoredMasks:
    """Label maps as float32 (n, classes, height, width), a one in the plane of each pixel's class.

    Every file is looked at when it is opened; of 2,000 or more what was seen is kept in the index.
    """

    def __init__(self, folder: Path, classes: int, unknown: int | None) -> None:
        self.classes, self.unknown = classes, unknown
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in LOSSLESS)
        lossy = [p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".webp")]
        if lossy:
            raise DataError(f"{lossy[0]}: label maps in JPEG or WebP lose their numbers; use PNG")
        if not files:
            raise DataError(f"{folder} holds no label map ({', '.join(LOSSLESS)})")
        found = [str(p.relative_to(folder)) for p in files]
        stats = (p.stat() for p in files)
        stamps = {f: (s.st_size, s.st_mtime_ns) for f, s in zip(found, stats, strict=True)}
        self._store = FolderStore(folder, found, stamps)
        self.names = [str(Path(name).with_suffix("")) for name in found]
        kind = f"masks {classes} {unknown}"
        table, _ = survey(self._store, kind, self._described, width=2, on_bad=ERROR)
        other = np.flatnonzero((table != table[0]).any(axis=1))
        if len(other):
            (h, w), (high, wide) = table[0], table[other[0]]
            raise DataError(
                f"{self._store.name(int(other[0]))} is {wide}x{high}, {self._store.name(0)} is "
                f"{w}x{h}: a batch needs label maps of one size"
            )
        self.planes = classes + (unknown is not None)
        self.shape = checked((self.planes, int(table[0, 0]), int(table[0, 1])))

    def read(self, indices: Tensor) -> Tensor:
        """Return the label maps at ``indices``."""
        maps = [self._labels(self._store.source(i), self._store.name(i)) for i in indices.tolist()]
        planes = F.one_hot(torch.from_numpy(np.stack(maps)), self.planes)
        return planes.permute(0, 3, 1, 2).float()

    def _described(self, source: Source, name: str) -> tuple[int, int]:
        high, wide = self._labels(source, name).shape
        return high, wide

    def _labels(self, source: Source, name: str) -> np.ndarray:
        with opened(source, name) as picture:
            if picture.mode not in _MODES:
                raise DataError(
                    f"{name} has colours ({picture.mode}); a label map has one number a pixel "
                    "(grey, or a palette, whose indices count)"
                )
            try:
                labels = np.asarray(picture).astype(np.int64)
            except (OSError, ValueError, SyntaxError) as error:
                raise DataError(f"{name} is damaged: {error}. Repair or remove it") from error
        if self.unknown is not None:
            labels = np.where(labels == self.unknown, self.classes, labels)
        wrong = (labels < 0) | (labels >= self.classes + (self.unknown is not None))
        if wrong.any():
            value = int(labels[wrong].max())
            raise DataError(
                f"{name} has the label {value} ({int(wrong.sum()):,} pixels); labels are 0 to "
                f"{self.classes - 1}. Say masks(DIR,{value + 1}) if there are more, or "
                f"masks(DIR,{self.classes},{value}) if {value} means that nobody knows"
            )
        return labels


@INPUT_KINDS.register("masks")
def masks(text: str) -> Stored:
    """Return the label maps of a folder: ``masks(DIR,35)``, classes 0 to 34.

    ``masks(DIR,35,255)``: 255 means unknown and gets a plane of its own, the last (SPADE).

    Raises:
        ConfigError: no folder or no number of classes is named.
        DataError: no label maps, labels that are none, or sizes that differ; the file is named.
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) not in (2, 3) or not words[0]:
        raise ConfigError("masks take a folder and the count of classes: masks(labels,35)")
    numbers = whole_numbers(",".join(words[1:]))
    if numbers[0] < 1:
        raise ConfigError("masks need a class at least: masks(labels,35)")
    folder = Path(words[0])
    if not folder.is_dir():
        raise DataError(f"no folder {words[0]!r} with label maps")
    return StoredMasks(folder, numbers[0], numbers[1] if len(numbers) > 1 else None)
