"""Positional words of a verb: one model, and overrides as ``key=value`` or ``--key value``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from gancompress.errors import ConfigError

_OVERRIDE = re.compile(r"^[A-Za-z_][A-Za-z0-9_.\-]*=")
_REFUSED = re.compile(r"^[+~][A-Za-z_]")

_ELSEWHERE = {
    "--device cuda; several: torchrun --nproc-per-node N -m gancompress ... (docs/scale.md)": (
        "gpu",
        "gpus",
        "gpu_ids",
        "num_gpus",
        "n_gpus",
        "devices",
        "nproc",
    ),
    "steps=N, or --max-steps N for a try": ("epochs", "iters", "iterations", "max_iter", "kimg"),
    "batch=N": ("batch_size", "bs"),
    "generator_optim.lr=X and discriminator_optim.lr=X": ("lr", "learning_rate"),
    "--data PATH": ("dataset", "dataroot", "data_dir", "data_root", "data_path"),
    "--out DIR": ("output_dir", "outdir", "save_dir", "results_dir", "run_dir"),
    "--weights FILE": ("ckpt", "checkpoint", "pretrained", "load"),
}
"""What to write here -> what other programs call it."""


def _advice(word: str, known: Iterable[str]) -> str:
    """Return what to write instead of the unknown option ``word``; nothing that is only alike."""
    key = word.lstrip("-").partition("=")[0].replace("-", "_").lower()
    for advice, names in _ELSEWHERE.items():
        if key in names:
            return f" Here it is {advice}"
    # Not by the dashes, which all options share.
    options = {option.lstrip("-"): option for option in known}
    near = difflib.get_close_matches(word.lstrip("-").partition("=")[0], options, 1, 0.7)
    return f" Did you mean {options[near[0]]!r}?" if near else " All of them: --help"


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
                raise ConfigError(f"no option {word!r}.{_advice(word, known | set(flags))}")
            if not equals:
                if not queue:
                    raise ConfigError(f"{word} needs a value: {word} VALUE, or {key}=VALUE")
                value = queue.pop(0)
            overrides.append(f"{key}={value}")
        elif word.startswith("-") and len(word) > 1:
            raise ConfigError(f"no option {word!r}.{_advice(word, flags)}")
        elif _OVERRIDE.match(word):
            overrides.append(word)
        else:
            models.append(word)
    if len(models) > 1:
        raise ConfigError(
            f"one model at a time; got {', '.join(map(repr, models))}. Overrides are key=value"
        )
    return (models[0] if models else None), overrides


def root_flags_first(words: Sequence[str]) -> list[str]:
    """Return ``words`` with --debug, --quiet and --plugin MODULE in front, wherever they stood.

    Raises:
        ConfigError: --plugin without a module.
    """
    leading: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("--debug", "--quiet", "-q") or word.startswith("--plugin="):
            leading.append(word)
        elif word == "--plugin":
            module = next(rest, None)
            if module is None:
                raise ConfigError("--plugin needs the name of a module: --plugin my_plugin")
            leading += [word, module]
        else:
            others.append(word)
    return leading + others
