"""What a run is to reach: a fraction of parameters or MACs, read from text; no torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gancompress.errors import ConfigError

KINDS = ("params", "macs")
FORMS = "write params=5.2x (times smaller) or macs=0.2 (what stays)"

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_AMOUNT = re.compile(rf"\s*({_NUMBER})\s*(x|X|%)?\s*", re.ASCII)
_TARGET = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Target:
    """How small: ``kind`` is params or macs, ``fraction`` of the original cost in (0, 1].

    The only reader of a target: the command line, recipes, ``wrap`` and ``train`` take the same
    spellings, and refuse others in the same words.
    """

    kind: str
    fraction: float

    @classmethod
    def parse(cls, given: str | Mapping[str, Any] | Target) -> Target:
        """Read ``"params=5.2x"`` (compression) or ``"macs=0.2"`` (fraction of the original).

        ``:`` does for ``=``, blanks do not matter, numbers may have an exponent, and a mapping of
        one entry (``{"params": "5.2x"}``, in YAML ``target: {params: 5.2x}``) says the same.

        Raises:
            ConfigError: another form, an unknown kind, or a value out of range.
        """
        if isinstance(given, Target):
            return given
        kind, amount = _parts(given)
        return cls(kind, _fraction(given, kind, amount))

    def of(self, cost: Any) -> float:
        """Return this kind's number of a cost (anything with ``params`` and ``macs``)."""
        return float(getattr(cost, self.kind))

    def __str__(self) -> str:
        return f"{self.kind}={1 / self.fraction:g}x"


def spelling(given: str | Mapping[str, Any] | Target) -> str:
    """Return ``given`` in the one spelling that records keep: ``kind=amount``, without blanks.

    Raises:
        ConfigError: it is no target.
    """
    target = Target.parse(given)
    if isinstance(given, Target):
        return f"{target.kind}={target.fraction!r}"
    kind, amount = _parts(given)
    return f"{kind}={''.join(amount.split()).lower()}"


def _parts(given: object) -> tuple[str, str]:
    """Return kind and amount as text."""
    if isinstance(given, Mapping):
        if len(given) != 1:
            raise _refused(given, f"one of {' and '.join(KINDS)} with its amount; {FORMS}")
        kind, amount = next(iter(given.items()))
        if isinstance(amount, bool) or not isinstance(amount, str | int | float):
            raise _refused(given, FORMS)
        # repr, not str: a float of a YAML file keeps all of its digits.
        amount = amount if isinstance(amount, str) else repr(amount)
    else:
        found = _TARGET.fullmatch(str(given))
        if found is None:
            size = _AMOUNT.fullmatch(str(given))
            raise _refused(given, f"of what? {FORMS}" if size else FORMS)
        kind, amount = found.groups()
    if kind not in KINDS:
        same = (
            ". FLOPs are two a MAC: macs has the same ratio" if "flop" in str(kind).lower() else ""
        )
        raise _refused(given, f"{kind!r} is not one of {', '.join(KINDS)}{same}")
    return str(kind), amount


def _fraction(given: object, kind: str, amount: str) -> float:
    found = _AMOUNT.fullmatch(amount)
    if found is None:
        raise _refused(given, f"{amount!r} is not a number; {FORMS}")
    value, unit = float(found[1]), found[2]
    if unit == "%":
        raise _refused(
            given,
            "a percentage may be what stays or what goes; "
            f"write {kind}={value / 100:g} if {value:g} % stay, "
            f"{kind}={1 - value / 100:g} if they go",
        )
    if not math.isfinite(value):
        raise _refused(given, f"{amount!r} is not a number; {FORMS}")
    if unit and value < 1:
        raise _refused(given, "a compression must be at least 1x")
    fraction = 1 / value if unit else value
    if not 0 < fraction <= 1:
        times = f"; write {kind}={value:g}x for {value:g} times smaller" if value > 1 else ""
        raise _refused(given, f"a fraction must be above 0 and at most 1{times}")
    return fraction


def _refused(given: object, why: str) -> ConfigError:
    shown = dict(given) if isinstance(given, Mapping) else given
    return ConfigError(f"target {shown!r}: {why}")
