"""Named captured activations: what a distiller may look at inside a network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gancompress.errors import ConfigError, closest
from gancompress.modules.nested import tensors_of

_INDEXED = re.compile(r"^(?P<path>.+)\[(?P<index>\d+)\]$")


class _Tap:
    """Owner of one hook; a deep copy of it is deaf: an EMA copy never writes into the original."""

    def __init__(self, path: str, index: int | None) -> None:
        self.path = path
        self.index = index
        self.calls: list[Tensor] = []
        self.deaf = False

    def record(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if self.deaf:
            return
        found = tensors_of(output)
        if self.index is None and len(found) == 1:
            self.calls.append(found[0])
        elif self.index is not None and self.index < len(found):
            self.calls.append(found[self.index])
        else:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found) or "nothing"
            raise ConfigError(
                f"tap {self.path!r}: {type(module).__name__} returns {len(found)} tensors "
                f"({shapes}); choose one of them as '{self.path}[0]', '{self.path}[1]', ..."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> _Tap:
        copy = _Tap(self.path, self.index)
        copy.deaf = True
        return copy


class _Reset:
    """Forget the last forward when the next one starts."""

    def __init__(self, taps: Sequence[_Tap]) -> None:
        self.taps = taps
        self.deaf = False

    def begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        for tap in () if self.deaf else self.taps:
            tap.calls.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reset:
        return _Reset(())


class Taps:
    """Record the outputs of the modules ``names`` at each forward of ``module`` (ours).

    ``names`` are module paths (``"blocks.0.0"``) or a mapping from the key wanted to the path. An
    output of several tensors needs an index, ``"encoder[1]"``. Hooks are attached at once; leave
    the ``with`` block or call ``remove()`` to take them off. The records of a forward live until
    ``take()`` or until the next forward of ``module`` starts. A deep copy of the module carries
    deaf hooks: it records nothing. A tap shows what an in-place operator behind it left there, and
    so does its gradient.

    Raises:
        ConfigError: a path that ``module`` does not have; the nearest one is named.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | Mapping[str, str]) -> None:
        wanted = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
        self._taps = {key: _Tap(*_parse(module, name)) for key, name in wanted.items()}
        self._handles: list[RemovableHandle] = []
        reset = _Reset(list(self._taps.values()))
        self._handles.append(module.register_forward_pre_hook(reset.begin))
        for tap in self._taps.values():
            target = module.get_submodule(tap.path)
            self._handles.append(target.register_forward_hook(tap.record))

    def take(self, kept: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the activations of the last forward by key, and forget them.

        ``kept`` maps a key to the indices (along dim 1) of its living channels: the others are
        returned as zero. A dead channel has no reader but its writer still computes it, so without
        this a loss would change at a live cut.

        Raises:
            ConfigError: a tapped module did not run, or ran more than once, in the last forward.
        """
        result: dict[str, Tensor] = {}
        for key, tap in self._taps.items():
            if len(tap.calls) != 1:
                count = f"ran {len(tap.calls)} times" if tap.calls else "did not run"
                raise ConfigError(
                    f"tap {tap.path!r} {count} in the last forward; tap a module that runs once"
                )
            result[key] = tap.calls[0]
        for key, indices in (kept or {}).items():
            if key in result:
                result[key] = _only(result[key], indices)
        for tap in self._taps.values():
            tap.calls.clear()
        return result

    def remove(self) -> None:
        """Take all hooks off and forget what was recorded; harmless when done twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for tap in self._taps.values():
            tap.calls.clear()

    def __enter__(self) -> Taps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


@contextmanager
def deafened(module: nn.Module) -> Iterator[None]:
    """Let ``module`` run without its present taps noticing: they keep what they hold (ours).

    For a distiller that runs a network again while other taps hold the activations of the step.
    """
    hooks = [
        hook
        for part in module.modules()
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
    ]
    owners = [owner for hook in hooks if isinstance(owner := _owner(hook), (_Tap, _Reset))]
    before = [owner.deaf for owner in owners]
    for owner in owners:
        owner.deaf = True
    try:
        yield
    finally:
        for owner, was in zip(owners, before, strict=True):
            owner.deaf = was


def _owner(hook: object) -> object:
    return getattr(hook, "__self__", None)


def tap_path(module: nn.Module, name: str) -> str:
    """Return the module path of tap ``name`` (without its index).

    Raises:
        ConfigError: ``module`` has no such submodule; the nearest one is named.
    """
    return _parse(module, name)[0]


def _parse(module: nn.Module, name: str) -> tuple[str, int | None]:
    match = _INDEXED.match(name)
    path, index = (match["path"], int(match["index"])) if match else (name, None)
    known = [found for found, _ in module.named_modules() if found]
    if path not in known:
        raise ConfigError(f"no tap {path!r} in {type(module).__name__}.{closest(path, known)}")
    return path, index


def _only(activation: Tensor, kept: Tensor) -> Tensor:
    if kept.numel() == activation.shape[1]:
        return activation
    gate = torch.zeros(activation.shape[1], dtype=activation.dtype, device=activation.device)
    gate[kept.to(activation.device)] = 1
    return activation * gate.view(1, -1, *[1] * (activation.dim() - 2))
