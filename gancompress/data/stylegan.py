"""StyleGAN's way to store a data set: numbered shards of pictures, and ``dataset.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gancompress.data.classes import Listing
from gancompress.data.picture_set import label_names
from gancompress.errors import DataError

META = "dataset.json"
NO_LABELS = "StyleGAN's layout without dataset.json: no labels"
_SHARD = re.compile(r"\d{5}/img\d{8}\.\w+")
_DAMAGED = (OSError, ValueError, RecursionError)


def are_shards(names: Collection[str]) -> bool:
    """Return whether all pictures are called ``00000/img00000000.png`` and the like."""
    return bool(names) and all(_SHARD.fullmatch(name) for name in names)


def labels_of_text(text: bytes, where: str) -> list[tuple[str, int]] | None:
    """Return (file, class) of a ``dataset.json``; ``None``: it has no labels.

    Raises:
        DataError: labels of another form, or that cannot be classes.
        ValueError: the text is no JSON.
    """
    data = json.loads(text)
    found = data.get("labels") if isinstance(data, dict) else None
    if not found:  # StyleGAN's tool writes null
        return None
    pairs: list[tuple[str, int]] = []
    for item in found.items() if isinstance(found, dict) else found:
        name, label = item if isinstance(item, list | tuple) and len(item) == 2 else (None, None)
        number = _class_number(label)
        if number is not None and abs(number) >= 2**31:
            raise DataError(
                f"{where}: labels must lie in 0..{2**20 - 1:,}; found {str(number)[:24]}"
            )
        if not isinstance(name, str) or number is None:
            raise DataError(
                f"{where}: {META} has the label {str(item)[:80]}; expected [file, class]"
            )
        pairs.append((name, number))
    return pairs


def _class_number(label: object) -> int | None:
    """Return a class number, also of a one-hot list; ``None`` for another condition."""
    if isinstance(label, list) and all(isinstance(v, (int, float)) for v in label):
        one_hot = sum(v == 1 for v in label) == 1 and sum(v == 0 for v in label) == len(label) - 1
        return label.index(1) if one_hot else None
    return label if isinstance(label, int) and not isinstance(label, bool) else None


def label_arguments(
    where: str,
    names: Sequence[str],
    labels: Sequence[tuple[str, int]] | None,
    there: Callable[[str], bool],
    classes: Mapping[str, str] | None,
) -> tuple[Tensor | None, tuple[str, ...], list[str]]:
    """Return labels (n,) or ``None``, class names and notes of the pictures ``names``.

    ``there`` tells whether a file of that name is in the set at all.

    Raises:
        DataError: a picture without label, a label of a file that is not there, or classes for
            pictures without labels.
    """
    if labels is None:
        if classes is not None:
            raise DataError(f"{where} has no labels that the classes could name")
        return None, (), [f"{META} has no labels"]
    given = dict(labels)
    missing = [name for name in names if name not in given]
    absent = [name for name in given if not there(name)]
    if missing or absent:
        what = f"no label for {missing[0]}" if missing else f"a label for {absent[0]}, not there"
        raise DataError(
            f"{where}: {META} has {what} ({len(missing)} without label, {len(absent)} absent)"
        )
    each = torch.tensor([given[name] for name in names], dtype=torch.int64)
    return each, label_names(each, classes, where), [f"labels of {META}"]


Unpacked = tuple[list[str], list[tuple[str, int]] | None]
"""Pictures of an unpacked set, and its labels, if it has any."""


def of_folder(folder: Path, listing: Listing) -> Unpacked | None:
    """Return what an unpacked StyleGAN set holds; ``None``: ``folder`` is none.

    It is one when its pictures lie in numbered shards, or ``dataset.json`` has a label for each.

    Raises:
        DataError: its ``dataset.json`` is damaged.
    """
    names = [f"{part}/{file}" for part in sorted(listing.folders) for file in listing.folders[part]]
    names += listing.loose
    shards, meta = are_shards(names), folder / META
    labels = None
    try:
        if meta.is_file():
            labels = labels_of_text(meta.read_bytes(), str(folder))
    except (*_DAMAGED, DataError) as error:
        if shards:  # otherwise it may be anything that is called so
            raise DataError(f"cannot read {meta}: {error}") from error
    if shards or (labels is not None and set(names) <= {name for name, _ in labels}):
        return names, labels
    return None
