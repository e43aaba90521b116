"""Files that ship in the wheel: embedded images, teacher, classifier, with their licences."""

from __future__ import annotations

from pathlib import Path

from gancompress.errors import ConfigError, closest


def path(name: str) -> Path:
    """Return the path of the shipped file ``name``.

    Raises:
        ConfigError: no such file ships with the package.
    """
    folder = Path(__file__).parent
    file = folder / name
    if not file.is_file():
        shipped = (p.name for p in folder.iterdir() if p.suffix != ".py")
        raise ConfigError(f"no embedded file {name!r}.{closest(name, shipped)}")
    return file
