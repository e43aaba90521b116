"""Plug-ins of the user's own: modules that are named, or that installed packages announce."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gancompress.errors import ConfigError, closest

GROUP = "gancompress.plugins"
"""Entry point group: each entry names a module; importing it registers what it holds."""

_installed_done = False
_typed: set[str] = set()


def load_plugin(module: str) -> None:
    """Import ``module``, so that what it registers is known; a second time changes nothing (ours).

    It is looked for as Python does, and in the current folder. Only ever call this with a name
    that the user typed: no recipe and no file of a run may lead here.

    Raises:
        ConfigError: not the name of a module, no such module, or it fails when it is imported.
    """
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(
            f"plug-in {module!r} is not the name of a module: write my_plugin for my_plugin.py in "
            "the current folder, or package.module"
        )
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise ConfigError(f"plug-in {module!r} cannot be imported: {error}") from error
        near = closest(module, [p.stem for p in Path(here).glob("*.py")])
        raise ConfigError(
            f"no module for plug-in {module!r}, neither installed nor in {here}.{near}"
        ) from error
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"plug-in {module!r} fails: {type(error).__name__}: {error}") from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    _typed.add(module)


def loaded_function(spec: str) -> Callable[..., Any]:
    """Return the function called ``module:name`` of a module that the user has loaded (ours).

    Nothing is imported: a recipe may name what is there, never bring it.

    Raises:
        ConfigError: the module was not loaded by `load_plugin`, or has no such function.
    """
    module, _, path = spec.partition(":")
    if module not in _typed or module not in sys.modules:
        raise ConfigError(
            f"{spec!r} is code, and a recipe imports none: type --plugin {module} beside it (in "
            f"Python, load_plugin({module!r}))"
        )
    found: Any = sys.modules[module]
    for part in path.split("."):
        if not hasattr(found, part):
            public = [n for n in vars(found) if callable(getattr(found, n)) and n[0] != "_"]
            raise ConfigError(f"{module} has no {part!r}.{closest(part, public)}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{spec} is a {type(found).__name__}; it must be a function")
    return found


def load_installed_plugins() -> None:
    """Import, once a process, what installed packages announce under `GROUP` (ours).

    Raises:
        ConfigError: one fails; the package that brings it is in the message.
    """
    global _installed_done
    if _installed_done:
        return
    _installed_done = True  # first: a plug-in that asks for names while it loads comes back here
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            _installed_done = False
            brought = f" of package {point.dist.name}" if point.dist is not None else ""
            raise ConfigError(
                f"plug-in {point.name!r}{brought} ({point.value}) fails: "
                f"{type(error).__name__}: {error}. Mend or uninstall it"
            ) from error
