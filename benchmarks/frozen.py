"""The protocol of docs/protocol.md, as far as a program can hold it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.record import ROOT
from gancompress.errors import ConfigError
from gancompress.recipes.schema import Recipe

DOCUMENT = ROOT / "docs" / "protocol.md"
TUNING = (0, 1, 2)
SPENT = (10, 11, 12)  # looked at five times while the protocol was still changing
REPORTING_FROM = 100
PAIRS = 12  # seeds of a reported comparison
STAGES = ("tuning", "reporting", "earlier")
DECISIVE = (
    "data", "distill", "graph", "losses", "masks", "metrics", "models", "modules", "surgery",
    "tasks", "training", "wrapping",
)  # fmt: skip


def check_seeds(stage: str, seeds: Iterable[int], name: str) -> None:
    """Refuse seeds that an experiment of this stage may not use.

    Raises:
        ConfigError: which seed, and why.
    """
    seeds = list(seeds)
    if stage == "tuning" and (wrong := [s for s in seeds if s not in TUNING]):
        raise ConfigError(
            f"experiment {name} is for tuning and uses seed {wrong[0]}: choose among {TUNING}"
        )
    if stage == "reporting" and (wrong := [s for s in seeds if s < REPORTING_FROM]):
        raise ConfigError(
            f"experiment {name} is reported and uses seed {wrong[0]}: reporting seeds begin at "
            f"{REPORTING_FROM}; 0 to 2 are for tuning, 10 to 12 are spent"
        )
    if stage == "reporting" and len(set(seeds)) < PAIRS:
        raise ConfigError(
            f"experiment {name} is reported and has {len(set(seeds))} seeds: it needs {PAIRS}"
        )
    if stage == "earlier" and (wrong := [s for s in seeds if s >= REPORTING_FROM]):
        raise ConfigError(
            f"experiment {name} is from before the protocol and uses reporting seed {wrong[0]}: "
            "set stage: reporting"
        )


def check_frozen() -> None:
    """Refuse to report before the protocol is committed as it stands.

    Raises:
        ConfigError: it is missing or has changed since the last commit.
    """
    name = str(DOCUMENT.relative_to(ROOT))

    def git(*words: str) -> tuple[int, str]:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stdout.strip()

    if git("cat-file", "-e", f"HEAD:{name}")[0] or git("status", "--porcelain", "--", name)[1]:
        raise ConfigError(
            f"{name} is not committed as it stands: the protocol is frozen by a commit before the "
            "first reported run. Commit it, or run an experiment of another stage"
        )


def protocol_hash() -> str:
    """Return a short hash of the protocol, kept with each reported result."""
    return hashlib.sha256(DOCUMENT.read_bytes()).hexdigest()[:16]


def code_hash() -> str:
    """Return a short hash of the code that decides a result: the packages of `DECISIVE`."""
    found = hashlib.sha256()
    for package in DECISIVE:
        for file in sorted((ROOT / "gancompress" / package).rglob("*.py")):
            found.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return found.hexdigest()[:16]


def same_recipe(stored: Any, now: Mapping[str, Any]) -> bool:
    """Return whether a stored recipe asks for what ``now`` does.

    What describes a recipe does not count. A field that is newer than the stored one must have its
    default now: new fields come with a default that changes nothing.
    """
    if not isinstance(stored, Mapping):
        return False
    defaults = _defaults()
    told = {*stored, *now} - {"paper", "summary"}
    return all(
        _alike(stored.get(key, defaults.get(key)), now[key], defaults.get(key))
        if key in now
        else stored[key] in (None, [], {}, 0, False)  # a field that there is no more, and said so
        for key in told
    )


def _alike(stored: Any, now: Any, default: Any) -> bool:
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        known = default if isinstance(default, Mapping) else {}
        return all(
            key in now and _alike(stored.get(key, known.get(key)), now[key], known.get(key))
            for key in {*stored, *now}
        )
    if isinstance(stored, list | tuple) and isinstance(now, list | tuple):
        return len(stored) == len(now) and all(
            _alike(a, b, None) for a, b in zip(stored, now, strict=True)
        )
    return bool(stored == now)


def _defaults() -> dict[str, Any]:
    plain = Recipe(name="x", kind="distill", summary="", steps=1, distill=({"name": "pixel"},))  # type: ignore[arg-type]
    return {k: v for k, v in plain.model_dump(mode="json").items() if k != "distill"}
