"""Fit published weights to a network: prefixes, wrappers, two spellings of weight norms.

Only what has one answer is done, and every step is put in words (ours). Two answers, or none, are
an error that says which names and sizes differ, in the network's own order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError
from gancompress.weights.reading import flat_table, is_table
from gancompress.weights.spellings import with_other_norms, without_shells

DEPTH = 3  # how far down tables are looked for in a training state
LISTED = 16  # networks in one list of it


def fit_weights(
    module: nn.Module, value: Any, path: str, *, chosen: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of ``value`` by the names of ``module``, and in words what was done.

    Args:
        module: the network that they are for; it is not changed.
        value: what a file holds: tensors by name, or a table with such tables in it.
        path: what to call it.
        chosen: the user said which table; no other is looked for.

    Raises:
        CheckpointError: they do not fit, fit in two ways, or hold NaN or infinity; the message
            says what differs.
    """
    tables = list(_tables(value)) if not chosen else []
    if not tables:
        tables = [("", flat_table(value, path))]
    tries = [(key, *_matched(module, table)) for key, table in tables]
    good = [(key, state, notes) for key, state, notes, faults in tries if not faults]
    if len(good) > 1 and any(not _same(good[0][1], state) for _, state, _ in good[1:]):
        names = ", ".join(f"{path}:{key}" for key, _, _ in good)
        raise CheckpointError(
            f"{path} holds {len(good)} tables that fit {type(module).__name__}. Choose one: {names}"
        )
    if not good:
        raise CheckpointError(_misfit(module, path, tries, value))
    key, state, notes = good[0]
    _refuse_numbers(state, path)
    return state, ([f"the table {key!r} of the file"] if key else []) + notes


def _tables(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield (dotted key, tensors by name) of every table in ``value`` that has tensors."""
    if not isinstance(value, Mapping) or depth > DEPTH:
        return
    flat = {str(n): t for n, t in value.items() if isinstance(t, Tensor)}
    inner = [(n, v) for n, v in value.items() if is_table(v)]
    if flat and not inner:
        yield key, flat
    # Several networks in a list, as some training loops save them.
    for name, items in value.items():
        if isinstance(items, list | tuple) and len(items) <= LISTED:
            inner += [(f"{name}.{i}", item) for i, item in enumerate(items) if _has_tensors(item)]
    for name, item in inner:
        # A dot would be read as the next level: such a table cannot be named, nor chosen.
        yield from _tables(item, f"{key}.{name}" if key else str(name), depth + 1)


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(t, Tensor) for t in value.values())


def _matched(
    module: nn.Module, given: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Return (state, notes, faults): ``given`` under the names of ``module``."""
    wanted = {n: t for n, t in module.state_dict().items() if isinstance(t, Tensor)}
    best: tuple[int, dict[str, Tensor], list[str], list[str]] | None = None
    fits: list[tuple[dict[str, Tensor], list[str]]] = []
    for renamed, notes in _spellings(given, wanted):
        state, more, faults, count = _compared(module, wanted, renamed)
        if not faults:
            fits.append((state, notes + more))
        elif best is None or count < best[0]:
            best = (count, state, notes, faults)
    if fits:
        others = [notes for state, notes in fits[1:] if not _same(fits[0][0], state)]
        if not others:
            return (*fits[0], [])
        ways = "; or ".join("; ".join(n) or "as they are" for n in [fits[0][1], *others])
        return {}, [], [f"{1 + len(others)} parts of it fit ({ways}); choose one: FILE:PREFIX"]
    assert best is not None
    return best[1], best[2], best[3]


def _spellings(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """Yield ``given`` as it is and under each prefix that leads to names of ``wanted``."""
    plain, notes = without_shells(given, wanted)
    for prefix in _prefixes(plain, wanted):
        if prefix.startswith("+"):
            found = {prefix[1:] + n: t for n, t in plain.items()}
            said = [f"prefix {prefix[1:]!r} put before every name"]
        else:
            found = {n.removeprefix(prefix): t for n, t in plain.items() if n.startswith(prefix)}
            left = len(plain) - len(found)
            rest = f"; {left} tensors of other networks left out" if left else ""
            said = [f"prefix {prefix!r} taken off{rest}"] if prefix else []
        found, more = with_other_norms(found, wanted)
        yield found, notes + said + more


def _prefixes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes to try: none, those before a wanted name, those that the file lacks."""
    found = {"": None}
    marks = [*list(wanted)[:3], *list(wanted)[-1:]]
    marks += [n for m in marks for n in _norm_names(m)]
    for name in given:
        for mark in marks:
            if name.endswith("." + mark):
                found.setdefault(name.removesuffix(mark))
    for mark in wanted if given else ():
        first = next(iter(given))
        if mark.endswith("." + first):
            found.setdefault("+" + mark.removesuffix(first))
    return list(found)[:64]


def _norm_names(name: str) -> list[str]:
    """Return how the first tensor of a normalised weight is called in the other spellings."""
    stem, dot, last = name.rpartition(".")
    stem += dot
    if match := re.search(r"parametrizations\.(\w+)\.(original\w*)$", name):
        base = name[: match.start()] + match[1]
        return [base + e for e in ("_g", "_v", "_orig", "")]
    base = re.sub(r"_(g|v|orig|u)$", "", last)
    return [f"{stem}parametrizations.{base}.original{e}" for e in ("0", "1", "")]


_COUNTERS = ("num_batches_tracked", "total_ops", "total_params")


def _compared(
    module: nn.Module, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str], int]:
    """Compare names, sizes and kinds; return (state, notes, faults, how many tensors differ)."""
    state = {n: given[n] for n in wanted if n in given}
    notes: list[str] = []
    own = [n for n in wanted if n not in given and n.endswith("num_batches_tracked")]
    if own:
        state |= {n: wanted[n] for n in own}
        notes.append(f"{len(own)} counters num_batches_tracked, not in the file, left as they are")
    single = [n for n in state if state[n].shape != wanted[n].shape
              and state[n].numel() == wanted[n].numel() == 1]  # fmt: skip
    if single:
        state |= {n: state[n].reshape(wanted[n].shape) for n in single}
        notes.append(f"{len(single)} single numbers in another shape ({some(single)})")
    extra = [n for n in given if n not in wanted]
    loose = {n: why for n in extra if (why := _loose(module, n, given[n]))}
    for why in dict.fromkeys(loose.values()):
        names = [n for n, w in loose.items() if w == why]
        notes.append(f"{len(names)} {why} left out ({some(names)})")
    extra = [n for n in extra if n not in loose]
    missing = [n for n in wanted if n not in state]
    shapes = [n for n in state if state[n].shape != wanted[n].shape]
    kinds = [
        n for n in state
        if n not in shapes and (wanted[n].is_floating_point(), wanted[n].is_complex())
        != (state[n].is_floating_point(), state[n].is_complex())
    ]  # fmt: skip
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing ({some(missing)})")
    if extra:
        faults.append(f"{len(extra)} unknown ({some(extra)})")
    if shapes:
        told = [
            f"{n}: file {tuple(state[n].shape)}, network {tuple(wanted[n].shape)}" for n in shapes
        ]
        faults.append(f"{len(shapes)} of another shape ({some(told)})")
    if kinds:
        told = [f"{n}: file {_kind(state[n])}, network {_kind(wanted[n])}" for n in kinds]
        faults.append(f"{len(kinds)} of another type ({some(told)})")
    narrow = sorted({_kind(t) for n, t in state.items() if _rounder(t, wanted[n])})
    if narrow:
        notes.append(f"stored as {', '.join(narrow)}")
    return state, notes, faults, len(missing) + len(extra) + len(shapes) + len(kinds)


def _loose(module: nn.Module, name: str, tensor: Tensor) -> str:
    """Return what an unknown tensor is, where leaving it out changes nothing; else nothing."""
    path, _, last = name.rpartition(".")
    if last in _COUNTERS:
        return f"counters {last}"
    if not tensor.numel():
        return "empty tensors"
    if not tensor.is_floating_point() and not tensor.is_complex():
        return "tables of whole numbers or of true and false, which are no weights,"
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return ""
    if last in ("running_mean", "running_var") and _without_statistics(owner):
        return f"{type(owner).__name__} statistics, which this network does not use,"
    held = owner._buffers.get(last)
    if held is not None and last in owner._non_persistent_buffers_set:
        same = held.shape == tensor.shape and torch.equal(held.to(tensor), tensor)
        return "constants, equal to the network's own," if same else ""
    return ""


def _without_statistics(owner: nn.Module) -> bool:
    return "InstanceNorm" in type(owner).__name__ and not getattr(
        owner, "track_running_stats", False
    )


def _misfit(module: nn.Module, path: str, tries: Sequence[Any], value: Any) -> str:
    """Say why nothing fits: the nearest table, what differs, and the likely cause."""

    def distance(item: Any) -> float:
        _, state, _, faults = item
        return len(faults) - len(state) / (len(state) + 1)

    key, state, notes, faults = min(tries, key=distance)
    where = f"{path}:{key}" if key else path
    done = f" (after: {'; '.join(notes)})" if notes else ""
    advice = _advice(module, state, faults, value)
    other = [f"{path}:{k}" for k, *_ in tries if k and k != key]
    choice = f". Other tables: {some(other, 6)}" if other else ""
    return (
        f"{where} is not made for this {type(module).__name__}: {'; '.join(faults)}{done}. "
        f"{advice}{choice}"
    )


def _advice(
    module: nn.Module, state: Mapping[str, Tensor], faults: Sequence[str], value: Any
) -> str:
    """Return the likely cause of a misfit."""
    sizes = any("another shape" in f for f in faults)
    if not state and len(faults) > 1 and not sizes:
        return "No name is the same: it holds another network, or one of another code"
    ours = {_norm_of(n) for n in module.state_dict()} - {""}
    theirs = {_norm_of(n) for _, table in _tables(value) for n in table} - {""}
    if ours != theirs:
        return (
            f"The file has {' and '.join(sorted(theirs)) or 'no weight or spectral norm'}, the "
            f"network {' and '.join(sorted(ours)) or 'none'}: build it the same way, or take the "
            "norms off where the file was written"
        )
    return "Check that the builder uses the sizes of the checkpoint"


def _norm_of(name: str) -> str:
    last = name.rpartition(".")[2]
    if last.endswith("_g") or last == "original0":
        return "weight norm"
    return "spectral norm" if last.endswith("_orig") or last == "original" else ""


def _refuse_numbers(state: Mapping[str, Tensor], path: str) -> None:
    bad = [
        n for n, t in state.items()
        if (t.is_floating_point() or t.is_complex()) and not _finite(t)
    ]  # fmt: skip
    if bad:
        raise CheckpointError(
            f"{path} holds values that are not finite in {some(bad)} (NaN or infinity: the "
            "training that wrote it had diverged). Use an earlier checkpoint"
        )


def _finite(tensor: Tensor) -> bool:
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    return bool(torch.isfinite(wide).all())


def _same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        t is two[n] or (t.dtype == two[n].dtype and torch.equal(t, two[n])) for n, t in one.items()
    )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _rounder(tensor: Tensor, wanted: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.element_size() < wanted.element_size()


def some(names: Sequence[str], limit: int = 3) -> str:
    """Return the first ``limit`` of ``names``, and dots where there are more."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
