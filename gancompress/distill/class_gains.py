"""Find the class-dependent gain with which a network reads a tap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.distill.maths import widen
from gancompress.distill.taps import tap_path
from gancompress.errors import ConfigError
from gancompress.modules.nested import tensors_of
from gancompress.modules.undisturbed import evaluating, look, traceless


@dataclass(frozen=True)
class ClassGain:
    """A module whose output g scales the channels of a tap by ``offset + g`` (ours).

    One number a channel (of a class, AdaIN), or one a place as well (of a label map, SPADE).
    ``part`` says which half of the output it is (None = all of it), when one module makes gain and
    bias together.
    """

    path: str
    offset: float
    part: int | None

    def of(self, output: Tensor) -> Tensor:
        """Return gains (n, c), or (n, c, *space), from the module's output of c or 2c channels."""
        found = widen(output)
        if max(found.shape[2:], default=1) == 1:
            found = found.flatten(1)
        if self.part is not None:
            found = found.chunk(2, dim=1)[self.part]
        return self.offset + found


@dataclass
class _Reader:
    """A module that was handed the tap together with something else, and its arguments."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class _Watch:
    """Hooks that note who receives the output of one tap."""

    tap: str
    paths: Mapping[nn.Module, str]
    output: Tensor | None = None
    readers: list[_Reader] = field(default_factory=list)

    def produced(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self.output = next(iter(tensors_of(output)), None)

    def called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*tensors_of(args), *tensors_of(kwargs)]
        if self.output is not None and len(given) > 1 and any(x is self.output for x in given):
            self.readers.append(_Reader(self.paths[module], args, dict(kwargs)))


def find_gain(module: nn.Module, tap: str, example: tuple[Any, ...]) -> ClassGain | None:
    """Return the gain with which ``module`` reads ``tap``, None when no condition does (ours).

    The reader is the innermost module that receives the tap's output itself and another tensor (the
    condition). Its gain is the submodule whose output, set to 0, 1 and 2, scales the reader's
    output in proportion, channel by channel; the value at 0 gives the offset (1 for ``1 +
    gain(y)``). No names are used. Costs one forward of the network and a few of the reader, at
    build time.
    """
    watch = _watch(module, tap, example)
    if watch.output is None:
        return None
    inner = [
        reader
        for reader in watch.readers
        if not any(other.path.startswith(reader.path + ".") for other in watch.readers)
    ]
    for reader in inner:
        found = _probe(module, reader, watch.output)
        if found is not None:
            return found
    return None


def named_gain(module: nn.Module, tap: str, path: str, example: tuple[Any, ...]) -> ClassGain:
    """Return the gain at ``path``, a submodule of the conditional norm that reads ``tap``.

    Raises:
        ConfigError: no such module, or its output does not scale the channels of the tap.
    """
    tap_path(module, path)
    watch = _watch(module, tap, example)
    for reader in watch.readers:
        if watch.output is not None and path.startswith(reader.path + "."):
            found = _probe(module, reader, watch.output, path)
            if found is not None:
                return found
    readers = ", ".join(repr(reader.path) for reader in watch.readers) or "nothing"
    raise ConfigError(
        f"gains: {path!r} does not scale the channels of tap {tap!r} "
        f"(read together with a condition by {readers})"
    )


def _watch(module: nn.Module, tap: str, example: tuple[Any, ...]) -> _Watch:
    path = tap_path(module, tap)
    watch = _Watch(path, {part: name for name, part in module.named_modules()})
    handles = [module.get_submodule(path).register_forward_hook(watch.produced)]
    for part in watch.paths:
        handles.append(part.register_forward_pre_hook(watch.called, with_kwargs=True))
    try:
        look(module, example)
    finally:
        for handle in handles:
            handle.remove()
    return watch


def _probe(
    module: nn.Module, reader: _Reader, tap: Tensor, only: str | None = None
) -> ClassGain | None:
    norm = module.get_submodule(reader.path)
    # Noise, not the tap itself: a flat channel would have no slope.
    rng = torch.Generator().manual_seed(0)
    noises = [torch.randn(tap.shape, generator=rng).to(tap.device, tap.dtype) for _ in range(2)]

    def slope() -> Tensor | None:
        made: list[Tensor] = []
        for noise in noises:
            args = tuple(noise if x is tap else x for x in reader.args)
            kwargs = {name: noise if x is tap else x for name, x in reader.kwargs.items()}
            made += tensors_of(traceless(norm, args, kwargs))[:1]
        if [x.shape for x in made] != [tap.shape] * 2:
            return None
        # A difference: what a condition adds, the same for any tap, is no slope.
        a, b = (widen(one - other).flatten(2) for one, other in (noises, made))
        a, b = a - a.mean(2, keepdim=True), b - b.mean(2, keepdim=True)
        return (a * b).mean(2) / a.square().mean(2)

    with torch.no_grad(), evaluating(norm):
        shapes = _Shapes()
        with _hooked(norm, shapes.note):
            if slope() is None:
                return None
        for part, shape in shapes.found.items():
            name = next(path for path, other in norm.named_modules() if other is part)
            path = f"{reader.path}.{name}"
            times = _channels(shape, tap.shape)
            if times is None or (only is not None and path != only):
                continue
            for half in (None,) if times == 1 else (0, 1):
                slopes: list[Tensor] = []
                for value in (0.0, 1.0, 2.0):
                    handle = part.register_forward_hook(_Set(value, half).override)
                    try:
                        found = slope()
                    finally:
                        handle.remove()
                    slopes += [] if found is None else [found]
                offset = _offset(slopes)
                if offset is not None:
                    return ClassGain(path, offset, half)
    return None


def _channels(shape: tuple[int, ...], tap: tuple[int, ...]) -> int | None:
    """Return 1 or 2, the channels of ``shape`` for each of the tap's; ``None``: it is no gain."""
    plain = max(shape[2:], default=1) == 1
    if len(shape) < 2 or shape[0] != tap[0] or not (plain or shape[2:] == tap[2:]):
        return None
    return next((times for times in (1, 2) if shape[1] == times * tap[1]), None)


def _offset(slopes: list[Tensor]) -> float | None:
    if len(slopes) != 3:
        return None
    step, next_step = slopes[1] - slopes[0], slopes[2] - slopes[1]
    largest = slopes[2].abs().max()
    if largest == 0 or step.abs().min() <= 1e-4 * largest:
        return None
    if not torch.allclose(step, next_step, rtol=1e-2, atol=0.0):
        return None
    ratio = slopes[0] / step
    offset = float(ratio.median())
    if float((ratio - offset).abs().max()) > 1e-2 * (1 + abs(offset)):
        return None
    return float(round(offset)) if abs(offset - round(offset)) < 1e-2 else offset


class _Shapes:
    """Notes what each submodule returns."""

    def __init__(self) -> None:
        self.found: dict[nn.Module, tuple[int, ...]] = {}

    def note(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if isinstance(output, Tensor):
            self.found[module] = tuple(output.shape)


class _Set:
    """Replaces a module's output, or one half of its channels, by a constant."""

    def __init__(self, value: float, half: int | None) -> None:
        self.value = value
        self.half = half

    def override(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        output = output.clone()
        part = output if self.half is None else output.chunk(2, dim=1)[self.half]
        part.fill_(self.value)
        return output


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handles = [part.register_forward_hook(hook) for part in module.modules() if part is not module]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
