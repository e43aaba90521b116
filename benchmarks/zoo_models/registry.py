"""The list of third-party generators and what it takes to import them today."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import nn

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """One generator of the zoo.

    Attributes:
        name: identifier in tables and on the command line.
        package: name on the package index, pinned, as `package==version`.
        kind: image, restoration, decoder or audio.
        build: returns (module, args, kwargs); raises ImportError when the package is absent.
    """

    name: str
    package: str
    kind: str
    build: Callable[[], Built]


ZOO: dict[str, Entry] = {}


def model(package: str, kind: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a builder under its function name."""

    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        ZOO[build.__name__] = Entry(build.__name__, package, kind, build)
        return build

    return register


def stand_in(name: str, **attributes: Any) -> None:
    """Provide a module that a package imports but its generator never uses, when it is absent."""
    top = name.split(".")[0]
    if name in sys.modules or importlib.util.find_spec(top) is not None:
        return
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(attributes)
    sys.modules[name] = module


def mocked(name: str) -> None:
    """Provide a module whose every attribute exists and does nothing."""

    def attribute(key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return MagicMock()

    stand_in(name, __getattr__=attribute)


def old_torchvision() -> None:
    """Give back `torchvision.transforms.functional_tensor`, which old packages import."""
    name = "torchvision.transforms.functional_tensor"
    if name not in sys.modules:
        from torchvision.transforms.functional import rgb_to_grayscale

        module = types.ModuleType(name)
        vars(module)["rgb_to_grayscale"] = rgb_to_grayscale
        sys.modules[name] = module


def any_torchaudio() -> None:
    """Import torchaudio although its CUDA minor version differs: nothing here runs on it."""
    if importlib.util.find_spec("torchaudio") is None or "torchaudio" in sys.modules:
        return
    version = torch.version.cuda
    try:
        vars(torch.version)["cuda"] = "13.0"
        import torchaudio  # noqa: F401  (imported for the check that it makes)
    except Exception as error:
        raise ImportError(f"torchaudio does not import: {error}") from error
    finally:
        vars(torch.version)["cuda"] = version


@contextlib.contextmanager
def pretended_cuda() -> Iterator[None]:
    """Say that a GPU is there while a package is imported that asserts it at the top."""
    real = torch.cuda.is_available
    torch.cuda.is_available = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_available = real
