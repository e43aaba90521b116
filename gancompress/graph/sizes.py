"""Sizes that live in Python: integer attributes that follow a channel count.

Slicing parameters leaves `self.ch`, `self.ch // 8` or `(512, 4, 4)` behind in Python. While the
generator is traced, integer attributes are replaced by `TracedInt`: arithmetic keeps the
expression, and where one reaches a tensor function we note which dimension it sizes. After a cut
the attribute gets the value that makes every such expression right again. A size that the forward
asks of a tensor (`x.shape[1] // 8`) is followed in the same way: it changes by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gancompress.graph.atoms import dim_size
from gancompress.graph.attributes import numbers_in, put_number
from gancompress.graph.traced_int import AttributeKey, DimKey, Env, TracedInt, leaf, sized
from gancompress.modules.nested import tensors_of
from gancompress.modules.user_line import user_frame


@dataclass(frozen=True)
class SizeUse:
    """After a cut the expression ``value`` must equal ``times`` the new size of ``dim``."""

    value: TracedInt
    dim: Any
    operator: str
    where: str
    times: int = 1

    def expected(self, count: Callable[[Any], int]) -> int:
        """Return the value wanted, given what counts the indices left of a dimension."""
        return count(self.dim) * self.times

    def demand(self, count: Callable[[Any], int]) -> Callable[[Env], bool]:
        """Return what says whether attributes fit the counts of a cut, which are taken once."""
        wanted = self.expected(count)
        sizes = {k: count(k.dim) for k in self.value.keys if isinstance(k, DimKey)}
        return lambda env: self.value.at({**env, **sizes} if sizes else env) == wanted

    def multiple(self, old: Env, follow: Set[AttributeKey] = frozenset()) -> int:
        """Return the number of which the count must be a multiple: 8 where it is ``8 * self.ch``.

        1 where ``value`` is no multiple of a single attribute.
        """
        other = math.prod(f.size for f in self.dim if f.atoms is None)
        for key in by_width(self.value.attributes, old, follow):
            share = self._share(key, old)
            if share is not None and share.denominator == 1:
                return share.numerator // math.gcd(share.numerator, self.times * other)
        return 1

    def in_proportion(self, key: Any, size: int) -> bool:
        """Whether ``value`` is a fixed share of what ``key`` stands for, now ``size``."""
        return set(self.value.keys) == {key} and self._share(key, {key: size}) is not None

    def follows(self, key: Any, old: Env) -> bool:
        """Whether ``value`` is a fixed share of ``key``, all else in it as in ``old``."""
        plain = key in self.value.keys and self.value.attributes == self.value.keys
        return plain and self._share(key, old) is not None

    def source(self) -> Any:
        """Return the dimension of which ``value`` is a fixed share (`x.shape[1] // 8`), or None."""
        key = next(iter(self.value.keys))
        if not isinstance(key, DimKey):
            return None
        return key.dim if self.in_proportion(key, dim_size(key.dim)) else None

    def _share(self, key: Any, old: Env) -> Fraction | None:
        """Return ``value`` over ``key``, the others as in ``old``; None where that is not fixed."""
        ratio = Fraction(self.value.at(old), old[key])
        fixed = all(
            self.value.at({**old, key: ratio.denominator * n}) == ratio.numerator * n
            for n in (1, 2, 3)
        )
        return ratio if fixed and ratio > 0 else None


_LISTS = (tuple, list, torch.Size)


def _plain(x: Any) -> Any:
    """Strip traced integers from (nested) arguments, so that torch sees what the user wrote."""
    if isinstance(x, TracedInt):
        return int(x)
    if type(x) in _LISTS:
        return type(x)(_plain(v) for v in x)
    if isinstance(x, slice):
        return slice(_plain(x.start), _plain(x.stop), _plain(x.step))
    return x


def _traced(x: Any) -> Iterator[TracedInt]:
    if isinstance(x, TracedInt):
        yield x
    elif type(x) in _LISTS:
        for v in x:
            yield from _traced(v)
    elif isinstance(x, slice):
        yield from _traced((x.start, x.stop, x.step))


class SizeWatch(TorchFunctionMode):
    """Notes which tensor dimension each traced integer sizes.

    ``dims_of(tensor)`` gives the tracer's dimensions of a tensor, ``prefix(dim, n)`` the first n
    indices of one, ``counted()`` the dimension whose groups the last operator counted.
    """

    def __init__(
        self,
        dims_of: Callable[[torch.Tensor], Sequence[Any]],
        prefix: Callable[[Any, int], Any],
        counted: Callable[[], Any],
        uses: list[SizeUse],
    ) -> None:
        super().__init__()
        self._dims_of, self._prefix, self._counted, self._uses = dims_of, prefix, counted, uses

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("__get__", "size"):  # x.shape, x.size()
            return self._sized(args[0], func(*args, **kwargs), args[1:] or tuple(kwargs.values()))
        traced = [*_traced(tuple(args)), *_traced(tuple(kwargs.values()))]
        if not traced:
            return func(*args, **kwargs)
        out = func(*_plain(tuple(args)), **{k: _plain(v) for k, v in kwargs.items()})
        self._note(func, args, kwargs, out, traced)
        return out

    def _sized(self, x: Any, out: Any, asked: Sequence[int]) -> Any:
        """Return sizes that remember their dimension, where it has channels."""
        if isinstance(out, torch.Size):
            return torch.Size(map(sized, out, self._dims_of(x)))
        return sized(out, self._dims_of(x)[asked[0]]) if type(out) is int and asked else out

    def _note(
        self, func: Any, args: Any, kwargs: Any, out: Any, traced: Sequence[TracedInt]
    ) -> None:
        name = getattr(func, "__name__", "")
        if isinstance(func, torch._ops.OpOverload):
            # Generated code of a graph form calls operators, with all sizes in their places.
            name = func._schema.name.split("::")[-1]
            if self._note_operator(name, args, out):
                return
        if name == "__getitem__":
            self._note_slices(args[0], args[1])
            return
        if name == "group_norm" or "conv" in name:
            # Only the number of groups can follow channels; the rule knows its dimension.
            groups = kwargs.get("groups", kwargs.get("num_groups"))
            at = 1 if name == "group_norm" else 6
            groups = args[at] if groups is None and len(args) > at else groups
            dim = self._counted()
            if isinstance(groups, TracedInt) and dim is not None:
                self._add(groups, dim, name)
            return
        if name in _SPATIAL:
            return
        tensors = tensors_of(out)
        sizes, offset = args[1:] if name in _SHAPED else (), 0
        if name == "unflatten":
            sizes = kwargs.get("sizes", args[-1])
            dim_arg = int(kwargs.get("dim", args[1] if len(args) > 1 else 0))
            offset = dim_arg if dim_arg >= 0 else args[0].dim() + dim_arg
        if len(sizes) == 1 and type(sizes[0]) in (tuple, list):
            sizes = sizes[0]
        if name in ("split", "split_with_sizes") and self._note_pieces(args, kwargs, tensors):
            return
        for t in traced:
            place = next((i + offset for i, s in enumerate(sizes) if s is t), None)
            found: list[Any] = []
            for tensor in tensors:
                dims = self._dims_of(tensor)
                if place is not None and place < len(dims):
                    found.append(dims[place])
                elif place is None and t.attributes:
                    found += [
                        d for d, n in zip(dims, tensor.shape, strict=True)
                        if n == t and any(f.atoms is not None for f in d)
                    ]  # fmt: skip
            if found:
                self._add(t, found[0], "view" if name in _SHAPED else name)

    def _add(self, value: TracedInt, dim: Any, operator_name: str) -> None:
        self._uses.append(SizeUse(value, dim, operator_name, user_frame()))

    def _note_slices(self, x: torch.Tensor, index: Any) -> None:
        dims, at = self._dims_of(x), 0
        for item in index if isinstance(index, tuple) else (index,):
            if item is Ellipsis:
                at = len(dims) - sum(i is not None and i is not Ellipsis for i in index) + at
                continue
            if isinstance(item, slice):
                for edge in (item.start, item.stop):
                    if isinstance(edge, TracedInt) and 0 < edge <= x.shape[at]:
                        self._add_edge(edge, dims[at], "slice")
            at += item is not None

    def _note_pieces(self, args: Any, kwargs: Any, pieces: Sequence[torch.Tensor]) -> bool:
        """Note the listed sizes of a split, each for its piece; False: they are not listed."""
        given = [*args[1:], *kwargs.values()]
        sizes = next((a for a in given if type(a) in _LISTS), None)
        if sizes is None:
            return False
        rest = [a for a in given if a is not sizes and isinstance(a, int)]
        at = int(rest[0]) if rest else 0
        for size, piece in zip(sizes, pieces, strict=True):
            if isinstance(size, TracedInt):
                self._add(size, self._dims_of(piece)[at], "split")
        return True

    def _add_edge(self, edge: TracedInt, dim: Any, operator_name: str) -> None:
        head = self._prefix(dim, int(edge))
        if head:
            self._add(edge, head, operator_name)

    def _note_operator(self, name: str, args: Any, out: Any) -> bool:
        """Note the sizes in an operator's arguments, by position; False: not one of these."""
        if name == "slice":
            at = args[1] % args[0].dim()
            for edge in args[2:4]:
                if isinstance(edge, TracedInt) and edge <= args[0].shape[at]:
                    self._add_edge(edge, self._dims_of(args[0])[at], name)
        elif name == "split_with_sizes":
            at = args[2] % args[0].dim()
            for size, piece in zip(args[1], out, strict=True):
                if isinstance(size, TracedInt):
                    self._add(size, self._dims_of(piece)[at], name)
        elif name in ("repeat", "tile"):
            # What repeats is the factor in front of the tensor's own channels.
            for times, dim in zip(reversed(args[1]), reversed(self._dims_of(out)), strict=False):
                if isinstance(times, TracedInt) and dim:
                    self._add(times, dim[:1], name)
        elif name in _CREATED:
            listed = next(a for a in args if isinstance(a, (list, tuple)))
            for size, dim in zip(listed, self._dims_of(out), strict=True):
                if isinstance(size, TracedInt):
                    self._add(size, dim, name)
        else:
            return False
        return True


_SHAPED = {
    "view", "reshape", "expand", "repeat", "_unsafe_view", "view_copy", "broadcast_to",
}  # fmt: skip
# Sizes given to these are of space, even where as many channels happen to be there.
_SPATIAL = {
    "interpolate", "pad", "unfold", "fold", "affine_grid", "upsample", "fftn", "rfftn", "irfftn",
    *(f"{kind}{n}d" for kind in ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool",
                                 "lp_pool", "max_unpool") for n in (1, 2, 3)),
}  # fmt: skip
_CREATED = {
    "zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty",
}  # fmt: skip


def plant(module: nn.Module, follow: Set[AttributeKey] = frozenset()) -> None:
    """Replace the integers that every submodule of a (copied) module keeps by `TracedInt`.

    Args:
        module: changed in place.
        follow: attributes that counted channels before; these are followed down to 1.
    """

    def traced(key: AttributeKey, value: Any) -> Any:
        if isinstance(value, TracedInt):  # planted already, through another holder of the config
            return value
        return leaf(key, int(value)) if value > 1 or key in follow else value

    for path, sub in module.named_modules():
        ours = type(sub).__module__.startswith("torch.nn")
        for name, value in list(numbers_in(sub)):
            if ours and name not in ("num_heads", "unflattened_size"):
                continue
            key = (path, name)
            if not isinstance(value, (tuple, list, np.ndarray)):
                put_number(module, *key, traced((*key, None), value))
                continue
            made = [traced((*key, i), v) for i, v in enumerate(value)]
            if isinstance(value, np.ndarray):
                items = np.empty(len(made), object)
                items[:] = made
                put_number(module, *key, items)
            else:
                put_number(module, *key, type(value)(made))


def by_width(
    keys: Iterable[AttributeKey], old: Env, follow: Set[AttributeKey]
) -> list[AttributeKey]:
    """Return attributes in the order in which they are taken for widths (ours).

    First those that counted channels before, then the largest: of ``self.mult * self.ngf`` one
    number changes, and it must be the same one in every cut.
    """
    return sorted(keys, key=lambda k: (k not in follow, -old[k], str(k)))
