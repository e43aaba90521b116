"""Optional packages, asked for where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from gancompress.errors import ConfigError


def require(module: str, extra: str) -> Any:
    """Import ``module`` of the optional dependency group ``extra``.

    Raises:
        ConfigError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ConfigError(
            f"{error.name} is not installed; it belongs to the extra [{extra}]: "
            f"pip install 'gancompress[{extra}]'"
        ) from error
