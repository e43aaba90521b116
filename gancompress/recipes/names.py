"""Which registry names exist, without importing torch: the source that registers them is read."""

from __future__ import annotations

from gancompress.plugins.kinds import KINDS as _REGISTRIES

KINDS = tuple(_REGISTRIES)


def known_names(kind: str) -> frozenset[str]:
    """Return the names of ``kind``: those in our source, and a plug-in's once it is loaded."""
    return frozenset(_REGISTRIES[kind].known())
