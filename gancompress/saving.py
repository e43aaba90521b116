"""save() and load(): weights and plan in a folder, rebuilt on the user's own class, no pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from gancompress.errors import CheckpointError, GraphError
from gancompress.graph.form.example_record import example_of
from gancompress.graph.form.module import GraphForm
from gancompress.graph.form.to_graph import to_graph
from gancompress.graph.plan import Plan
from gancompress.modules.copying import require_module
from gancompress.storage import read_folder, write_folder
from gancompress.surgery.cut import cut

FORMAT = 1


def save(
    path: str | Path,
    module: nn.Module,
    *,
    plan: Plan | None = None,
    info: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Path:
    """Save a (pruned) module as ``config.json``, ``plan.json``, ``model.safetensors`` and hashes.

    Args:
        path: folder to make.
        module: plain module, as `Masked.prune` or `cut` returned it.
        plan: the cut that made it from its class (`Masked.history` composed with the last plan);
            None when nothing was cut.
        info: JSON-ready facts to keep beside it.
        replace: overwrite an existing folder.

    Raises:
        CheckpointError: the module is still wrapped, its tensors do not match the plan, or it or
            ``info`` holds something that neither safetensors nor JSON can.
        StorageError: the folder exists, or the disk is full or not writable.
    """
    require_module(module)
    if any(getattr(m, "is_gancompress_gate", False) for m in module.modules()):
        raise CheckpointError("the module is still wrapped: save what Masked.prune() returns")
    tensors, shared = _unshared(module)
    check_widths(module, plan)
    config = {
        "format": FORMAT,
        "class": type(module).__name__,
        "parameters": sum(p.numel() for p in module.parameters()),
        "shared": shared,
        "info": dict(info or {}),
    }
    if isinstance(module, GraphForm):
        if module.record is None:
            raise CheckpointError(
                "a graph form is saved only when its inputs are tensors, numbers, texts, None, and "
                "lists, tuples and dicts of them: save its state_dict() instead"
            )
        config["graph"] = module.record
    try:
        facts = json.dumps(config, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"info={info!r} is not JSON-ready: {error}") from error
    files = {
        "model.safetensors": safetensors.torch.save(tensors),
        "config.json": facts,
        "plan.json": (plan or Plan({})).to_json().encode(),
    }
    path = Path(path)
    write_folder(path, files, {"format": FORMAT}, replace=replace)
    return path


def check_widths(module: nn.Module, plan: Plan | None) -> None:
    """Refuse a plan that does not lead to this module's shapes.

    Raises:
        CheckpointError: a tensor is absent or of another size.
    """
    if plan is not None and plan.relative:
        raise CheckpointError(
            "the plan is relative to a network that shrink() had cut already, and load() starts "
            "from the uncut one: pass plan=masked.whole_plan()"
        )
    have = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, row in (plan.tensors if plan is not None else {}).items():
        shape = tuple(have[name].shape) if name in have else None
        if shape is None or any(
            k is not None and len(k) != n for k, n in zip(row, shape, strict=False)
        ):
            raise CheckpointError(
                f"the plan does not fit the module: {name!r} is {shape}, the plan keeps "
                f"{[None if k is None else len(k) for k in row]}. Pass the plan of the whole cut"
            )


def load(build_fn: Callable[[], nn.Module], path: str | Path) -> nn.Module:
    """Rebuild a saved module: ``build_fn()``, replay the plan, load the weights bit for bit (ours).

    Parameters and buffers have the saved dtypes, on the device that ``build_fn`` chose. A graph
    form is exported again from what ``build_fn`` makes.

    Args:
        build_fn: makes the original, uncut module (its class and arguments are yours).
        path: folder that `save` made.

    Raises:
        CheckpointError: the folder is damaged, of a newer format, or does not fit the module.
    """
    path = Path(path)
    manifest, files = read_folder(path)
    try:
        if manifest["format"] > FORMAT:
            raise CheckpointError(f"{path} has format {manifest['format']}; update gancompress")
        plan = Plan.from_json(files["plan.json"].decode())
        config = json.loads(files["config.json"])
        shared, record = dict(config["shared"]), config.get("graph")
        tensors = safetensors.torch.load(files["model.safetensors"])
        tensors |= {name: tensors[source] for name, source in shared.items()}
    except (*_DAMAGE, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a saved generator: {error!r}") from error
    module = build_fn()
    if record is not None:
        module = _graph_again(module, record, path)
    if plan.tensors:
        try:
            module = cut(module, plan)
        except GraphError as error:
            raise CheckpointError(
                f"{path} does not fit the {type(module).__name__} that was built: {error}"
            ) from error
    _load_strictly(module, tensors, path)
    return module


def _graph_again(module: nn.Module, record: Any, path: Path) -> GraphForm:
    """Make the graph form of a freshly built module, and check that it is the one saved."""
    if not isinstance(record, dict) or not {"args", "kwargs", "graph"} <= set(record):
        raise CheckpointError(f"{path}: the record of its graph form is damaged")
    first = next(iter(module.parameters()), torch.empty(0))
    args, kwargs = (example_of(record[k], first.device) for k in ("args", "kwargs"))
    try:
        form = to_graph(module, args, kwargs, check=False)
    except GraphError as error:
        raise CheckpointError(f"{path}: no graph form of what was built: {error}") from error
    if (form.record or {}).get("graph") != record["graph"]:
        raise CheckpointError(
            f"{path} was saved with the graph that torch {record.get('torch')} exports; torch "
            f"{torch.__version__} makes another one of the {type(module).__name__} that was built. "
            "Build it with the arguments it was made with, or use that version of torch"
        )
    return form


_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError)


def _load_strictly(module: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    want = module.state_dict(keep_vars=True)
    missing = sorted(set(want) - set(tensors))
    extra = sorted(set(tensors) - set(want))
    if missing or extra:
        raise CheckpointError(
            f"{path} was made from another class than {type(module).__name__}: missing "
            f"{missing[:3]}, unexpected {extra[:3]}"
        )
    # In the module's own order: that of a safetensors file read from bytes changes from run to run,
    # and the first layer that differs is the one to name.
    tensors = {name: tensors[name] for name in want}
    for name, t in tensors.items():
        if t.shape != want[name].shape:
            raise CheckpointError(
                f"{path}: {name!r} is {tuple(t.shape)} in the file and {tuple(want[name].shape)} "
                f"in {type(module).__name__}: build it with the arguments it was made with"
            )
        if (t.dtype.is_floating_point, t.dtype.is_complex) != (
            want[name].dtype.is_floating_point,
            want[name].dtype.is_complex,
        ):
            raise CheckpointError(
                f"{path}: {name!r} is {t.dtype} in the file and {want[name].dtype} in "
                f"{type(module).__name__}"
            )
    with torch.no_grad():
        for name, t in tensors.items():
            # A network saved in half precision comes back in half precision.
            want[name].data = want[name].data.to(t.dtype)
    module.load_state_dict(tensors)


def _unshared(module: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return contiguous tensors, and the names that share another name's tensor."""
    seen: dict[int, str] = {}
    tensors, shared = {}, {}
    for name, t in module.state_dict(keep_vars=True).items():
        if not isinstance(t, torch.Tensor):
            raise CheckpointError(
                f"state {name!r} is of type {type(t).__name__}: only tensors are saved, no pickles"
            )
        if id(t) in seen:
            shared[name] = seen[id(t)]
            continue
        seen[id(t)] = name
        tensors[name] = t.detach().cpu().contiguous().clone()
    return tensors, shared
