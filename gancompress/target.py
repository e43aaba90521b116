"""What a run is to reach: a fraction of parameters or MACs, read from text; no torch here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gancompress.errors import ConfigError

KINDS = ("params", "macs")


@dataclass(frozen=True)
class Target:
    """How small: ``kind`` is params or macs, ``fraction`` of the original cost in (0, 1]."""

    kind: str
    fraction: float

    @classmethod
    def parse(cls, text: str | Target) -> Target:
        """Read ``"params=5.2x"`` (compression) or ``"macs=0.2"`` (fraction of the original).

        Raises:
            ConfigError: another form, an unknown kind, or a value out of range.
        """
        if isinstance(text, Target):
            return text
        match = re.fullmatch(r"\s*(\w+)\s*[=:]\s*([0-9.eE+-]+)(x?)\s*", str(text))
        if not match:
            raise ConfigError(f"target {text!r}: write params=5.2x (times smaller) or macs=0.2")
        kind, number, times = match.groups()
        if kind not in KINDS:
            raise ConfigError(f"target {text!r}: {kind!r} is not one of {', '.join(KINDS)}")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"target {text!r}: {number!r} is not a number") from None
        if times and value < 1:
            raise ConfigError(f"target {text!r}: a compression must be at least 1x")
        fraction = 1 / value if times else value
        if not 0 < fraction <= 1:
            raise ConfigError(
                f"target {text!r}: a fraction must be in (0, 1]; write {kind}={value:g}x for "
                f"{value:g} times smaller"
            )
        return cls(kind, fraction)

    def of(self, cost: Any) -> float:
        """Return this kind's number of a cost (anything with ``params`` and ``macs``)."""
        return float(getattr(cost, self.kind))

    def __str__(self) -> str:
        return f"{self.kind}={1 / self.fraction:g}x"
