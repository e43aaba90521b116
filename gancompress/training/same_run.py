"""Do all ranks make the same run? Asked before step 0: code, recipe, networks and data."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.errors import ConfigError
from gancompress.modules.ranks import all_bytes, rank, world
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Draw, Task
from gancompress.training.distributed import heard

_SAMPLES = 16
_FIXES = {
    "gancompress": "install the same version everywhere",
    "torch": "install the same version everywhere",
    "device": "let all ranks compute on devices of one kind",
    "recipe": "start all ranks with the same words",
    "code of the networks": "copy the same source to all machines",
    "weights": "seed what the builder draws, or read the weights from a file",
    "data": "give all ranks the same files",
}


def check_same_run(
    recipe: Recipe,
    task: Task,
    networks: Mapping[str, nn.Module | None],
    device: torch.device,
    asked: Mapping[str, Any],
) -> None:
    """Compare this rank with the others; alone nothing is looked at.

    Args:
        recipe: as resolved.
        task: its first samples are drawn and compared.
        networks: as they were given, by name.
        device: where this rank computes; only its kind is compared.
        asked: whatever else decides the run, ready for JSON.

    Raises:
        ConfigError: which rank differs, in what, and what to do; on every rank.
    """
    if world() == 1:
        return
    mine = {
        "gancompress": _own_code(),
        "torch": f"{torch.__version__} python {sys.version_info[0]}.{sys.version_info[1]}",
        "device": device.type,
        "recipe": recipe.model_dump_json() + json.dumps(dict(asked), sort_keys=True, default=str),
        "code of the networks": _code(networks),
        "weights": _weights(networks),
        "data": _data(task, recipe.seed),
    }
    sent = {k: hashlib.sha256(v.encode()).hexdigest() for k, v in mine.items()}
    found = [json.loads(text) for text in all_bytes(json.dumps(sent).encode(), "what they run")]
    for name, fix in _FIXES.items():
        others = [str(i) for i, other in enumerate(found) if other[name] != found[0][name]]
        if others:
            word = "rank" if len(others) == 1 else "ranks"
            own = f" (rank {rank()}: {mine[name]})" if name in ("torch", "device") else ""
            raise heard(
                ConfigError(
                    f"{word} {', '.join(others[:8])}: {name} not that of rank 0{own}. All ranks of "
                    f"a run must be alike: {fix}"
                )
            )


@lru_cache(maxsize=1)
def _own_code() -> str:
    root = Path(__file__).resolve().parent.parent
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        found.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return found.hexdigest()


def _code(networks: Mapping[str, nn.Module | None]) -> str:
    kinds = {type(part) for net in networks.values() if net is not None for part in net.modules()}
    files: set[str] = set()
    for kind in kinds:
        try:
            file = inspect.getsourcefile(kind)
        except TypeError:  # typed into a session: there is no file
            continue
        if file is not None and kind.__module__.partition(".")[0] not in ("torch", "gancompress"):
            files.add(file)
    hashes = sorted(
        hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files if Path(f).is_file()
    )
    names = sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return json.dumps([names, hashes])


def _weights(networks: Mapping[str, nn.Module | None]) -> str:
    found = hashlib.sha256()
    for name, net in networks.items():
        found.update(name.encode())
        for key, tensor in net.state_dict().items() if net is not None else ():
            if isinstance(tensor, Tensor):
                found.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
                found.update(_bytes(tensor))
    return found.hexdigest()


def _data(task: Task, seed: int) -> str:
    """Return a hash of the first samples that the task draws, and of how many there are."""
    found = hashlib.sha256()
    data = getattr(task, "dataset", None) or getattr(task, "data", None)
    if data is not None and hasattr(data, "__len__"):
        found.update(str(len(data)).encode())
    draw = Draw(_SAMPLES, 0, stream(seed, "same run"))
    batch = task.batch(draw)
    tensors = [*batch.inputs, *batch.kwargs.values(), batch.labels, batch.wanted, batch.condition]
    if task.has_real:
        real = task.real(draw)
        tensors += [real.output, real.labels, real.condition]
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            found.update(str(tuple(tensor.shape)).encode() + _bytes(tensor))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    whole = tensor.detach().cpu().contiguous().reshape(-1)
    return whole.view(torch.uint8).numpy().tobytes()
