"""Integers that remember what they were computed from: attributes of modules, sizes of tensors."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

AttributeKey = tuple[str, str, int | None]
"""(module path, name as in `graph.numbers`, index inside a tuple or list)."""


@dataclass(frozen=True)
class DimKey:
    """The size of one tensor dimension; the same channels have the same ``ident``."""

    ident: tuple[Any, ...]
    dim: Any = field(compare=False)


Key = AttributeKey | DimKey
Env = Mapping[Any, int]
"""Value of each `Key`."""


class TracedInt(int):
    """An int that remembers which attributes and dimensions it was computed from (ours)."""

    keys: frozenset[Key]
    fn: Callable[[Env], int]

    @property
    def attributes(self) -> frozenset[AttributeKey]:
        """The module attributes among ``keys``."""
        return frozenset(k for k in self.keys if not isinstance(k, DimKey))

    @classmethod
    def of(cls, value: int, keys: frozenset[Key], fn: Callable[[Env], int]) -> TracedInt:
        """Make one from a value and the function that recomputes it."""
        made = cls(value)
        made.keys, made.fn = keys, fn
        return made

    def at(self, env: Env) -> int:
        """Return the value for other attributes and sizes; -1 where it would divide by zero."""
        try:
            return self.fn(env)
        except ZeroDivisionError:
            return -1

    def item(self) -> TracedInt:
        """Return the number, as a NumPy integer does."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedInt:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


def _parts(x: Any) -> tuple[frozenset[Key], Callable[[Env], int]]:
    if isinstance(x, TracedInt):
        return x.keys, x.fn
    return frozenset(), lambda env: x


def _arithmetic(name: str, swapped: bool) -> Callable[[Any, Any], Any]:
    op = getattr(operator, name)

    def method(self: TracedInt, other: Any) -> Any:
        if not isinstance(other, numbers.Integral) or isinstance(other, bool):
            return NotImplemented
        other = other if isinstance(other, TracedInt) else int(other)
        left, right = (other, self) if swapped else (self, other)
        (ka, fa), (kb, fb) = _parts(left), _parts(right)
        return TracedInt.of(op(int(left), int(right)), ka | kb, lambda env: op(fa(env), fb(env)))

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "lshift", "rshift"):
    setattr(TracedInt, f"__{_name}__", _arithmetic(_name, swapped=False))
    setattr(TracedInt, f"__r{_name}__", _arithmetic(_name, swapped=True))


def leaf(key: AttributeKey, value: int) -> TracedInt:
    """Return the traced integer of one attribute."""
    return TracedInt.of(value, frozenset([key]), lambda env: env.get(key, value))


def sized(n: int, dim: Any) -> int:
    """Return the size ``n`` of ``dim``, followed if channels are in it."""
    if n < 2 or all(f.atoms is None for f in dim):
        return n
    ident = tuple(f.size if f.atoms is None else f.atoms.tobytes() for f in dim)
    key = DimKey(ident, dim)
    return TracedInt.of(n, frozenset([key]), lambda env: env.get(key, n))
