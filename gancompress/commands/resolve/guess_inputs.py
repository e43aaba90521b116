"""What a generator takes, found by trying: a proposal for ``--input``, told and never used unseen.

Widths of its first layers, and attributes such as ``z_dim``, say what may fit; what runs is right
in shape. Whether the distribution is the one of training nobody but its author knows.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.modules.nested import pick
from gancompress.modules.undisturbed import look

LATENT = ("z_dim", "latent_dim", "nz", "z_size", "noise_dim", "dim_z", "style_dim", "zdim")
LABEL = ("y", "c", "label", "labels", "class_id", "class_ids", "cls", "class_label", "class_labels")
SIDE = 64
"""Pixels a side, or time steps, that are tried of pictures and sound."""
TRIES = 200
"""Calls of forward at most."""


@dataclass(frozen=True)
class Guess:
    """Specifications for ``--input`` that the forward accepts, and the shape of its output (ours).

    ``output`` is for two samples; ``None`` where it returns several tensors.
    """

    specs: tuple[str, ...]
    output: tuple[int, ...] | None


def guess_inputs(generator: nn.Module) -> Guess:
    """Return inputs that ``generator`` runs on; its own ``sample_inputs`` comes first (ours).

    It is left as it was: buffers, mode and random numbers.

    Raises:
        ConfigError: nothing that was tried runs; what its forward takes is in the message.
    """
    if callable(getattr(generator, "sample_inputs", None)):
        return Guess((), _shape(generator, InputSampler.of(generator)))
    names = _required(generator)
    choices = [list(_candidates(generator, name)) for name in names]
    for specs in itertools.islice(itertools.product(*choices), TRIES):
        try:
            shape = _shape(generator, InputSampler.parse(specs, generator))
        except Exception:  # anything that a stranger's forward may raise: this one does not fit
            continue
        return Guess(specs, shape)
    raise ConfigError(
        f"no inputs were found that {type(generator).__name__}.forward({', '.join(names)}) runs "
        "on. Say them: one --input per argument, such as --input 'z=normal(128)' (docs/cli.md)"
    )


def _shape(generator: nn.Module, sampler: InputSampler) -> tuple[int, ...] | None:
    with torch.no_grad():
        made = look(generator, sampler(2, torch.Generator().manual_seed(0)))
    try:
        return tuple(pick(made, None).shape)
    except Exception:  # several outputs: which is the image, --output says
        return tuple(made.shape) if isinstance(made, Tensor) else None


def _required(generator: nn.Module) -> list[str]:
    slots = inspect.signature(generator.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in slots if p.kind in kinds and p.default is p.empty]


def _candidates(generator: nn.Module, name: str) -> Iterator[str]:
    """Yield specifications of the argument ``name``, the likeliest first, none of them twice."""
    label = name.lower() in LABEL
    found = list(dict.fromkeys(_of_layers(generator)))
    classes = [s for s in found if s.startswith(("labels", "onehot"))]
    others = [s for s in found if s not in classes]
    for spec in (*classes, *others) if label else (*others, *classes):
        yield f"{name}={spec}"


def _of_layers(generator: nn.Module) -> Iterator[str]:
    for attribute in LATENT:
        size = getattr(generator, attribute, None)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            yield f"normal({size})"
            yield f"normal({size},1,1)"
    embedded = {m.embedding_dim for m in generator.modules() if isinstance(m, nn.Embedding)}
    for layer in generator.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            yield f"normal({layer.in_channels},1,1)"
        elif isinstance(layer, nn.Conv2d):
            yield f"uniform({layer.in_channels},{SIDE},{SIDE})"
        elif isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            yield f"normal({layer.in_channels},{SIDE})"
        elif isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
            yield f"normal({layer.in_channels},{SIDE // 4},{SIDE // 4},{SIDE // 4})"
        elif isinstance(layer, nn.Linear):
            yield f"normal({layer.in_features})"
            for width in embedded:  # joined with the class: torch.cat([z, embed(y)], 1)
                if layer.in_features - width > 0:
                    yield f"normal({layer.in_features - width})"
        elif isinstance(layer, nn.Embedding):
            yield f"labels({layer.num_embeddings})"
            yield f"onehot({layer.num_embeddings})"
    for layer in generator.modules():
        if isinstance(layer, (nn.ConvTranspose2d, nn.Conv2d)):  # after z[:, :, None, None]
            yield f"normal({layer.in_channels})"
            return
