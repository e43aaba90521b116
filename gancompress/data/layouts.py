"""What arrays in files are called, which axis is which, and whether they can be held at all."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gancompress.data.arrays import MAX_CHANNELS, ArrayDataset
from gancompress.data.framing import Frame, mirror
from gancompress.data.ranges import tensor_of
from gancompress.errors import ConfigError, DataError

IMAGES = ("x", "images", "imgs", "image", "data", "samples", "arr_0")
LABELS = ("y", "labels", "label", "targets", "arr_1")
LAYOUTS = ("nchw", "nhwc")
_PERMUTE = {"nchw": (0, 1, 2, 3), "nhwc": (0, 3, 1, 2)}


class Rows(Protocol):
    """An array of which single rows are read from a file (ours)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as stored."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


class Permuted:
    """Rows whose axes are put in the order (n, c, h, w) when they are read (ours)."""

    def __init__(self, rows: Rows, layout: str) -> None:
        self.rows, self.layout = rows, layout
        n, *rest = rows.shape
        if layout == "nhw":
            self.shape = (n, 1, *rest)
        else:
            self.shape = tuple(rows.shape[axis] for axis in _PERMUTE[layout])
        self.dtype = rows.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        found = np.asarray(self.rows[rows])
        return found[:, None] if self.layout == "nhw" else found.transpose(_PERMUTE[self.layout])


def keys_of(names: Iterable[str], where: str, split: str | None) -> tuple[str, str | None]:
    """Return which arrays are the images and the labels, by the names that people give them.

    Raises:
        DataError: none or several could be the images, or there is no such split.
    """
    known = {name.lower(): name for name in names}
    holds = ", ".join(known.values()) or "nothing"
    if split is not None:
        images = _split_key(known, IMAGES, split)
        if images is None:
            raise DataError(f"{where} has no images of the part {split!r}; it holds {holds}")
        return images, _split_key(known, LABELS, split)
    found = [known[name] for name in IMAGES if name in known]
    if not found:
        parts = [s for s in ("train", "val", "test") if _split_key(known, IMAGES, s)]
        if parts:
            raise DataError(
                f"{where} holds the parts {', '.join(parts)}: choose one, for example "
                f"split={parts[0]!r}"
            )
        raise DataError(f"{where} has no array 'x' (or {', '.join(IMAGES[1:])}); it holds {holds}")
    if len(found) > 1:
        raise DataError(f"{where} holds {' and '.join(found)}: which are the images? Remove one")
    labels = next((known[name] for name in LABELS if name in known), None)
    return found[0], labels


def layout_of(shape: Sequence[int], layout: str | None, where: str) -> str:
    """Return ``"nhw"``, ``"nchw"`` or ``"nhwc"``: which axis of ``shape`` holds the channels.

    1 or 3 channels are found first, then 1 to 32, then by what makes the images square.

    Raises:
        DataError: another number of axes, no axis of 1 to 32 channels, or two readings.
        ConfigError: ``layout`` is none.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is none of {', '.join(LAYOUTS)}")
    if len(shape) == 3:
        if shape[2] in (1, 3, 4) and min(shape[:2]) > 4:
            raise DataError(
                f"{where} has shape {tuple(shape)}: one picture, or {shape[0]} grey ones of "
                f"{shape[1]}x{shape[2]}? Give (n, height, width, channels), of one picture "
                f"{(1, *shape)}"
            )
        return "nhw"
    if len(shape) != 4:
        raise DataError(
            f"{where} has shape {tuple(shape)}; expected (n, height, width), (n, channels, height, "
            "width) or (n, height, width, channels)"
        )
    if layout is not None:
        return layout
    first, last = shape[1], shape[3]
    tests = (
        (first in (1, 3), last in (1, 3)),
        (1 <= first <= MAX_CHANNELS, 1 <= last <= MAX_CHANNELS),
        (
            shape[2] == last and 1 <= first <= MAX_CHANNELS,
            first == shape[2] and 1 <= last <= MAX_CHANNELS,
        ),
    )
    for front, back in tests:
        if front != back:
            return "nchw" if front else "nhwc"
    if not any(tests[1]):
        raise DataError(
            f"{where} has shape {tuple(shape)}; expected 1 to {MAX_CHANNELS} channels, in front of "
            "height and width or behind them"
        )
    raise DataError(
        f"{where} has shape {tuple(shape)}: are the channels in front or behind? Say layout='nchw' "
        "or layout='nhwc' (on the command line: --layout nchw)"
    )


def labels_of(array: np.ndarray, where: str) -> Tensor:
    """Return integer labels (n,) of an array (n,) or (n, 1), or of one-hot rows (n, classes).

    Raises:
        DataError: other types or shapes.
    """
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "buif":
        array = _classes_of_rows(array, where)
    if array.dtype.kind not in "iu":
        raise DataError(f"{where} must be integer labels; found {array.dtype}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{where} must be labels (n,), one number an image; found {array.shape}")
    return tensor_of(array.astype(np.int64))


def _classes_of_rows(rows: np.ndarray, where: str) -> np.ndarray:
    if not (((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all()):
        raise DataError(
            f"{where} must be labels (n,), one number an image, or one-hot rows; found "
            f"{rows.shape} {rows.dtype}"
        )
    return rows.argmax(1)


def named(
    labels: Tensor | None, classes: Mapping[str, str] | None, where: str
) -> dict[str, object]:
    """Return the class options of an `ArrayDataset` with names from a classes file.

    Raises:
        DataError: there are no labels to name.
    """
    if classes is None:
        return {}
    if labels is None:
        raise DataError(f"{where} has no labels that the classes could name")
    return {"class_names": tuple(classes.values()), "n_classes": len(classes)}


def check_memory(size: int, where: str) -> None:
    """Refuse arrays that would fill this machine's memory.

    Raises:
        DataError: ``size`` bytes are more than three quarters of it.
    """
    whole = memory_here()
    if whole is not None and 4 * size > 3 * whole:
        raise DataError(
            f"{where} needs {size / 2**30:,.1f} GiB of the {whole / 2**30:,.1f} GiB of memory. "
            "Save it as .npy or .h5, which are read row by row"
        )


def memory_here() -> int | None:
    """Return the bytes of memory that this process may have; ``None``: not known here.

    That of the machine, of the container (cgroup), or the limit on the process (``ulimit -v``),
    whichever is least.
    """
    limits: list[int] = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no such question here
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limits.append(max(0, most - pages * os.sysconf("SC_PAGE_SIZE")))
    return min(limits, default=None)


def bytes_of(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return the bytes of an array, in integers that cannot overflow."""
    return math.prod(int(s) for s in shape) * dtype.itemsize


class Framed(ArrayDataset):
    """Arrays that are cropped, resized and mirrored when a batch asks for them (ours)."""

    def __init__(self, base: ArrayDataset, frame: Frame) -> None:
        self.__dict__.update(base.__dict__)
        self.frame = frame
        self._size = frame.size_of(*base.size, "each image")
        if frame.flip:
            count = len(base)
            self.notes = (*base.notes, f"mirrored images follow: {count:,} become {2 * count:,}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size

    def __len__(self) -> int:
        return len(self.images) * (2 if self.frame.flip else 1)

    def raw(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return images (n, c, h, w) and int64 labels (n,) or ``None``."""
        chosen, count = torch.as_tensor(indices, dtype=torch.int64), len(self.images)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self):
            raise IndexError(f"indices outside 0..{len(self) - 1}")
        images, labels = super().raw(chosen % count)
        framed = [self.frame.apply(image.permute(1, 2, 0).numpy()) for image in images]
        mirrored = (chosen >= count).tolist()
        return torch.stack([mirror(f) if m else f for f, m in zip(framed, mirrored)]), labels


def reframed(dataset: ArrayDataset, frame: Frame) -> ArrayDataset:
    """Return ``dataset`` seen through ``frame``; itself when nothing is to be done."""
    return dataset if frame == Frame() else Framed(dataset, frame)


def _split_key(known: dict[str, str], names: Sequence[str], split: str) -> str | None:
    split = split.lower()
    for name in names:
        for key in (f"{name}_{split}", f"{split}_{name}"):
            if key in known:
                return known[key]
    return None
