"""Pictures of any store, decoded when a batch asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from gancompress.data.arrays import square
from gancompress.data.framing import Frame, mirror
from gancompress.data.pictures import Header, Source, check_alpha, decode, header
from gancompress.data.ranges import Range, range_of, to_unit
from gancompress.data.stores import Store
from gancompress.data.survey import BAD, check_on_bad, survey
from gancompress.errors import DataError

CACHE_BYTES = 2**28
"""Decoded pictures are kept in memory when all of them fit into this, and none otherwise."""

_COLUMNS = tuple(Header.__dataclass_fields__)
_DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}


class PictureSet:
    """A ``Dataset`` over picture files (ours); a picture is a function of its index.

    All must have one size, as they are or by ``frame``: checked from their headers here. Grey
    pictures among coloured ones become coloured, 8 bits among 16 become 16.

    Args:
        store: where the files lie.
        labels: int64 (n,), or ``None``.
        class_names: a name for each label.
        frame: size, crop and mirroring.
        alpha: what becomes of transparency, see `gancompress.data.pictures.decode`.
        values: numbers that stand for black and white; needed for floats.
        on_bad_sample: ``"error"``, or ``"skip"``: the next good picture of the same class stands
            in for a bad one, so that no index moves; `bad` says which and why.
        notes: lines that say how the files were found.

    Raises:
        DataError: no file, a bad one, or sizes and kinds that differ; the file is named.
        ConfigError: an option is none.
    """

    def __init__(
        self,
        store: Store,
        labels: Tensor | None = None,
        class_names: Sequence[str] = (),
        *,
        frame: Frame | None = None,
        alpha: str = "white",
        values: Range | None = None,
        on_bad_sample: str = "error",
        notes: Sequence[str] = (),
    ) -> None:
        check_alpha(alpha)
        check_on_bad(on_bad_sample)
        self.store, self.labels, self.frame = store, labels, frame or Frame()
        self.on_bad_sample = on_bad_sample
        self._names = tuple(class_names)
        table, self.bad = survey(
            store, "picture", _described, width=len(_COLUMNS), on_bad=on_bad_sample
        )
        found = {name: table[:, i] for i, name in enumerate(_COLUMNS)}
        good = np.flatnonzero(table[:, 0] != BAD)
        if not len(good):
            raise DataError(f"{store.where} holds no picture")
        some = {name: column[good] for name, column in found.items()}
        self._bits = self._one_depth(some, good, values)
        self._colour = bool(some["colour"].any())
        self._alpha = alpha if alpha != "keep" or some["alpha"].any() else "white"
        if alpha == "refuse" and some["alpha"].any():
            first = int(good[np.argmax(some["alpha"])])
            raise DataError(f"{store.name(first)} has an alpha channel: alpha='refuse' forbids it")
        self.values = range_of(_DTYPES[self._bits], values, f"pictures of {store.where}")
        self.size = self._one_size(some, good)
        self.notes = (*notes, *self._said(some))
        item = self.channels * self.size[0] * self.size[1] * self._bits // 8
        self._keep = item * len(store.files) <= CACHE_BYTES
        self._memory: Tensor | None = None
        self._kept = np.zeros(len(store.files) if self._keep else 0, bool)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in label order; empty without classes."""
        return self._names

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The class names in label order, or ``None`` without classes."""
        return self._names or None

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or ``None`` without labels."""
        return None if self.labels is None else len(self._names)

    @property
    def channels(self) -> int:
        """1 when all pictures are grey, otherwise 3; one more when alpha is kept."""
        return (3 if self._colour else 1) + (self._alpha == "keep")

    @property
    def resolution(self) -> int:
        """Height and width in pixels of square pictures."""
        return square(self.size)

    @property
    def names(self) -> Sequence[str]:
        """The files within the source, in order of their indices."""
        return self.store.files

    def __len__(self) -> int:
        return len(self.store.files) * (2 if self.frame.flip else 1)

    def raw(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return pictures (n, c, h, w) as stored (uint8, uint16, float32), labels or ``None``.

        Raises:
            DataError: a file is damaged; it is named.
            IndexError: an index outside the set.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        pictures = torch.stack([self._framed(int(i)) for i in chosen])
        count = len(self.store.files)
        return pictures, None if self.labels is None else self.labels[chosen % count]

    def scaled(self, raw: Tensor) -> Tensor:
        """Return float32 pictures in [-1, 1] of what `raw` returned."""
        return to_unit(raw, self.values, f"pictures of {self.store.where}")

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 pictures (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``.

        Raises:
            DataError: a file is damaged; it is named.
            IndexError: an index outside the set.
        """
        pictures, labels = self.raw(indices)
        return self.scaled(pictures), labels

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are spawned decode for themselves: what is in memory stays here.
        return {**self.__dict__, "_memory": None, "_keep": False}

    def _framed(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a data set of {len(self)} pictures")
        count = len(self.store.files)
        picture = self._good(index % count)
        return mirror(picture) if index >= count else picture

    def _good(self, index: int) -> Tensor:
        for candidate in self._stand_ins(index):
            if candidate in self.bad:
                continue
            try:
                return self._picture(candidate)
            except DataError as error:
                if self.on_bad_sample == "error":
                    raise
                self.bad[candidate] = str(error)
        raise DataError(
            f"no picture can stand in for {self.store.name(index)}: {self.bad[index]}. All of "
            "its class are bad"
        )

    def _stand_ins(self, index: int) -> list[int]:
        """Return ``index`` and the other pictures of its class, the next ones first."""
        if self.on_bad_sample == "error":
            return [index]
        if self.labels is None:
            mates = np.arange(len(self.store.files))
        else:
            mates = np.flatnonzero(self.labels.numpy() == int(self.labels[index]))
        place = int(np.searchsorted(mates, index))
        return np.roll(mates, -place).tolist()

    def _picture(self, index: int) -> Tensor:
        if self._memory is not None and self._kept[index]:
            return self._memory[index]
        name = self.store.name(index)
        array = decode(
            self.store.source(index),
            name,
            colour=self._colour,
            bits=self._bits,
            alpha=self._alpha,
        )
        self.frame.size_of(array.shape[0], array.shape[1], name)
        picture = self.frame.apply(array)
        if tuple(picture.shape[1:]) != self.size:
            raise DataError(f"{name} is of another size than its header said; open the set again")
        if self._keep and get_worker_info() is None:
            if (
                self._memory is None
            ):  # one block: 100,000 small tensors cost three times their bytes
                shape = (len(self.store.files), *picture.shape)
                self._memory = torch.empty(shape, dtype=picture.dtype)
            self._memory[index], self._kept[index] = picture, True
        return picture

    def _one_depth(
        self, found: dict[str, np.ndarray], good: np.ndarray, values: Range | None
    ) -> int:
        bits = int(found["bits"].max())
        narrow = found["bits"] < bits
        if narrow.any() and (bits == 32 or values is not None):
            one, other = (int(good[np.argmax(part)]) for part in (~narrow, narrow))
            raise DataError(
                f"{self.store.name(one)} has {bits} bits a channel and {self.store.name(other)} "
                f"{int(found['bits'].min())}; their ranges have nothing in common"
            )
        return bits

    def _one_size(self, found: dict[str, np.ndarray], good: np.ndarray) -> tuple[int, int]:
        sizes = np.stack([found["height"], found["width"]], axis=1)
        kinds, first, inverse = np.unique(sizes, axis=0, return_index=True, return_inverse=True)
        framed: dict[int, tuple[int, int]] = {}
        for kind in np.argsort(first):
            name = self.store.name(int(good[first[kind]]))
            height, width = (int(side) for side in kinds[kind])
            framed[int(kind)] = self.frame.size_of(height, width, name)
        start = int(inverse.reshape(-1)[0])
        for kind, size in framed.items():
            if size != framed[start]:
                height, width = kinds[kind].tolist()
                raise DataError(
                    f"{self.store.name(int(good[first[kind]]))} is {width}x{height} (width x "
                    f"height), the first is {kinds[start][1]}x{kinds[start][0]}; pictures must be "
                    "of one size. Give size=64 and, where shapes differ, crop='center' "
                    "(on the command line: --size 64 --crop center)"
                )
        return framed[start]

    def _said(self, found: dict[str, np.ndarray]) -> list[str]:
        count, notes = len(found["height"]), list[str]()
        alpha = "kept as a channel" if self._alpha == "keep" else f"laid over {self._alpha}"
        lines = (
            (found["alpha"], f"transparency {alpha}"),
            (found["turned"], "turned upright by their EXIF orientation"),
            (found["bits"] == 16, "16 bits a channel"),
            (found["reduced"], "16 bits a channel in colour, read as their upper 8"),
            (found["cmyk"], "printing inks (CMYK), turned into colours without their profile"),
            (~found["colour"].astype(bool) & self._colour, "grey among coloured, made coloured"),
        )
        notes += [f"{int(m.sum()):,} of {count:,} pictures: {text}" for m, text in lines if m.any()]
        if self.bad:
            notes.append(
                f"{len(self.bad):,} bad files are skipped, the next of their class stands in: "
                + ", ".join(Path(self.store.files[i]).name for i in sorted(self.bad)[:5])
            )
        if self.frame.flip:
            notes.append(f"mirrored pictures follow: {count:,} become {2 * count:,}")
        return notes


def _described(source: Source, name: str) -> tuple[int, ...]:
    return tuple(int(value) for value in astuple(header(source, name)))


def label_names(labels: Tensor, classes: Mapping[str, str] | None, where: str) -> tuple[str, ...]:
    """Return a name for each label 0 to the largest: those of ``classes``, else the numbers.

    Raises:
        DataError: negative labels, or more of them than names.
    """
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= 2**20:
        raise DataError(f"{where}: labels must lie in 0..{2**20 - 1:,}; found {least}..{most}")
    if classes is None:
        return tuple(map(str, range(most + 1)))
    if most >= len(classes):
        raise DataError(f"{where}: {len(classes)} class names; found the label {most}")
    return tuple(classes.values())
