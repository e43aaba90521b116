"""save(): what is written is read back first, and a plan that is not the module's is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gancompress.errors import CheckpointError
from gancompress.graph.form.module import GraphForm
from gancompress.graph.plan import Plan
from gancompress.models.built_with import built_with
from gancompress.modules.copying import inside, require_module
from gancompress.saving.files import COMPLEX, CONFIG, EXTRAS, FORMAT, PLAN, WEIGHTS
from gancompress.saving.loose_tensors import extras_of
from gancompress.storage import write_folder
from gancompress.surgery.cut_record import CutRecord, record_of, same_cut
from gancompress.weights.reading import tensors_from


def save(
    path: str | Path,
    module: nn.Module,
    *,
    plan: Plan | None = None,
    info: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Path:
    """Save a (pruned) module as ``config.json``, ``plan.json``, ``model.safetensors`` and hashes.

    What `Masked.prune`, `Masked.shrink`, `cut` and `load` return knows how it was cut, so ``plan``
    may be left out. Buffers and tensors that a state dict does not hold go to
    ``extras.safetensors``, where there are any.

    Args:
        path: folder to make.
        module: plain module, as `Masked.prune` or `cut` returned it; taken out of data parallel and
            `torch.compile`.
        plan: the cut that made it from its class (`Masked.whole_plan`); needed only where the
            module does not know it.
        info: JSON-ready facts to keep beside it.
        replace: overwrite a folder that this function made.

    Raises:
        CheckpointError: the module is still wrapped, the plan is not the one that it was cut by, or
            it or ``info`` holds something that neither safetensors nor JSON can.
        StorageError: the folder exists, or the disk is full or not writable.
    """
    require_module(module)
    _, module = inside(module)
    if any(getattr(m, "is_gancompress_gate", False) for m in module.modules()):
        raise CheckpointError("the module is still wrapped: save what Masked.prune() returns")
    for name, t in (*module.named_parameters(), *module.named_buffers()):
        _require_values(name, t)
    record = record_of(module)
    plan = plan if record is None else _checked_plan(module, plan, record)
    check_widths(module, plan)
    tensors, shared = _unshared(module)
    config: dict[str, Any] = {
        "format": 1,
        "class": type(module).__name__,
        "parameters": sum(p.numel() for p in module.parameters()),
        "shared": shared,
        "buffers": [n for n, _ in module.named_buffers() if n in tensors],
        "info": dict(info or {}),
    }
    if (built := built_with(module)) is not None:
        config["built"] = {"class": built.name, "arguments": built.arguments}
    if record is not None:
        stages = range(len(record.stages))
        config["starts"] = [{n: list(s) for n, s in record.shapes_at(k).items()} for k in stages]
        config["later"] = [json.loads(record.plan_from(k).to_json()) for k in stages if k]
    if isinstance(module, GraphForm):
        if module.record is None:
            raise CheckpointError(
                "a graph form is saved only when its inputs are tensors, numbers, texts, None, and "
                "lists, tuples and dicts of them: save its state_dict() instead"
            )
        config["graph"] = module.record
    files = {WEIGHTS: _packed(tensors, config)}
    if extras := dict(extras_of(module)):
        files[EXTRAS] = _packed({n: _owned(n, t) for n, t in extras.items()}, config)
    try:
        files[CONFIG] = json.dumps(config, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"info={str(info)[:200]} is not JSON-ready: {error}") from error
    files[PLAN] = (plan or Plan({})).to_json().encode()
    Plan.from_json(files[PLAN].decode())
    path = Path(path)
    write_folder(path, files, {"format": config["format"]}, replace=replace)
    return path


def _checked_plan(module: nn.Module, plan: Plan | None, record: CutRecord) -> Plan:
    """Return the whole cut of ``module``; a ``plan`` must be it, or its part since a `load`.

    Raises:
        CheckpointError: it is another cut.
    """
    whole = record.plan_from(0)
    if plan is None or not plan.tensors:
        return whole
    parts = [record.plan_from(k) for k in range(len(record.stages))]
    faults = [same_cut(plan, part) for part in parts]
    if all(faults):
        raise CheckpointError(
            f"the plan does not fit the module: {type(module).__name__} was cut by another one, "
            f"which differs at {faults[0]!r}. Pass the plan of the whole cut, or leave plan out: "
            "the module knows it"
        )
    # Group names of the whole cut, where the caller has them.
    return plan if not faults[0] else whole


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
    have = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    for name, row in (plan.tensors if plan is not None else {}).items():
        shape = tuple(have[name].shape) if name in have else None
        if (
            shape is None
            or len(row) != len(shape)
            or any(k is not None and len(k) != n for k, n in zip(row, shape, strict=True))
        ):
            raise CheckpointError(
                f"the plan does not fit the module: {name!r} is {shape}, the plan keeps "
                f"{[None if k is None else len(k) for k in row]}. Pass the plan of the whole cut"
            )


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
        tensors[name] = _owned(name, t)
    return tensors, shared


def _owned(name: str, t: torch.Tensor) -> torch.Tensor:
    """Return a plain copy of ``t``, contiguous, on the CPU.

    Raises:
        CheckpointError: it has no numbers yet, or is no plain tensor.
    """
    if t.layout != torch.strided or t.is_quantized:
        raise CheckpointError(
            f"{name!r} is no plain tensor ({t.layout}, {t.dtype}): save it as an ordinary one"
        )
    try:
        plain = t.detach().cpu().resolve_conj().resolve_neg()
        return plain.clone(memory_format=torch.contiguous_format)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise CheckpointError(f"{name!r} ({type(t).__name__}) cannot be saved: {error}") from error


def _require_values(name: str, t: torch.Tensor) -> None:
    if is_lazy(t):
        raise CheckpointError(
            f"{name!r} has no shape yet (a lazy module): run the module once before it is saved"
        )
    if t.is_meta:
        raise CheckpointError(f"{name!r} is on the meta device: it has no values to save")


def _packed(tensors: Mapping[str, torch.Tensor], config: dict[str, Any]) -> bytes:
    """Return ``tensors`` as safetensors, read back and compared; ``config`` notes their types.

    Raises:
        CheckpointError: safetensors cannot hold one of them, or its name.
    """
    ready = {}
    for name, t in tensors.items():
        if t.dtype in COMPLEX:
            config.setdefault("complex", {})[name] = COMPLEX[t.dtype]
            config["format"] = FORMAT
            t = torch.view_as_real(t).contiguous()
        ready[name] = t
    try:
        data = safetensors.torch.save(ready)
        again = tensors_from(data, WEIGHTS)
        bad = [
            n for n, t in ready.items()
            if n not in again or again[n].shape != t.shape or again[n].dtype != t.dtype
            or not torch.equal(_bits(again[n]), _bits(t))
        ]  # fmt: skip
    except Exception as error:  # KeyError of a type, a name that the format keeps for itself ...
        kinds = sorted({str(t.dtype) for t in ready.values()})
        raise CheckpointError(
            f"safetensors cannot hold this module ({error!s:.160}): its tensors are of {kinds}. "
            f"{_odd_one(ready)}"
        ) from error
    if bad:
        raise CheckpointError(f"{bad[0]!r} does not come back from a file as it is: nothing saved")
    return data


def _odd_one(tensors: Mapping[str, torch.Tensor]) -> str:
    """Name the tensor that cannot be stored on its own."""
    for name, t in tensors.items():
        try:
            safetensors.torch.load(safetensors.torch.save({name: t}))
        except Exception:
            return f"At fault: {name!r} of type {t.dtype}. Rename or convert it"
    return "Convert them to ordinary types"


def _bits(t: torch.Tensor) -> torch.Tensor:
    return t.reshape(-1).view(torch.uint8) if t.numel() else t.reshape(-1)
