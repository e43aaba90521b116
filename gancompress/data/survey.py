"""One look at the header of every file, kept in the index for the next time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gancompress.data import index
from gancompress.data.index import Names
from gancompress.data.pictures import Source
from gancompress.data.stores import Store
from gancompress.errors import ConfigError, DataError

CACHE_FROM = 2_000
"""Files from which an index is kept; fewer are read again in a fraction of a second."""

BAD = -1
ERROR, SKIP = "error", "skip"


def check_on_bad(word: str) -> None:
    """Refuse another word than ``error`` or ``skip`` (ConfigError)."""
    if word not in (ERROR, SKIP):
        raise ConfigError(f"on_bad_sample={word!r} is none of {ERROR}, {SKIP}")


def survey(
    store: Store, kind: str, describe: Callable[[Source, str], Sequence[int]], *, on_bad: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Return what ``describe`` says of every file, (n, k) int64, and why bad files are bad.

    ``kind`` names the shape of a description in the index. Rows of bad files hold `BAD`.

    Raises:
        DataError: a file is bad and ``on_bad`` is ``"error"``, or more than half of them are.
    """
    key, count = f"{kind}\0{store.where}", len(store.files)
    known = index.load(key) if count >= CACHE_FROM else {}
    rows: list[np.ndarray | None] = _reused(store, known)
    bad: dict[int, str] = {}
    new = False
    for i, row in enumerate(rows):
        if row is not None:
            continue
        new = True
        try:
            rows[i] = np.array(describe(store.source(i), store.name(i)), np.int64)
        except DataError as error:
            if on_bad == ERROR:
                raise
            bad[i] = str(error)
            if 2 * len(bad) > count:
                raise DataError(
                    f"more than half of the {count:,} files of {store.where} are bad, which "
                    f"on_bad_sample='skip' is not for. The first: {bad[min(bad)]}"
                ) from error
    width = max((len(row) for row in rows if row is not None), default=1)
    table = np.full((count, width), BAD, np.int64)
    for i, row in enumerate(rows):
        if row is not None:
            table[i] = row
    if new and count >= CACHE_FROM:
        arrays = {"blob": store.files.blob, "ends": store.files.ends}
        index.store(key, {**arrays, "stamps": store.stamps, "rows": table})
    return table, bad


def _reused(store: Store, known: dict[str, np.ndarray]) -> list[np.ndarray | None]:
    """Return the known row of each file that is unchanged, and ``None`` for the others."""
    count = len(store.files)
    try:
        blob, ends, stamps, table = (known[k] for k in ("blob", "ends", "stamps", "rows"))
        old = Names(blob, ends)
        fits = stamps.shape == (len(old), 2) and len(table) == len(old) and table.ndim == 2
        if not fits or table.dtype != np.int64:
            return [None] * count
    except KeyError:
        return [None] * count
    good = (table[:, 0] != BAD) & (stamps[:, 0] >= 0)
    if store.files.same(blob, ends):
        same = good & (stamps == store.stamps).all(axis=1)
        return [table[i] if same[i] else None for i in range(count)]
    rows = {old[i]: i for i in np.flatnonzero(good).tolist()}
    found: list[np.ndarray | None] = []
    for i, name in enumerate(store.files):
        j = rows.get(name)
        same = j is not None and bool((stamps[j] == store.stamps[i]).all())
        found.append(table[j] if same else None)
    return found
