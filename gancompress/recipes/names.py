"""Which registry names exist, without importing torch: read from the source that registers them."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

from gancompress.registry import Registry

# kind -> (registry variable, places that may register into it, relative to the package)
_HOMES = {
    "relaxation": ("RELAXATIONS", ("masks",)),
    "penalty": ("PENALTIES", ("masks",)),
    "importance": ("IMPORTANCES", ("masks",)),
    "schedule": ("SCHEDULES", ("masks",)),
    "distiller": ("DISTILLERS", ("distill",)),
    "adversarial loss": ("ADVERSARIAL", ("training",)),
    "augmentation": ("AUGMENTATIONS", ("training",)),
}
KINDS = tuple(_HOMES)


def known_names(kind: str) -> frozenset[str]:
    """Return the registered names of ``kind``: those in our source, and a plug-in's once imported.

    Recipes are checked against these, so that ``validate`` never waits for torch (ours).
    """
    variable, folders = _HOMES[kind]
    names = set(_in_source(variable, folders))
    for module in list(sys.modules.values()):
        if (getattr(module, "__name__", None) or "").startswith("gancompress."):
            registry = vars(module).get(variable)
            if isinstance(registry, Registry):
                names.update(registry)
    return frozenset(names)


@functools.cache
def _in_source(variable: str, folders: tuple[str, ...]) -> frozenset[str]:
    pattern = re.compile(rf"^@?{variable}\.register\(\s*\"([a-z0-9_-]+)\"", re.MULTILINE)
    root = Path(__file__).parent.parent
    files = (file for f in folders for file in sorted((root / f).rglob("*.py")))
    sources = (file.read_text("utf-8") for file in files)
    return frozenset(name for text in sources for name in pattern.findall(text))
