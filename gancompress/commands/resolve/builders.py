"""From what the user typed to networks: a builder in Python, a run folder, or the embedded pair."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gancompress.commands.console import note
from gancompress.errors import ConfigError, closest
from gancompress.modules.copying import inside
from gancompress.modules.user_line import failing_line
from gancompress.weights.matching import fit_weights
from gancompress.weights.reading import descend, read_weight_file, tensors_at


def load_builder(spec: str) -> Callable[[], Any]:
    """Return the function or class called ``package.module:name``; the current folder is searched.

    Only what the user typed is imported: a specification never comes out of a file.

    Raises:
        ConfigError: the module or the name is missing, or importing it fails.
    """
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(
            f"{spec!r} does not name a generator. Write package.module:build_fn, "
            "a run folder, or nothing at all for the embedded one"
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            files = [f.stem for f in Path(here).glob("*.py")]
            raise ConfigError(
                f"no module {module_name!r} in {here} or the environment."
                f"{closest(module_name, files)}"
            ) from error
        raise ConfigError(f"importing {module_name} failed: {where(error)}") from error
    except Exception as error:
        raise ConfigError(f"importing {module_name} failed: {where(error)}") from error
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            public = [n for n in vars(target) if callable(getattr(target, n)) and n[0] != "_"]
            raise ConfigError(f"{module_name} has no {part!r}.{closest(part, public)}")
        target = getattr(target, part)
    if not callable(target):
        raise ConfigError(f"{spec} is a {type(target).__name__}; it must be a function or a class")
    return target


def build(spec: str) -> nn.Module:
    """Return the module that the builder ``spec`` makes, called without arguments.

    Raises:
        ConfigError: the builder fails, or returns something else than a module.
    """
    builder = load_builder(spec)
    try:
        module = builder()
    except Exception as error:
        raise ConfigError(f"{spec}() failed: {where(error)}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{spec}() returned a {type(module).__name__}, not a torch.nn.Module")
    shells, plain = inside(module)
    if shells:
        note(f"{spec}() returned a {' of a '.join(shells)}: working on the network inside it")
    return plain


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or torch file: ``FILE``, or ``FILE:key`` when nested.

    Nothing that the file names is imported or run.

    Raises:
        CheckpointError: the file is missing, truncated, not weights only, or nested without a key.
    """
    file, key = _file_and_key(path)
    return tensors_at(file, key)


def load_weights(module: nn.Module, path: str) -> None:
    """Load ``path`` into ``module``, every tensor or none; what had to be done is said.

    Prefixes, tables in a training state and the two spellings of weight norms are seen through
    where only one reading fits (`gancompress.weights.matching`).

    Raises:
        CheckpointError: names or shapes differ; the first of each kind are in the message.
    """
    file, key = _file_and_key(path)
    read = read_weight_file(file)
    value = descend(read.value, key, file)
    state, notes = fit_weights(module, value, path, chosen=bool(key))
    module.load_state_dict(state)
    for text in (*read.notes, *notes):
        note(f"weights of {file.name}: {text}")


def _file_and_key(path: str) -> tuple[Path, str]:
    file = Path(path)
    if not file.exists() and ":" in path:
        stem, _, key = path.rpartition(":")
        return Path(stem), key
    return file, ""


def where(error: BaseException) -> str:
    """Say ``error`` in one line, with the last place in the user's own code."""
    line = failing_line(error)
    place = f" at {line}" if line else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{place}"
