"""One look at the header of every file, kept in the index for the next time."""

from __future__ import annotations

import os
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
    store: Store,
    kind: str,
    describe: Callable[[Source, str], Sequence[int]],
    *,
    width: int,
    on_bad: str,
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the ``width`` numbers that ``describe`` has for each file, and why bad ones are bad.

    ``kind`` names what they mean in the index. Rows of bad files hold `BAD`.

    Raises:
        DataError: a file is bad and ``on_bad`` is ``"error"``, or more than half of them are.
    """
    key, count = f"{kind}\0{os.path.abspath(store.where)}", len(store.files)
    known = index.load(key) if count >= CACHE_FROM else {}
    table = _reused(store, known, width)
    new = np.flatnonzero(table[:, 0] == BAD).tolist()
    bad: dict[int, str] = {}
    for i in new:
        try:
            table[i] = describe(store.source(i), store.name(i))
        except DataError as error:
            if on_bad == ERROR:
                raise
            bad[i] = str(error)
            if 2 * len(bad) > count:
                raise DataError(
                    f"more than half of the {count:,} files of {store.where} are bad, which "
                    f"on_bad_sample='skip' is not for. The first: {bad[min(bad)]}"
                ) from error
    if new and count >= CACHE_FROM:
        arrays = {"blob": store.files.blob, "ends": store.files.ends}
        index.store(key, {**arrays, "stamps": store.stamps, "rows": table})
    return table, bad


def _reused(store: Store, known: dict[str, np.ndarray], width: int) -> np.ndarray:
    """Return (n, width) int64: the known rows of files that are unchanged, `BAD` for the others."""
    found = np.full((len(store.files), width), BAD, np.int64)
    try:
        blob, ends, stamps, table = (known[k] for k in ("blob", "ends", "stamps", "rows"))
    except KeyError:
        return found
    old = Names(blob, ends)
    if stamps.shape != (len(old), 2) or table.shape != (len(old), width) or table.dtype != np.int64:
        return found
    if store.files.same(blob, ends):
        same = (stamps == store.stamps).all(axis=1) & (stamps[:, 0] >= 0)
        found[same] = table[same]
        return found
    rows = {name: i for i, name in enumerate(old)}
    for i, name in enumerate(store.files):
        j = rows.get(name)
        if j is not None and stamps[j, 0] >= 0 and (stamps[j] == store.stamps[i]).all():
            found[i] = table[j]
    return found
