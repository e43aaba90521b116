"""Positional words of a verb: one model, and overrides as ``key=value`` or ``--key value``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gancompress.errors import ConfigError, closest

_OVERRIDE = re.compile(r"^[A-Za-z_][A-Za-z0-9_.\-]*=")
_REFUSED = re.compile(r"^[+~][A-Za-z_]")


def split_words(words: Sequence[str], flags: Iterable[str]) -> tuple[str | None, list[str]]:
    """Return the model (or ``None``) and the overrides, in order, as ``key=value``.

    ``flags`` are the verb's own options: they name the nearest when ``--key`` fits no recipe field.

    Raises:
        ConfigError: two models, a flag without a value, or a word that is neither.
    """
    from gancompress.recipes.schema import Recipe

    models: list[str] = []
    overrides: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if _REFUSED.match(word):
            raise ConfigError(
                f"{word!r}: recipes have a fixed set of keys, so none is added or dropped. "
                f"Write {word.lstrip('+~')!r} to set one"
            )
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            key = key.replace("-", "_")
            field = key.partition(".")[0]
            if field not in Recipe.model_fields:
                known = {f"--{name.replace('_', '-')}" for name in Recipe.model_fields}
                raise ConfigError(f"no option {word!r}.{closest(word, known | set(flags))}")
            if not equals:
                if not queue:
                    raise ConfigError(f"{word} needs a value: {word} VALUE, or {key}=VALUE")
                value = queue.pop(0)
            overrides.append(f"{key}={value}")
        elif word.startswith("-") and len(word) > 1:
            raise ConfigError(f"no option {word!r}.{closest(word, flags)}")
        elif _OVERRIDE.match(word):
            overrides.append(word)
        else:
            models.append(word)
    if len(models) > 1:
        raise ConfigError(
            f"one model at a time; got {', '.join(map(repr, models))}. Overrides are key=value"
        )
    return (models[0] if models else None), overrides
