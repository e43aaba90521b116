"""``gancompress init``: a commented starter for a generator of one's own, asked for its inputs."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from gancompress.commands.console import emit, note, stdout
from gancompress.errors import ConfigError, StorageError
from gancompress.recipes.load import load_recipe, recipe_text

NETS, RECIPE, COMMANDS = "nets.py", "recipe.yaml", "compress.sh"

OWN = '''\
"""What gancompress compresses: a function without arguments that returns the generator."""

from {module} import {name}


def build_generator():
    """Return the network at the sizes that its weights have; --weights fills it."""
    return {call}
'''

EXAMPLE = '''\
"""What gancompress compresses: a function without arguments that returns the generator.

This one is an example: put your own class in its place.
"""

from torch import nn


def build_generator():
    """Return the network at the sizes that its weights have; --weights fills it."""
    return nn.Sequential(  # latents (n, 100, 1, 1) -> images (n, 3, 32, 32) in [-1, 1]
        nn.ConvTranspose2d(100, 64, 4),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1),
        nn.Tanh(),
    )
'''

SCRIPT = """\
#!/usr/bin/env bash
# Run it, or copy lines from it, in the folder in which `gancompress init` was typed.
set -euo pipefail

# How the inputs are drawn{found}
# Other kinds (labels, images, arrays, sound): gancompress prune --help
inputs=({inputs})

# 1. What can go, what cannot, and why.
gancompress inspect {model}{weights} "${{inputs[@]}}"

# 2. The plan: sizes before and after. Nothing is written.
gancompress prune {model}{weights} "${{inputs[@]}}" --recipe {recipe} --dry-run

# 3. The run; the teacher's own images teach. More that you may have: --data FOLDER (real images),
#    --discriminator nets:build_d with --discriminator-weights FILE. --max-steps 50 for a try.
gancompress prune {model}{weights} "${{inputs[@]}}" --recipe {recipe} "$@"
"""


def start(
    *,
    what: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    recipe: str,
    out: Path,
    json: bool,
) -> None:
    """Write nets.py, recipe.yaml and compress.sh into the new folder ``out``.

    Raises:
        ConfigError: ``out`` exists or cannot be imported from, there is no such recipe or builder,
            the builder needs arguments, or no inputs were found on which the network runs.
        StorageError: the folder cannot be written.
    """
    package = _package_of(out)
    load_recipe(recipe)
    nets, specs, shape = _asked(what, inputs)
    files = {
        NETS: nets,
        RECIPE: f"# A copy of {recipe}; what a field means: gancompress show {out / RECIPE}\n"
        + recipe_text(recipe),
        COMMANDS: SCRIPT.format(
            found=" (found by trying; make sure that they are those of training):"
            if what and not inputs and specs
            else ":",
            inputs=" ".join(f"--input {shlex.quote(spec)}" for spec in specs),
            model=f"{package}.nets:build_generator",
            weights=f" --weights {shlex.quote(weights)}" if weights else "",
            recipe=shlex.quote((out / RECIPE).as_posix()),
        ),
    }
    try:
        out.mkdir(parents=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror}. Choose another --out") from error
    if json:
        found = {"files": [str(out / name) for name in files], "input": list(specs)}
        emit("init", {**found, "output_shape": shape and list(shape)})
        return
    for name in files:
        stdout().print(Text(f"wrote {out / name}"), soft_wrap=True)
    stdout().print(Text(f"next  bash {out / COMMANDS}", style="bold"), soft_wrap=True)


def _package_of(out: Path) -> str:
    """Return the dotted name by which Python finds ``out`` from here.

    Raises:
        ConfigError: there is none, or the folder exists.
    """
    if out.exists():
        raise ConfigError(f"{out} exists and is not overwritten. Choose another --out")
    if out.is_absolute() or not out.parts or not all(part.isidentifier() for part in out.parts):
        raise ConfigError(
            f"--out {out}: nets.py in it is imported from here, so it must be a folder below this "
            "one whose name is letters, digits and _"
        )
    return ".".join(out.parts)


def _asked(
    what: str | None, inputs: Sequence[str] | None
) -> tuple[str, tuple[str, ...], tuple[int, ...] | None]:
    """Return the text of nets.py, specifications of its inputs, and the shape of its output."""
    if what is None:
        note("no MODEL: an example stands in nets.py. With yours: gancompress init module:Class")
        return EXAMPLE, tuple(inputs or ("z=normal(100,1,1)",)), None
    from gancompress.commands.resolve.builders import build, load_builder
    from gancompress.commands.resolve.guess_inputs import guess_inputs
    from gancompress.commands.resolve.subject import sampler_for

    builder = load_builder(what)
    _refuse_arguments(builder, what)
    generator = build(what)
    if inputs:
        sampler_for(generator, inputs)  # a wrong word is named now
        specs, shape = tuple(inputs), None
    else:
        found = guess_inputs(generator)
        specs, shape = found.specs, found.output
        drawn = ", ".join(specs) or f"{type(generator).__name__}.sample_inputs"
        made = f" -> {shape}" if shape else ""
        note(f"inputs: {drawn}{made} for two samples; make sure that they are those of training")
    module, _, name = what.partition(":")
    outer = name.partition(".")[0]
    return OWN.format(module=module, name=outer, call=f"{name}()"), specs, shape


def _refuse_arguments(builder: Callable[..., Any], what: str) -> None:
    try:
        slots = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):  # written in C: calling it tells
        return
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    need = [
        p.name
        for p in slots
        if p.default is p.empty and p.kind in (*plain, inspect.Parameter.KEYWORD_ONLY)
    ]
    if need:
        name = what.rpartition(":")[2]
        given = ", ".join(f"{n}=..." for n in need)
        raise ConfigError(
            f"{what} needs arguments: {', '.join(need)}. Write a function that gives the sizes of "
            f"your weights, and name it instead: def build(): return {name}({given})"
        )
