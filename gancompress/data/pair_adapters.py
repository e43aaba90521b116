"""Data sets of other libraries whose samples are pairs of pictures, as the pairs of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gancompress.data.adapters import by_index, sample_of
from gancompress.data.arrays import square
from gancompress.data.ranges import Range, checked_range, range_of, span, to_unit
from gancompress.data.samples import SampleReader, found_shape, images_in
from gancompress.errors import ConfigError, DataError

KEYS = (
    ("A", "B"), ("input", "target"), ("source", "target"), ("condition", "image"),
    ("lq", "gt"), ("lr", "hr"), ("x", "y"),
)  # fmt: skip
"""Names of input and wanted output in samples that are mappings, as people have them."""


def adapt_pairs(
    source: Any,
    *,
    values: object = None,
    inputs: str | int | None = None,
    targets: str | int | None = None,
) -> AdaptedPairs:
    """Return ``source``, whose samples are pairs of pictures, as what task ``paired`` reads (ours).

    Samples are (input, wanted, ...) or mappings; pictures are as `adapt` takes them. A
    ``DataLoader`` is read by its data set: order and batches are the loop's.

    Args:
        source: a data set with ``len`` and ``[index]``.
        values: (black, white), the numbers that become -1 and 1; needed for floats.
        inputs: key or place of the input in a sample; default: the first picture, or a usual name.
        targets: the same of the wanted output.

    Raises:
        DataError: samples hold no two pictures, differ in shape, or end early.
        ConfigError: it cannot be read by index, or an option is none.
    """
    range_ = checked_range(values)
    if isinstance(source, DataLoader):
        if not by_index(source):
            raise ConfigError(
                "a DataLoader of pairs is read by its data set, which this one does not give in "
                "its own order: give a data set with len() and [index]"
            )
        source = source.dataset
    if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        raise ConfigError(
            f"{type(source).__name__} cannot be read by index: give a data set with len() and "
            "[index]"
        )
    return AdaptedPairs(source, range_, inputs, targets)


def holds_pairs(source: Any) -> bool:
    """Return whether the first sample of ``source`` holds two pictures.

    Raises:
        DataError: the data set fails to give it.
    """
    inside: Any = source
    if isinstance(source, DataLoader):
        inside = source.dataset
    if not (hasattr(inside, "__getitem__") and hasattr(inside, "__len__")) or not len(inside):
        return False
    return len(images_in(sample_of(inside, 0, type(inside).__name__))) >= 2


class AdaptedPairs:
    """Pairs of pictures of a foreign data set; nothing is kept."""

    n_classes = None
    class_names = None

    def __init__(
        self,
        source: Any,
        values: Range | None,
        inputs: str | int | None,
        targets: str | int | None,
    ) -> None:
        self.where = type(source).__name__
        if len(source) == 0:
            raise DataError(f"{self.where} holds no sample")
        self.source = source
        self._reader = SampleReader(None, None, self.where)
        first = sample_of(source, 0, self.where)
        self.keys = _keys_of(first, inputs, targets, self.where)
        pair = self._pictures(0)
        self._shapes = [(tuple(x.shape), x.dtype) for x in pair]
        self.values = values
        for x in pair:
            range_of(x.dtype, values, f"{self.where}: pictures", span(x.numpy()[None]))
        self.channels, *size = pair[1].shape
        self.size = (int(size[0]), int(size[1]))
        a, b = self.keys
        self.notes = (f"{self.where}: {len(source):,} pairs, input {a!r}, wanted {b!r}",)
        self.pairs([len(source) - 1, len(source) // 2])  # before step 0

    @property
    def resolution(self) -> int:
        """Side of square wanted pictures."""
        return square(self.size)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, None]:
        """Return the wanted pictures alone."""
        return self.pairs(indices)[1], None

    def pairs(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor, None]:
        """Return inputs and wanted pictures (n, c, h, w) in [-1, 1], and no labels.

        Raises:
            DataError: a sample is another thing than the first.
        """
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for i in torch.as_tensor(indices).tolist():
            for side, x, shape in zip(found, self._pictures(i), self._shapes, strict=True):
                if (tuple(x.shape), x.dtype) != shape:
                    raise DataError(
                        f"{self.where}: sample {i} holds {found_shape(x)}; sample 0 "
                        f"{shape[0]} {shape[1]}. Crop and resize in the data set"
                    )
                side.append(x)
        x, y = (
            to_unit(torch.stack(s), range_of(s[0].dtype, self.values, self.where), self.where)
            for s in found
        )
        return x, y, None

    def _pictures(self, index: int) -> list[Tensor]:
        sample = sample_of(self.source, index, self.where)
        try:
            parts = [sample[key] for key in self.keys]
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self.where}: sample {index} has no {error}; {found_shape(sample)}"
            ) from error
        return [self._reader.tensor(x, f"sample {index}") for x in parts]


def _keys_of(
    sample: Any, inputs: str | int | None, targets: str | int | None, where: str
) -> tuple[Any, Any]:
    """Return where input and wanted output are in a sample.

    Raises:
        DataError: it cannot be told.
    """
    if inputs is not None and targets is not None:
        return inputs, targets
    found = images_in(sample)
    if not isinstance(sample, Mapping) and len(found) >= 2:
        return (found[0] if inputs is None else inputs), (found[1] if targets is None else targets)
    usual = next((pair for pair in KEYS if set(pair) <= set(found)), None)
    if usual is None:
        raise DataError(
            f"{where}: which parts of a sample are input and wanted picture cannot be told; "
            f"{found_shape(sample)}. Say inputs= and targets= of adapt_pairs"
        )
    return (usual[0] if inputs is None else inputs), (usual[1] if targets is None else targets)
