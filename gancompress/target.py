"""What a run is to reach: a fraction of parameters, MACs or time, read from text; no torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gancompress.errors import ConfigError

KINDS = ("params", "macs", "latency")
ENGINES = ("eager", "compiled", "onnxruntime")
FORMS = "write params=5.2x (times smaller), macs=0.2 (what stays) or latency=2x (times faster)"
SETTING = "write latency=2x@cpu,batch=1,engine=eager; what is left out is as here"

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_AMOUNT = re.compile(rf"\s*({_NUMBER})\s*(x|X|%)?\s*", re.ASCII)
_DEVICE = re.compile(r"(?:auto|[a-z]+(?::\d+)?)", re.ASCII)
_TARGET = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """Where time is measured: ``device`` (auto: a GPU if any), images a call, and what runs it."""

    device: str = "auto"
    batch: int = 1
    engine: str = "eager"

    @classmethod
    def parse(cls, given: object, text: str) -> Setting:
        """Read ``"cpu,batch=1,engine=eager"``, in any order; what is left out is the default.

        Raises:
            ConfigError: an unknown word, a word twice, or a value that is none; names ``given``.
        """
        found: dict[str, str] = {}
        for word in filter(None, (w.strip() for w in text.split(","))):
            name, equals, value = (part.strip() for part in word.partition("="))
            name, value = (name, value) if equals else ("device", name)
            if name not in {f.name for f in fields(cls)} or name in found:
                what = f"{name} is there twice" if name in found else f"{word!r} is not known"
                raise _refused(given, f"{what}; {SETTING}")
            found[name] = value
        batch, engine = found.get("batch", "1"), found.get("engine", cls.engine)
        device = found.get("device", cls.device)
        if not batch.isdecimal() or not 1 <= int(batch) <= 65536:
            raise _refused(given, f"batch={batch} is not a number from 1 to 65536; {SETTING}")
        if engine not in ENGINES:
            raise _refused(given, f"engine={engine} is not one of {', '.join(ENGINES)}")
        if not _DEVICE.fullmatch(device):
            raise _refused(given, f"{device!r} is no device such as cpu or cuda:0; {SETTING}")
        return cls(device, int(batch), engine)

    def __str__(self) -> str:
        return f"{self.device},batch={self.batch},engine={self.engine}"


@dataclass(frozen=True)
class Target:
    """How small or fast: ``kind`` is params, macs or latency, ``fraction`` of the original cost.

    The fraction is in (0, 1]; ``setting`` says where time is measured (latency only). The only
    reader of a target: the command line, recipes, ``wrap`` and ``train`` take the same spellings,
    and refuse others in the same words.
    """

    kind: str
    fraction: float
    setting: Setting | None = None

    @classmethod
    def parse(cls, given: str | Mapping[str, Any] | Target) -> Target:
        """Read ``"params=5.2x"`` (compression) or ``"macs=0.2"`` (fraction of the original).

        ``:`` does for ``=``, blanks do not matter, numbers may have an exponent, and a mapping of
        one entry (``{"params": "5.2x"}``, in YAML ``target: {params: 5.2x}``) says the same.
        ``"latency=2x@cpu,batch=16,engine=onnxruntime"`` is time, see `Setting`.

        Raises:
            ConfigError: another form, an unknown kind, or a value out of range.
        """
        if isinstance(given, Target):
            return given
        kind, amount = _parts(given)
        size, at, where = amount.partition("@")
        if at and kind != "latency":
            raise _refused(given, f"{kind} is the same everywhere: leave {at + where} out")
        setting = Setting.parse(given, where) if kind == "latency" else None
        return cls(kind, _fraction(given, kind, size), setting)

    def of(self, cost: Any) -> float:
        """Return this kind's number of a cost (anything with ``params`` and ``macs``)."""
        return float(getattr(cost, self.kind))

    def __str__(self) -> str:
        where = "" if self.setting is None else f"@{self.setting}"
        return f"{self.kind}={1 / self.fraction:g}x{where}"


Given = str | Mapping[str, Any] | Target | Sequence[Any]
"""One target, several in a list, or several in one text with ``;`` between them."""


def parse_targets(given: Given) -> tuple[Target, ...]:
    """Return every target in ``given``: all of them are to hold in the end.

    Raises:
        ConfigError: one cannot be read, there is none, or two set bounds for the same number.
    """
    found = tuple(Target.parse(each) for each in _each(given))
    for i, one in enumerate(found):
        for other in found[:i]:
            if (one.kind, one.setting) == (other.kind, other.setting):
                strict = min(one, other, key=lambda t: t.fraction)
                raise ConfigError(
                    f"targets {other} and {one} contradict each other: both are of {one.kind}. "
                    f"Keep one; {strict} holds both"
                )
    return found


def _each(given: Given) -> list[Any]:
    if isinstance(given, str):
        return [part for part in given.split(";") if part.strip()] or [given]
    if isinstance(given, Mapping | Target) or not isinstance(given, Sequence):
        return [given]
    if not given:
        raise ConfigError(f"target is an empty list; {FORMS}")
    return list(given)


def spelling(given: Given) -> str:
    """Return ``given`` in the one spelling that records keep: ``kind=amount``, without blanks.

    Several are joined by ``"; "``.

    Raises:
        ConfigError: it is no target.
    """
    parse_targets(given)
    return "; ".join(map(_spelled, _each(given)))


def _spelled(given: str | Mapping[str, Any] | Target) -> str:
    target = Target.parse(given)
    if isinstance(given, Target):
        where = "" if target.setting is None else f"@{target.setting}"
        return f"{target.kind}={target.fraction!r}{where}"
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
