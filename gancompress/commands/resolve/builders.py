"""From what the user typed to networks: a builder in Python, a run folder, or the embedded pair."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError, ConfigError, closest
from gancompress.modules.copying import shell_around
from gancompress.modules.user_line import failing_line


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
    if inside := shell_around(module):
        raise ConfigError(
            f"{spec}() returned a network inside a {type(module).__name__}: return what is in it "
            f"(its .{inside}); what is compiled or distributed can be so again after the cut"
        )
    return module


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or torch file: ``FILE``, or ``FILE:key`` when nested.

    A torch file is read with ``weights_only=True``: nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, truncated, not weights only, or nested without a key.
    """
    file, key = _file_and_key(path)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(str(file))
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror or error}") from error
    except Exception as error:  # the two readers raise many types for one fact: it is not weights
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{file} is damaged, truncated, or holds more than weights ({first[:160]}). "
            "Write it again with safetensors, or torch.save(module.state_dict(), ...)"
        ) from error
    for part in key.split(".") if key else ():
        if not isinstance(found, Mapping) or part not in found:
            names = list(found) if isinstance(found, Mapping) else []
            raise CheckpointError(f"{file} has no entry {part!r}.{closest(part, map(str, names))}")
        found = found[part]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        keys = [str(k) for k, v in found.items() if isinstance(v, Mapping)] if found else []
        hint = f" Choose one: {', '.join(f'{file}:{k}' for k in keys)}" if keys else ""
        raise CheckpointError(f"{file} does not hold a flat table of tensors.{hint}")
    return {str(name): tensor for name, tensor in found.items()}


def load_weights(module: nn.Module, path: str) -> None:
    """Load ``path`` into ``module``, every tensor or none.

    Raises:
        CheckpointError: names or shapes differ; the first of each kind are in the message.
    """
    given, wanted = read_weights(path), module.state_dict()
    faults = []
    if missing := [n for n in wanted if n not in given]:
        faults.append(f"{len(missing)} missing ({_some(missing)})")
    if extra := [n for n in given if n not in wanted]:
        faults.append(f"{len(extra)} unknown ({_some(extra)})")
    shapes = [
        f"{n}: file {tuple(given[n].shape)}, network {tuple(wanted[n].shape)}"
        for n in wanted
        if n in given and given[n].shape != wanted[n].shape
    ]
    if shapes:
        faults.append(f"{len(shapes)} of another shape ({_some(shapes)})")
    if faults:
        raise CheckpointError(
            f"{path} is not made for this {type(module).__name__}: {'; '.join(faults)}. "
            "Check that the builder uses the sizes of the checkpoint"
        )
    bad = [n for n, t in given.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise CheckpointError(f"{path} holds values that are not finite in {_some(bad)}")
    module.load_state_dict(given)


def _file_and_key(path: str) -> tuple[Path, str]:
    file = Path(path)
    if not file.exists() and ":" in path:
        stem, _, key = path.rpartition(":")
        return Path(stem), key
    return file, ""


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def where(error: BaseException) -> str:
    """Say ``error`` in one line, with the last place in the user's own code."""
    line = failing_line(error)
    place = f" at {line}" if line else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{place}"
