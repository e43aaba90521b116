"""Sizes that live in Python: integer attributes that follow a channel count.

Slicing parameters leaves `self.ch`, `self.ch // 8` or `(512, 4, 4)` behind in Python. While the generator
is traced, integer attributes are replaced by `TracedInt`: arithmetic keeps the expression, and
where one reaches a tensor function we note which dimension it sizes. After a cut the attribute gets
the value that makes every such expression right again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

AttributeKey = tuple[str, str, int | None]
"""(module path, attribute name, index inside a tuple or list)."""

Env = Mapping[AttributeKey, int]


class TracedInt(int):
    """An int that remembers which module attributes it was computed from (ours)."""

    keys: frozenset[AttributeKey]
    fn: Callable[[Env], int]

    @classmethod
    def of(cls, value: int, keys: frozenset[AttributeKey], fn: Callable[[Env], int]) -> TracedInt:
        """Make one from a value and the function that recomputes it."""
        made = cls(value)
        made.keys, made.fn = keys, fn
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedInt:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


def _parts(x: Any) -> tuple[frozenset[AttributeKey], Callable[[Env], int]]:
    if isinstance(x, TracedInt):
        return x.keys, x.fn
    return frozenset(), lambda env: x


def _arithmetic(name: str, swapped: bool) -> Callable[[Any, Any], Any]:
    op = getattr(operator, name)

    def method(self: TracedInt, other: Any) -> Any:
        if type(other) not in (int, TracedInt):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        (ka, fa), (kb, fb) = _parts(left), _parts(right)
        return TracedInt.of(
            op(int(left), int(right)), ka | kb, lambda env: op(fa(env), fb(env))
        )

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(TracedInt, f"__{_name}__", _arithmetic(_name, swapped=False))
    setattr(TracedInt, f"__r{_name}__", _arithmetic(_name, swapped=True))


@dataclass(frozen=True)
class SizeUse:
    """``fn(env)`` must equal ``expected(count)`` after a cut, where count maps a dim to its size."""

    value: TracedInt
    expected: Callable[[Callable[[Any], int]], int]


def _plain(x: Any) -> Any:
    """Strip traced integers from (nested) arguments, so that torch sees what the user wrote."""
    if isinstance(x, TracedInt):
        return int(x)
    if type(x) in (tuple, list):
        return type(x)(_plain(v) for v in x)
    if isinstance(x, slice):
        return slice(_plain(x.start), _plain(x.stop), _plain(x.step))
    return x


def _traced(x: Any) -> Iterator[TracedInt]:
    if isinstance(x, TracedInt):
        yield x
    elif type(x) in (tuple, list):
        for v in x:
            yield from _traced(v)
    elif isinstance(x, slice):
        yield from _traced((x.start, x.stop, x.step))


class SizeWatch(TorchFunctionMode):
    """Notes which tensor dimension each traced integer sizes.

    ``dims_of(tensor)`` gives the tracer's dimensions of a tensor; ``prefix(dim, n)`` its first n indices.
    """

    def __init__(
        self,
        dims_of: Callable[[torch.Tensor], Sequence[Any]],
        prefix: Callable[[Any, int], Any],
        uses: list[SizeUse],
    ) -> None:
        super().__init__()
        self._dims_of, self._prefix, self._uses = dims_of, prefix, uses

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        kwargs = kwargs or {}
        traced = [*_traced(tuple(args)), *_traced(tuple(kwargs.values()))]
        if not traced:
            return func(*args, **kwargs)
        out = func(*_plain(tuple(args)), **{k: _plain(v) for k, v in kwargs.items()})
        self._note(func, args, kwargs, out, traced)
        return out

    def _note(
        self, func: Any, args: Any, kwargs: Any, out: Any, traced: Sequence[TracedInt]
    ) -> None:
        name = getattr(func, "__name__", "")
        if name == "__getitem__":
            self._note_slices(args[0], args[1])
            return
        if name in ("group_norm", "conv1d", "conv2d", "conv3d") or "conv_transpose" in name:
            return  # the operator rules know these counts exactly
        tensors = [t for t in _flatten(out) if isinstance(t, torch.Tensor)]
        sizes = args[1:] if name in _SHAPED else ()
        if len(sizes) == 1 and type(sizes[0]) in (tuple, list):
            sizes = sizes[0]
        for t in traced:
            place = next((i for i, s in enumerate(sizes) if s is t), None)
            found: list[Any] = []
            for tensor in tensors:
                dims = self._dims_of(tensor)
                if place is not None and len(dims) == len(sizes):
                    found.append(dims[place])
                else:
                    found += [d for d, n in zip(dims, tensor.shape, strict=True) if n == t]
            if found:
                dim = found[0]
                self._uses.append(SizeUse(t, lambda count, dim=dim: count(dim)))

    def _note_slices(self, x: torch.Tensor, index: Any) -> None:
        dims, at = self._dims_of(x), 0
        for item in index if isinstance(index, tuple) else (index,):
            if item is Ellipsis:
                at = len(dims) - sum(i is not None and i is not Ellipsis for i in index) + at
                continue
            if isinstance(item, slice):
                for edge in (item.start, item.stop):
                    if isinstance(edge, TracedInt) and 0 < edge <= x.shape[at]:
                        head = self._prefix(dims[at], int(edge))
                        self._uses.append(SizeUse(edge, lambda count, head=head: count(head)))
            at += item is not None


_SHAPED = {"view", "reshape", "expand", "repeat", "_unsafe_view"}


def _flatten(x: Any) -> Iterator[Any]:
    if isinstance(x, (tuple, list)):
        for v in x:
            yield from _flatten(v)
    else:
        yield x


def plant(module: nn.Module) -> None:
    """Replace the integer attributes of every submodule of a (copied) module by `TracedInt`."""
    for path, sub in module.named_modules():
        ours = type(sub).__module__.startswith("torch.nn")
        for name, value in list(vars(sub).items()):
            if name.startswith("_") or name == "training":
                continue
            if ours and name not in ("num_heads",):
                continue
            if type(value) is int and value > 1:
                vars(sub)[name] = _leaf((path, name, None), value)
            elif type(value) in (tuple, list) and value and all(type(v) is int for v in value):
                vars(sub)[name] = type(value)(
                    _leaf((path, name, i), v) if v > 1 else v for i, v in enumerate(value)
                )


def _leaf(key: AttributeKey, value: int) -> TracedInt:
    return TracedInt.of(value, frozenset([key]), lambda env: env.get(key, value))


def solve_attributes(
    uses: Sequence[SizeUse], old: Env, count: Callable[[Any], int]
) -> dict[AttributeKey, int]:
    """Return new attribute values that make every expression equal its dimension's new size.

    An attribute whose uses contradict each other keeps its value; the probe then names the groups.
    """
    wanted: list[tuple[TracedInt, int]] = [(u.value, u.expected(count)) for u in uses]
    env: dict[AttributeKey, int] = dict(old)
    for key in sorted({k for t, _ in wanted for k in t.keys}, key=str):
        mine = [(t, n) for t, n in wanted if key in t.keys]
        if all(t.fn(env) == n for t, n in mine):
            continue
        for candidate in range(old[key], 0, -1):
            trial = {**env, key: candidate}
            if all(t.fn(trial) == n for t, n in mine):
                env = trial
                break
    return {k: v for k, v in env.items() if v != old[k]}
