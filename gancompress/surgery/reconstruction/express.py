"""Write an effective weight into the raw tensors that it is made of, norms of weights included."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gancompress.surgery.reconstruction.walk import Made, made_by

_STEPS = 60  # of a bisection: float64 has no more bits
_LOOSE = {torch.float64: 1e-9, torch.float32: 1e-4}


class CannotExpress(Exception):
    """No change of the raw tensors makes the weight; ``nearest`` is one that comes near it."""

    def __init__(self, reason: str, nearest: dict[int, Tensor] | None = None) -> None:
        super().__init__(reason)
        self.nearest = nearest


def sources_of(w: Tensor) -> list[Tensor]:
    """Return the tensors that ``w`` is computed from, each once; its own if it is one of them."""
    found: dict[int, Tensor] = {}
    seen: set[int] = set()

    def visit(x: object) -> None:
        if isinstance(x, list | tuple):
            for part in x:
                visit(part)
        elif isinstance(x, Tensor) and id(x) not in seen:
            seen.add(id(x))
            made = made_by(x)
            if made is None:
                found[id(x)] = x
            else:
                visit(list(made.args))
                visit(list(made.kwargs.values()))

    visit(w)
    return list(found.values())


def made_again(w: Tensor, instead: Mapping[int, Tensor]) -> Tensor:
    """Return ``w`` computed anew, with other tensors in the place of some of its sources."""
    memo: dict[int, Tensor] = {}

    def value(x: object) -> object:
        if isinstance(x, list | tuple):
            return type(x)(value(part) for part in x)
        if not isinstance(x, Tensor):
            return x
        if id(x) in instead:
            return instead[id(x)]
        if id(x) not in memo:
            made = made_by(x)
            memo[id(x)] = x if made is None else remade(made)
        return memo[id(x)]

    def remade(made: Made) -> Tensor:
        args = [value(a) for a in made.args]
        out = made.func(*args, **{k: value(v) for k, v in made.kwargs.items()})
        return out if isinstance(out, Tensor) else out[made.place]

    result = value(w)
    assert isinstance(result, Tensor)
    return result


def express(w: Tensor, wanted: Tensor, known: Mapping[int, str]) -> dict[int, Tensor]:
    """Return new values of raw tensors, by id, that make ``w`` into ``wanted`` (ours).

    Found by trying, not by kinds of layers: the raw weight is given the wanted one's direction;
    what then differs is a factor for all or for each row, which is taken out of the raw weight
    (a constant factor), of another tensor (weight norm), or out of the stored vector of a power
    iteration (spectral norm), which decides how large the weight is held to be.

    Args:
        w: the weight as used, of a walk that is under way.
        wanted: what it should be, of the same shape.
        known: names by id of parameters and buffers.

    Raises:
        CannotExpress: nothing of this leads there.
    """
    sources = sources_of(w)
    strange = [t for t in sources if id(t) not in known and t.numel() == w.numel()]
    raw = [t for t in sources if id(t) in known and t.numel() == w.numel()]
    if strange or not raw:
        raise CannotExpress("its weight is not made of one parameter of that size")
    if len(raw) > 1:
        raise CannotExpress("its weight is made of several parameters of that size")
    main = raw[0]
    if w is main:
        return {id(main): torch.empty_like(main).copy_(wanted)}

    def make(instead: Mapping[int, Tensor]) -> Tensor:
        return made_again(w, instead)

    for start in _layouts(main, wanted):
        now = make({id(main): start})
        if _close(now, wanted):
            return {id(main): start}
        axis = _scaled_along(now, wanted)
        if axis is not None:
            others = [t for t in sources if t is not main and id(t) in known]
            return _rescaled(make, main, start, wanted, others, axis)
    raise CannotExpress("its weight is no scaled copy of its parameter")


def _layouts(main: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return ``wanted`` in the layouts that the raw weight may have."""
    found: list[Tensor] = []
    if main.shape == wanted.shape:
        found.append(wanted)
    if wanted.dim() >= 2 and wanted.transpose(0, 1).shape == main.shape:
        found.append(wanted.transpose(0, 1))
    found.append(wanted.reshape(main.shape))
    if wanted.dim() == 2:
        found.append(wanted.t().reshape(main.shape))
    # In memory as the raw weight lies: what is made of it may view it in its own way.
    return [torch.empty_like(main).copy_(t) for t in found]


def _close(a: Tensor, b: Tensor) -> bool:
    loose = _LOOSE.get(b.dtype, 1e-2)
    return float((a - b).double().norm()) <= loose * float(b.double().norm()) + 1e-30


def _scaled_along(now: Tensor, wanted: Tensor) -> int | None:
    """Return -1 where ``now`` is ``wanted`` times a number, or the axis that factors vary along."""
    for axis in (-1, 0, 1):
        if axis >= wanted.dim():
            continue
        if _close(now, wanted * _factors(now, wanted, axis)):
            return axis
    return None


def _factors(now: Tensor, wanted: Tensor, axis: int) -> Tensor:
    over = [d for d in range(wanted.dim()) if d != axis]
    num = (now * wanted).sum(over, keepdim=True)
    den = wanted.square().sum(over, keepdim=True)
    tiny = torch.finfo(den.dtype).tiny
    return torch.where(den > 0, num / den.clamp_min(tiny), torch.ones_like(den))


def _rescaled(
    make: Callable[[Mapping[int, Tensor]], Tensor],
    main: Tensor,
    start: Tensor,
    wanted: Tensor,
    others: list[Tensor],
    axis: int,
) -> dict[int, Tensor]:
    now = make({id(main): start})
    factor = _factors(now, wanted, axis)
    if axis == -1:
        scaled = start / factor.reshape(())
        if _close(make({id(main): scaled}), wanted):
            return {id(main): scaled}
    for other in others:
        if axis != -1 and other.numel() != factor.numel():
            continue
        by = factor.reshape(()) if axis == -1 else factor.reshape(other.shape)
        for value in (other / by, other * by):
            if _close(make({id(main): start, id(other): value}), wanted):
                return {id(main): start, id(other): value}
    if axis == -1:
        return _by_power_vector(make, main, start, wanted, others)
    raise CannotExpress("its weight norm has no gain to take up the length of its rows")


def _by_power_vector(
    make: Callable[[Mapping[int, Tensor]], Tensor],
    main: Tensor,
    start: Tensor,
    wanted: Tensor,
    others: list[Tensor],
) -> dict[int, Tensor]:
    """Choose the stored vector of a power iteration so that the norm comes out as 1.

    It lies between the singular vectors of the largest and of the smallest value, so that any
    value between them can be had. train() moves it on to the largest, as it does after any change.
    """
    matrix = start.reshape(start.shape[0], -1).double()
    values, left = torch.linalg.eigh(matrix @ matrix.t())
    sizes = values.clamp_min(0).sqrt()
    nearest: dict[int, Tensor] = {id(main): start}
    for other in others:
        if other.numel() != matrix.shape[0]:
            continue

        def gain(u: Tensor, like: Tensor = other) -> float:
            now = make({id(main): start, id(like): u})
            return float(_factors(now.double(), wanted.double(), -1))

        def at(t: float, small: int, like: Tensor = other) -> Tensor:
            mixed = (1 - t) * left[:, -1] + t * left[:, small]
            return (mixed / mixed.norm()).to(like).reshape(like.shape)

        largest = at(0.0, 0)
        below = torch.nonzero(sizes < 0.999).flatten()
        if not len(below) or gain(largest) > 1:
            # The norm makes it larger than it should be, and this is the least that it does.
            nearest |= {id(other): largest}
            continue
        small = int(below[-1])
        low, high = 0.0, 1.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if gain(at(middle, small)) < 1 else (low, middle)
        found = {id(main): start, id(other): at(low, small)}
        if _close(make(found), wanted):
            return found
    raise CannotExpress("its norm allows one scale only", nearest)
