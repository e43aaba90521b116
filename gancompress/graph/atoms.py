"""Channel identity: every index of every parameter dimension is an atom; operators tie atoms.

A tensor dimension is a tuple of factors (row-major), so merging dimensions concatenates factor
lists and splitting separates them. Ties between atoms are collected as edge lists and solved once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Slot = tuple[str, int]
"""A dimension of a named parameter or buffer: ``("blocks.0.conv1.weight", 1)``."""


@dataclass(frozen=True)
class Reason:
    """Why channels are kept: the operator, where the user's code calls it, and what it does.

    ``graph_frees``: a number in Python or a count holds them, and the graph form may free them.
    """

    operator: str
    where: str
    text: str
    graph_frees: bool = False

    def __str__(self) -> str:
        return f"{self.text} ({self.operator} at {self.where})" if self.where else self.text


UNREPEATABLE = "two equal calls differ"
"""How the reason begins for which a network keeps all of its channels."""


class Factor:
    """One factor of a dimension.

    ``atoms`` is an int64 array of length ``size``, or None for a factor that is no channel (batch,
    space, input); then ``why`` names it. ``zero`` holds the slots that, once zeroed, make this
    tensor zero along its dead atoms; None when nothing guarantees that.
    """

    __slots__ = ("atoms", "size", "why", "zero")

    def __init__(
        self,
        size: int,
        atoms: np.ndarray | None = None,
        zero: frozenset[Slot] | None = None,
        why: str = "",
    ) -> None:
        self.size = size
        self.atoms = atoms
        self.zero = zero
        self.why = why

    def with_zero(self, zero: frozenset[Slot] | None) -> Factor:
        """Return this factor with another guarantee of zeros."""
        return self if zero == self.zero else Factor(self.size, self.atoms, zero, self.why)


Dim = tuple[Factor, ...]
Dims = tuple[Dim, ...]


def opaque(size: int, why: str) -> Dim:
    """Return a dimension that holds no channels; size 1 has no factor at all and broadcasts."""
    return () if size == 1 else (Factor(size, why=why),)


def dim_size(dim: Dim) -> int:
    """Return the number of indices of ``dim``."""
    return math.prod(f.size for f in dim)


@dataclass(frozen=True)
class Product:
    """``whole[i, j, ...]`` lives exactly when ``parts[0][i]``, ``parts[1][j]``, ... all live."""

    whole: np.ndarray
    parts: tuple[Factor, ...]
    reason: Reason


class AtomSpace:
    """Collects atoms, ties, products and freezes while a generator runs; `solve` settles them."""

    def __init__(self) -> None:
        self.count = 1  # atom 0 is "not a channel"
        self._edges: list[tuple[np.ndarray, np.ndarray]] = []
        self._frozen: list[tuple[np.ndarray, Reason]] = []
        self.products: list[Product] = []
        self._splits: dict[tuple[bytes, tuple[int, ...]], tuple[Factor, ...]] = {}
        self._flat: dict[tuple[bytes, ...], np.ndarray] = {}
        self._copies: list[np.ndarray] = []

    def new(self, size: int) -> np.ndarray:
        """Return ``size`` fresh atoms."""
        atoms = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return atoms

    def copies(self, size: int) -> np.ndarray:
        """Return fresh atoms of ``size`` copies of one thing, which follow whatever they meet."""
        self._copies.append(self.new(size))
        return self._copies[-1]

    def freeze(self, atoms: np.ndarray | None, reason: Reason) -> None:
        """Keep these atoms alive for ever, with the reason that `inspect` shows."""
        if atoms is not None and atoms.size:
            self._frozen.append((atoms, reason))

    def freeze_dim(self, dim: Dim, reason: Reason) -> None:
        """Freeze every atom of ``dim``."""
        for factor in dim:
            self.freeze(factor.atoms, reason)

    def tie(self, a: np.ndarray, b: np.ndarray, reason: Reason) -> None:
        """Let ``a[i]`` and ``b[i]`` live or die together; an atom 0 freezes its partner."""
        if a is b or not a.size:
            return
        real = (a != 0) & (b != 0)
        if not real.all():
            self.freeze(np.where(a == 0, b, a)[~real], reason)
            a, b = a[real], b[real]
        self._edges.append((a, b))

    def tie_factors(self, a: Factor, b: Factor, reason: Reason) -> None:
        """Tie two factors of the same size."""
        if a.atoms is None and b.atoms is None:
            return
        if a.atoms is None or b.atoms is None:
            known, other = (a, b) if b.atoms is None else (b, a)
            text = f"{reason.text} with {other.why or 'a dimension that is no channel'}"
            self.freeze(known.atoms, Reason(reason.operator, reason.where, text))
            return
        self.tie(a.atoms, b.atoms, reason)

    def split(self, factor: Factor, sizes: Sequence[int], reason: Reason) -> tuple[Factor, ...]:
        """Split one factor into several (row-major); the same split gives the same parts."""
        sizes = tuple(s for s in sizes if s != 1)
        if len(sizes) <= 1:
            return (factor,) if sizes else ()
        if factor.atoms is None:
            return tuple(Factor(s, why=factor.why) for s in sizes)
        key = (factor.atoms.tobytes(), sizes)
        if key not in self._splits:
            parts = tuple(Factor(s, self.new(s)) for s in sizes)
            self._splits[key] = parts
            self.products.append(Product(factor.atoms, parts, reason))
        return tuple(p.with_zero(factor.zero) for p in self._splits[key])

    def flat(self, dim: Dim, reason: Reason) -> Factor:
        """Return ``dim`` as one factor (fresh atoms under a product when it had several)."""
        if len(dim) == 1:
            return dim[0]
        size = dim_size(dim)
        if not dim or all(f.atoms is None for f in dim):
            return Factor(size, why=dim[0].why if dim else "a dimension of size 1")
        parts = tuple(f if f.atoms is not None else Factor(f.size, why=f.why) for f in dim)
        key = tuple(f.atoms.tobytes() if f.atoms is not None else b"%d" % f.size for f in parts)
        if key not in self._flat:
            self._flat[key] = self.new(size)
            self.products.append(Product(self._flat[key], parts, reason))
        real = [f.zero for f in dim if f.atoms is not None]
        zero = join_zero(real)
        return Factor(size, self._flat[key], zero)

    def align(self, a: Dim, b: Dim, reason: Reason) -> list[tuple[Factor, Factor]] | None:
        """Pair the factors of two dimensions of equal size, splitting where boundaries differ.

        Returns None (after freezing both) when the boundaries do not match.
        """
        left, right, pairs = list(a), list(b), []
        while left and right:
            x, y = left.pop(0), right.pop(0)
            if x.size > y.size and x.size % y.size == 0:
                x, rest = self.split(x, (y.size, x.size // y.size), reason)
                left.insert(0, rest)
            elif y.size > x.size and y.size % x.size == 0:
                y, rest = self.split(y, (x.size, y.size // x.size), reason)
                right.insert(0, rest)
            if x.size != y.size:
                self.freeze_dim(a, reason)
                self.freeze_dim(b, reason)
                return None
            pairs.append((x, y))
        return pairs

    def tie_dims(self, a: Dim, b: Dim, reason: Reason) -> None:
        """Tie two dimensions of equal size index by index; size-1 dimensions broadcast."""
        if not a or not b:
            return
        for x, y in self.align(a, b, reason) or ():
            self.tie_factors(x, y, reason)

    def solve(self, extra: Iterable[tuple[np.ndarray, Reason]] = ()) -> Solution:
        """Settle ties and products; ``extra`` freezes come from later checks."""
        edges, frozen = list(self._edges), [*self._frozen, *extra]
        pending = list(self.products)
        while True:
            solution = Solution.of(self.count, edges, frozen)
            if not pending:
                return solution
            split = {id(p.whole) for p in pending}
            waiting = pending
            for patient in (True, False):
                # Parts that are split again settle first: the reason shown is the channel's.
                waiting = [
                    p for p in pending
                    if (patient and any(id(f.atoms) in split for f in p.parts))
                    or not _settle(p, solution, edges, frozen, forced=False)
                ]  # fmt: skip
                if len(waiting) < len(pending):
                    break
            if len(waiting) == len(pending):
                # Only free choices are left: the first sub-dimension is the channel (design).
                bare = self._bare_copies(solution)
                _settle(waiting.pop(0), solution, edges, frozen, forced=True, bare=bare)
            pending = waiting

    def _bare_copies(self, solution: Solution) -> np.ndarray | None:
        """Return which components are copies that nothing else is tied to; None where no copy is.

        Of ``torch.cat([h, h])`` the channels of h can go, and not one of the two copies.
        """
        if not self._copies:
            return None
        loose = np.zeros(self.count, bool)
        made = [part.atoms for split in self._splits.values() for part in split]
        for atoms in (*self._copies, *self._flat.values(), *made):
            loose[atoms] = True
        bare = np.zeros(len(solution.frozen), bool)
        bare[solution.label[np.concatenate(self._copies)]] = True
        bare[solution.label[: self.count][~loose]] = False
        return bare


def join_zero(zeros: Sequence[frozenset[Slot] | None]) -> frozenset[Slot] | None:
    """All must be zeroed: the union, or None when one of them cannot be."""
    if not zeros or any(z is None for z in zeros):
        return None
    return frozenset().union(*(z for z in zeros if z is not None))


def _settle(
    product: Product,
    solution: Solution,
    edges: list[tuple[np.ndarray, np.ndarray]],
    frozen: list[tuple[np.ndarray, Reason]],
    *,
    forced: bool,
    bare: np.ndarray | None = None,
) -> bool:
    """Turn a product into ties when at most one part can still lose channels.

    ``bare`` marks the components that are copies and nothing else: never the channel, if another
    part can be.
    """
    parts, whole = product.parts, product.whole
    if solution.all_frozen(whole):
        why = solution.reason_of(whole) or product.reason
        frozen.extend((p.atoms, why) for p in parts if p.atoms is not None)
        return True
    open_parts = [
        i for i, p in enumerate(parts) if p.atoms is not None and not solution.all_frozen(p.atoms)
    ]
    if len(open_parts) > 1 and not forced:
        return False
    if not open_parts:
        why = next(
            (r for p in parts if p.atoms is not None and (r := solution.reason_of(p.atoms))), None
        )
        frozen.append((whole, why or product.reason))
        return True
    if bare is not None:
        open_parts.sort(key=lambda i: bool(bare[solution.label[parts[i].atoms]].all()))
    chosen = open_parts[0]
    for i in open_parts[1:]:
        text = "shares one dimension with the channels before it"
        frozen.append(
            (parts[i].atoms, Reason(product.reason.operator, product.reason.where, text))  # type: ignore[arg-type]
        )
    shape = [p.size for p in parts]
    index = [1] * len(shape)
    index[chosen] = shape[chosen]
    part_atoms = parts[chosen].atoms
    assert part_atoms is not None
    wide = np.broadcast_to(part_atoms.reshape(index), shape).reshape(-1)
    edges.append((whole, wide))
    return True


class Solution:
    """Components of atoms: ``label[atom]``, and for each component whether and why it is kept."""

    def __init__(self, label: np.ndarray, frozen: np.ndarray, reasons: dict[int, Reason]) -> None:
        self.label = label
        self.frozen = frozen
        self.reasons = reasons

    @classmethod
    def of(
        cls,
        count: int,
        edges: Sequence[tuple[np.ndarray, np.ndarray]],
        frozen: Sequence[tuple[np.ndarray, Reason]],
    ) -> Solution:
        """Solve edge lists into components with one connected-components call."""
        rows = np.concatenate([e[0] for e in edges]) if edges else np.zeros(0, np.int64)
        cols = np.concatenate([e[1] for e in edges]) if edges else np.zeros(0, np.int64)
        ones = np.ones(len(rows), np.int8)
        matrix = coo_matrix((ones, (rows, cols)), shape=(count, count))
        n, label = connected_components(matrix, directed=False)
        dead = np.zeros(n, bool)
        reasons: dict[int, Reason] = {}
        for atoms, reason in frozen:
            hit = np.unique(label[atoms[atoms != 0]])
            for component in hit[~dead[hit]]:
                reasons[int(component)] = reason
            dead[hit] = True
        dead[label[0]] = True
        return cls(label, dead, reasons)

    def all_frozen(self, atoms: np.ndarray) -> bool:
        """Whether no atom of these can go."""
        return bool(self.frozen[self.label[atoms]].all())

    def reason_of(self, atoms: np.ndarray) -> Reason | None:
        """Return the reason for which the first frozen one of these atoms is kept."""
        for component in np.unique(self.label[atoms]):
            if int(component) in self.reasons:
                return self.reasons[int(component)]
        return None
