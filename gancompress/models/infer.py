"""Find a BigGAN's configuration from the names and shapes in its state dicts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from torch import Tensor

from gancompress.errors import CheckpointError, ConfigError
from gancompress.models.config import BigGANConfig

__all__ = ["infer_discriminator_config", "infer_generator_config"]

State = Mapping[str, Tensor]

_GENERATOR_STAGES = {3: 32, 4: 64, 5: 128, 6: 256}
_DISCRIMINATOR_STAGES = {4: 32, 5: 64, 6: 128, 7: 256}
# The first width in multiples of `ch`.
_GENERATOR_FIRST = {32: 4, 64: 16, 128: 16, 256: 16}
_DISCRIMINATOR_FIRST = {32: 4, 64: 1, 128: 1, 256: 1}


def infer_generator_config(state: State, origin: str = "the state dict") -> BigGANConfig:
    """Return the configuration of the generator that wrote ``state``, called ``origin`` in errors.

    Sizes, classes, latents and attention follow from the shapes. What leaves no trace, the two
    epsilons and the initialisation, comes from the published script with the same kind of norms
    (ImageNet: shared embedding; CIFAR: tables). ``d_attn`` is empty: only the discriminator knows.

    Raises:
        CheckpointError: the names or shapes are those of no BigGAN generator we can build.
    """
    _refuse_relatives(state, origin)
    stages = _stages(state, origin)
    if stages not in _GENERATOR_STAGES:
        raise CheckpointError(
            f"{origin} has {stages} generator stages; {_table(_GENERATOR_STAGES)} are known"
        )
    resolution = _GENERATOR_STAGES[stages]
    rows, z_chunk = _shape(state, "linear.weight", 2, origin)
    ch = _unit(rows, 16 * _GENERATOR_FIRST[resolution], "linear.weight", origin)
    image_channels = _shape(state, "output_layer.2.weight", 4, origin)[0]
    g_attn = tuple(8 << stage for stage in range(stages) if _attends(state, stage))
    table = _shape(state, "blocks.0.0.bn1.gain.weight", 2, origin)
    if "shared.weight" in state:
        n_classes, shared_dim = _shape(state, "shared.weight", 2, origin)
        extra = table[1] - shared_dim
        if extra not in (0, z_chunk):
            raise CheckpointError(
                f"{origin}: blocks.0.0.bn1.gain.weight reads {table[1]} numbers, expected "
                f"{shared_dim} (embedding) or {shared_dim} + {z_chunk} (embedding and z slot)"
            )
        base, hier = BigGANConfig.imagenet128(), extra > 0
    else:
        n_classes, shared_dim = table[0], 0
        base, hier = BigGANConfig.cifar(), False
    return _replaced(
        base,
        origin,
        resolution=resolution,
        n_classes=n_classes,
        ch=ch,
        dim_z=z_chunk * (stages + 1) if hier else z_chunk,
        shared=shared_dim > 0,
        shared_dim=shared_dim,
        hier=hier,
        g_attn=g_attn,
        d_attn=(),
        image_channels=image_channels,
    )


def infer_discriminator_config(
    state: State, generator: BigGANConfig, origin: str = "the state dict"
) -> BigGANConfig:
    """Return ``generator`` with the discriminator's own width and attention, found from ``state``.

    Raises:
        CheckpointError: the shapes are those of no BigGAN discriminator, or of one for other
            images or classes than the generator's.
    """
    _refuse_relatives(state, origin)
    stages = _stages(state, origin)
    if stages not in _DISCRIMINATOR_STAGES:
        raise CheckpointError(
            f"{origin} has {stages} discriminator stages; {_table(_DISCRIMINATOR_STAGES)} are known"
        )
    resolution = _DISCRIMINATOR_STAGES[stages]
    width, image_channels = _shape(state, "blocks.0.0.conv1.weight", 4, origin)[:2]
    n_classes = _shape(state, "embed.weight", 2, origin)[0]
    found = {"resolution": resolution, "n_classes": n_classes, "image_channels": image_channels}
    faults = [
        f"{name} is {value}, the generator's is {getattr(generator, name)}"
        for name, value in found.items()
        if value != getattr(generator, name)
    ]
    if faults:
        raise CheckpointError(f"{origin} does not belong to this generator: {'; '.join(faults)}")
    ch = _unit(width, _DISCRIMINATOR_FIRST[resolution], "blocks.0.0.conv1.weight", origin)
    sizes = [size for _, _, size in generator.discriminator_stages()]
    d_attn = {size for stage, size in enumerate(sizes) if _attends(state, stage)}
    return _replaced(generator, origin, ch=ch, d_attn=tuple(sorted(d_attn)), g_attn=())


def _replaced(base: BigGANConfig, origin: str, **found: object) -> BigGANConfig:
    try:
        return dataclasses.replace(base, **found)  # type: ignore[arg-type]
    except ConfigError as error:
        raise CheckpointError(f"{origin} has the shapes of no known BigGAN: {error}") from error


def _refuse_relatives(state: State, origin: str) -> None:
    if "blocks.0.0.conv4.weight" in state:
        raise CheckpointError(f"{origin} is a BigGAN-deep; only BigGAN is supported")
    if any(name.endswith(".accumulation_counter") for name in state):
        raise CheckpointError(
            f"{origin} was trained with standing statistics (option mybn), which is not supported"
        )
    if "embeddings.weight" in state or any(name.endswith("weight_orig") for name in state):
        raise CheckpointError(
            f"{origin} has names like weight_orig: a network of another code, not of "
            "ajbrock/BigGAN-PyTorch"
        )


def _stages(state: State, origin: str) -> int:
    """Count the stages, which must be numbered 0, 1, 2, ... without a gap."""
    seen = {int(m[1]) for name in state if (m := re.match(r"blocks\.(\d{1,4})\.", name))}
    if not seen:
        raise CheckpointError(f"{origin} has no key blocks.*: it is not a BigGAN")
    gaps = sorted(set(range(max(seen) + 1)) - seen)
    if gaps:
        raise CheckpointError(f"{origin} misses every key of blocks.{gaps[0]}")
    return len(seen)


def _attends(state: State, stage: int) -> bool:
    return any(name.startswith(f"blocks.{stage}.1.") for name in state)


def _shape(state: State, name: str, dims: int, origin: str) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(f"{origin} misses the key {name}")
    shape = tuple(state[name].shape)
    if len(shape) != dims:
        raise CheckpointError(f"{origin}: {name} has shape {shape}, expected {dims} dimensions")
    return shape


def _unit(width: int, multiple: int, name: str, origin: str) -> int:
    ch, rest = divmod(width, multiple)
    if rest or not ch:
        raise CheckpointError(
            f"{origin}: {name} has {width} rows, not a multiple of {multiple}: the width of no "
            "BigGAN (of a pruned one?)"
        )
    return ch


def _table(stages: Mapping[int, int]) -> str:
    return ", ".join(f"{count} ({size} px)" for count, size in stages.items())
