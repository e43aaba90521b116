"""Load a published BigGAN checkpoint folder, and convert it to files without pickle.

A published folder (ajbrock/BigGAN-PyTorch) holds three bare state dicts: ``G_ema.pth``, ``G.pth``
and ``D.pth``, perhaps with a suffix (``G_ema_best0.pth``). Other files in it are not opened.

    from gancompress.models import convert_biggan_folder, load_biggan_folder

    generator, live_generator, discriminator = load_biggan_folder("BigGAN_ch96")
    convert_biggan_folder("BigGAN_ch96", "biggan128")   # safetensors, config, SHA-256
    generator, live_generator, discriminator = load_biggan_folder("biggan128")

`docs/biggan.md` lists what is checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.models.biggan import BigGANDiscriminator, BigGANGenerator
from gancompress.models.config import BigGANConfig
from gancompress.models.infer import infer_discriminator_config, infer_generator_config
from gancompress.models.state_dict import read_state_dict
from gancompress.storage import read_json
from gancompress.weights.reading import tensors_from

__all__ = [
    "convert_biggan_folder",
    "load_biggan_discriminator",
    "load_biggan_folder",
    "load_biggan_generator",
]

SCHEMA = 1
_INDEX = "biggan.json"
_PARTS = ("G_ema", "G", "D")
_Network = TypeVar("_Network", bound=nn.Module)
Networks = tuple[BigGANGenerator, BigGANGenerator, BigGANDiscriminator]


def load_biggan_folder(
    folder: str | Path, *, config: BigGANConfig | None = None, suffix: str = ""
) -> Networks:
    """Return (averaged generator, live generator, discriminator) of a checkpoint folder.

    Reads a published folder, or one made by `convert_biggan_folder`. The networks are float32, on
    the CPU and in eval mode. Without ``config`` the configuration is found from the shapes; with
    it, the files must fit it. ``suffix`` picks a published copy: ``"best0"`` for
    ``G_ema_best0.pth``.

    Raises:
        CheckpointError: a file is missing, damaged or refused, or does not fit the configuration or
            the other files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no folder {folder}")
    if (folder / _INDEX).is_file():
        if suffix:
            raise CheckpointError(f"{folder} is a converted folder: it has no copy {suffix!r}")
        return _load_converted(folder, config)
    files = {part: folder / f"{part}{'_' if suffix else ''}{suffix}.pth" for part in _PARTS}
    ema = load_biggan_generator(files["G_ema"], config=config)
    live = _generator(files["G"], ema.config, "the configuration" if config else "G_ema.pth")
    discriminator = load_biggan_discriminator(
        files["D"], config or ema.config, check=config is not None
    )
    if discriminator.config.ch == ema.config.ch:  # then one configuration describes all three
        both = dataclasses.replace(ema.config, d_attn=discriminator.config.d_attn)
        ema.config = live.config = discriminator.config = both
    return ema, live, discriminator


def load_biggan_generator(
    file: str | Path, *, config: BigGANConfig | None = None
) -> BigGANGenerator:
    """Return the generator of a bare state dict file (``G_ema.pth`` or ``G.pth``), in eval mode.

    Raises:
        CheckpointError: the file is missing, damaged or refused, or does not fit ``config``.
    """
    return _generator(Path(file), config, "the configuration")


def _generator(file: Path, config: BigGANConfig | None, source: str) -> BigGANGenerator:
    state = read_state_dict(file)
    found = infer_generator_config(state, str(file))
    if config is not None:
        _compare(found, config, ("d_attn",), str(file), source)
    return _fill(BigGANGenerator, config or found, state, str(file))


def load_biggan_discriminator(
    file: str | Path, config: BigGANConfig, *, check: bool = True
) -> BigGANDiscriminator:
    """Return the discriminator of a bare state dict file (``D.pth``), in eval mode.

    ``config`` is its generator's. With ``check`` the width and attention must be those of
    ``config`` too; else they are found from the file, as a pair may differ in them.

    Raises:
        CheckpointError: the file is missing, damaged or refused, or does not fit ``config``.
    """
    state = read_state_dict(file)
    found = infer_discriminator_config(state, config, str(file))
    if check:
        _compare(found, config, ("g_attn",), str(file))
    return _fill(BigGANDiscriminator, config if check else found, state, str(file))


def convert_biggan_folder(
    source: str | Path,
    target: str | Path,
    *,
    config: BigGANConfig | None = None,
    suffix: str = "",
) -> Path:
    """Write a published folder again as safetensors with its configuration and SHA-256 sums.

    ``target`` must not exist; it appears whole or not at all. Returns it. No pickle is written.

    Raises:
        CheckpointError: as `load_biggan_folder`.
        StorageError: ``target`` exists or cannot be written.
    """
    target = Path(target)
    networks = load_biggan_folder(source, config=config, suffix=suffix)
    if target.exists():
        raise StorageError(f"{target} exists; choose another folder or remove it")
    draft = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    index: dict[str, Any] = {
        "schema": SCHEMA,
        "generator": networks[0].config.to_dict(),
        "discriminator": networks[2].config.to_dict(),
        "sha256": {},
    }
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for part, network in zip(_PARTS, networks, strict=True):
            data = safetensors.torch.save(network.state_dict())
            _write(draft / f"{part}.safetensors", data)
            index["sha256"][part] = hashlib.sha256(data).hexdigest()
        _write(draft / _INDEX, (json.dumps(index, indent=1) + "\n").encode())
        draft.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _load_converted(folder: Path, config: BigGANConfig | None) -> Networks:
    path = folder / _INDEX
    try:
        index = read_json(path)
        if index["schema"] != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {index['schema']!r}, this version reads {SCHEMA}"
            )
        generator = BigGANConfig.from_dict(index["generator"])
        discriminator = BigGANConfig.from_dict(index["discriminator"])
        sums = {part: str(index["sha256"][part]) for part in _PARTS}
    except (ValueError, KeyError, TypeError, OSError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if config is not None:
        _compare(generator, config, ("d_attn",), str(path))
        _compare(discriminator, config, ("g_attn",), str(path))
        generator = discriminator = config
    states = {part: _read_part(folder / f"{part}.safetensors", sums[part]) for part in _PARTS}
    return (
        _fill(BigGANGenerator, generator, states["G_ema"], str(folder / "G_ema.safetensors")),
        _fill(BigGANGenerator, generator, states["G"], str(folder / "G.safetensors")),
        _fill(BigGANDiscriminator, discriminator, states["D"], str(folder / "D.safetensors")),
    )


def _read_part(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in {_INDEX}")
    return tensors_from(data, path)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _compare(
    found: BigGANConfig,
    wanted: BigGANConfig,
    skip: tuple[str, ...],
    origin: str,
    source: str = "the configuration",
) -> None:
    """Refuse a file whose shapes mean another configuration, naming each difference."""
    invisible = ("sn_eps", "bn_eps", "init", *skip)
    have, want = found.to_dict(), wanted.to_dict()
    faults = [
        f"{name} is {have[name]}, {source} says {want[name]}"
        for name in have
        if name not in invisible and have[name] != want[name]
    ]
    if faults:
        raise CheckpointError(f"{origin} does not fit: {'; '.join(faults)}")


def _fill(
    network: type[_Network], config: BigGANConfig, state: Mapping[str, Tensor], origin: str
) -> _Network:
    """Build ``network`` around the tensors of ``state``, every one or none."""
    try:
        with torch.device("meta"):  # no memory and no drawing of weights that are replaced at once
            module = network(config)  # type: ignore[call-arg]
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:  # sizes from a file
        raise CheckpointError(f"{origin}: there is no network of its sizes ({error})") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = []
    if missing := [name for name in wanted if name not in given]:
        faults.append(f"{len(missing)} keys missing ({_some(missing)})")
    if extra := sorted(name for name in given if name not in wanted):
        faults.append(f"{len(extra)} keys unexpected ({_some(extra)})")
    if shapes := [
        f"{name} is {given[name]}, expected {wanted[name]}"
        for name in wanted
        if name in given and given[name] != wanted[name]
    ]:
        faults.append(f"{len(shapes)} of another shape ({_some(shapes)})")
    if faults:
        raise CheckpointError(
            f"{origin} is not a {network.__name__} of {config.resolution} px, ch {config.ch}, "
            f"{config.n_classes} classes: {'; '.join(faults)}"
        )
    module.load_state_dict(state, assign=True)
    return module.eval()


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
