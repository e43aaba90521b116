"""Names under which the same tensors are published: shells of other tools, norms old and new."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_SHELLS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What data parallel, torch.compile, FSDP and activation checkpointing put into names."""

_PAIRS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "weight norm",
        (
            ("{name}_g", "parametrizations.{name}.original0"),
            ("{name}_v", "parametrizations.{name}.original1"),
        ),
    ),
    (
        "spectral norm",
        (
            ("{name}_orig", "parametrizations.{name}.original"),
            ("{name}_u", "parametrizations.{name}.0._u"),
            ("{name}_v", "parametrizations.{name}.0._v"),
        ),
    ),
)
"""Each norm's names: of torch.nn.utils, then of torch.nn.utils.parametrizations."""


def without_shells(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Take names of shells out of ``given``, wherever they stand; a network may have its own."""
    notes: list[str] = []
    found = dict(given)
    for shell in _SHELLS:
        if any(shell in name.split(".") for name in wanted):
            continue
        new = {".".join(p for p in n.split(".") if p != shell): t for n, t in found.items()}
        if new.keys() != found.keys() and len(new) == len(found):
            found = new
            notes.append(f"{shell!r} taken out of the names")
    return found, notes


def with_other_norms(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the tensors of weight and spectral norms to the spelling that ``wanted`` has."""
    found, notes = dict(given), []
    for norm, pairs in _PAIRS:
        for old_is_given in (True, False):
            forms = [(a, b) if old_is_given else (b, a) for a, b in pairs]
            count = _rename(found, wanted, forms)
            if count:
                way = "old names to those of torch.nn.utils.parametrizations"
                notes.append(f"{count} {norm}s: {way if old_is_given else way + ', reversed'}")
    return found, notes


def _rename(
    found: dict[str, Tensor], wanted: Mapping[str, Tensor], forms: list[tuple[str, str]]
) -> int:
    """Rename, in place, each layer whose tensors all have the first form; return how many."""
    first = re.compile(r"(?P<stem>(?:.*\.)?)" + _pattern(forms[0][0]))
    count = 0
    for key in list(found):
        match = first.fullmatch(key)
        if match is None:
            continue
        stem, name = match["stem"], match["name"]
        moves = {stem + a.format(name=name): stem + b.format(name=name) for a, b in forms}
        here = all(k in found for k in moves)
        if here and all(v in wanted and v not in found for v in moves.values()):
            for k, v in moves.items():
                found[v] = found.pop(k)
            count += 1
    return count


def _pattern(form: str) -> str:
    before, _, after = form.partition("{name}")
    return re.escape(before) + r"(?P<name>\w+?)" + re.escape(after)
