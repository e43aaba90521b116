"""Where a recipe names plug-ins, and whether they can be had as it asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gancompress.errors import ConfigError
from gancompress.plugins.kinds import KINDS
from gancompress.plugins.loading import loaded_function
from gancompress.recipes.schema import Recipe

Place = tuple[str | int, ...]

# What a recipe says by leaving the name out (see `Recipe`), and what stands beside the options.
_DEFAULTS = {"relaxation": "ste", "penalty": "cost", "importance": "scores", "schedule": "cubic"}
_BESIDE = {
    "penalty": {"weight"},
    "schedule": {"start", "end"},
    "distill": {"weight"},
    "losses": {"weight"},
    "regularisers": {"weight", "every"},
}
_NAME_KEYS = {"adversarial loss": "loss", "search score": "score"}
_LISTS = {
    "distill": "distiller", "augment": "augmentation", "losses": "loss",
    "regularisers": "regulariser", "companions": "companion", "log": "logger",
}  # fmt: skip


def wrong_plugins(
    data: Mapping[str, Any], proven: Mapping[str, Any] | None = None
) -> Iterator[tuple[Place, str]]:
    """Yield (place, message) for each unknown plug-in and each wrong option in a recipe's data.

    The options are checked by the code that the run reads them with (`Registry.bind`). What is no
    name at all is left to the schema, and what ``proven`` holds as well is taken as right.
    """
    known = [(kind, spec) for kind, _, spec in _entries(proven or {})]
    for kind, path, spec in _entries(data):
        if not isinstance(spec["name"], str) or (kind, spec) in known:
            continue
        name_key = (_NAME_KEYS.get(kind, "name"),)
        for key, text in _faults(kind, spec):
            yield (*path, *(name_key if key == "name" else (key,))), text


def _faults(kind: str, spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with one plug-in, or with a function of the user's in its place."""
    name = spec["name"]
    if kind != "search score" or ":" not in name:
        return KINDS[kind].faults(spec)
    if len(spec) > 1:
        option = next(k for k in spec if k != "name")
        return [(option, f"{name} is a function of its own and takes no options: register it")]
    try:
        loaded_function(name)
    except ConfigError as error:
        return [("name", str(error))]
    return []


def check_plugins(recipe: Recipe) -> None:
    """Refuse a recipe that asks for a plug-in or an option that there is not.

    Raises:
        ConfigError: every fault is in the message.
    """
    found = wrong_plugins(recipe.model_dump())
    faults = [f"{'.'.join(map(str, place))}: {text}" for place, text in found]
    if faults:
        raise ConfigError(f"recipe {recipe.name}: " + "; ".join(faults))


def _entries(data: Mapping[str, Any]) -> Iterator[tuple[str, Place, dict[str, Any]]]:
    for key, default in _DEFAULTS.items():
        if data.get(key) is not None:
            yield key, (key,), _spec(data[key], _BESIDE.get(key, set()), default)
    adversarial = data.get("adversarial")
    if isinstance(adversarial, Mapping):
        options = {k: v for k, v in adversarial.items() if k not in ("loss", "weight")}
        yield "adversarial loss", ("adversarial",), {
            **options, "name": adversarial.get("loss", "hinge"),
        }  # fmt: skip
    search = data.get("search")
    if isinstance(search, Mapping):
        options = {k: v for k, v in search.items() if k not in ("score", "budget", "levels")}
        yield "search score", ("search",), {**options, "name": search.get("score")}
    for key in ("task", "allocation", "score"):
        if data.get(key) is not None:
            yield key, (key,), _spec(data[key], set(), None)
    for key, kind in _LISTS.items():
        items = data.get(key)
        for index, entry in enumerate(items if isinstance(items, list | tuple) else ()):
            yield kind, (key, index), _spec(entry, _BESIDE.get(key, set()), None)


def _spec(entry: Any, beside: set[str], default: str | None) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        return {"name": entry}
    named = {key: value for key, value in entry.items() if key not in beside}
    return {"name": default, **named}
