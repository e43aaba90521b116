"""load(): the user's own class, the plan replayed, the weights bit for bit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gancompress.errors import CheckpointError, ConfigError, GraphError
from gancompress.graph.form.example_record import example_of
from gancompress.graph.form.module import GraphForm
from gancompress.graph.form.to_graph import to_graph
from gancompress.graph.plan import Plan
from gancompress.models.built_with import build_again
from gancompress.modules.copying import inside, require_module
from gancompress.saving.files import COMPLEX, CONFIG, EXTRAS, FORMAT, PLAN, WEIGHTS
from gancompress.saving.loose_tensors import restore_extras
from gancompress.storage import read_folder
from gancompress.surgery.cut import cut
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.weights.reading import tensors_from

_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError)
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Saved:
    """What a folder of `save` holds, read and checked."""

    path: Path
    tensors: dict[str, torch.Tensor]
    extras: dict[str, torch.Tensor]
    buffers: frozenset[str]
    plans: list[tuple[Plan, Shapes | None]]  # from the class; from what an earlier load returned
    graph: Any
    built: Any  # class and arguments of a network of ours
    kind: str


def load(
    build_fn: Callable[[], nn.Module] | str | Path, path: str | Path | None = None
) -> nn.Module:
    """Rebuild a saved module: ``build_fn()``, replay the plan, load the weights bit for bit (ours).

    ``load("folder")`` builds a generator that comes with gancompress by itself: the folder says
    which one, and its sizes; it can name no other code.

    It is in eval mode, whatever it was saved in. Parameters and buffers have the saved dtypes, on
    the device that ``build_fn`` chose. A graph form is exported again from what ``build_fn`` makes.

    Args:
        build_fn: makes the original, uncut module (its class and arguments are yours), or the one
            that an earlier `load` returned and that was cut further.
        path: folder that `save` made.

    Raises:
        CheckpointError: the folder is damaged, of a newer format, does not fit the module, or does
            not say how its network is built.
    """
    if path is None:
        if not isinstance(build_fn, (str, Path)):
            raise CheckpointError("load() needs a folder: load(build_fn, folder), or load(folder)")
        path = build_fn
    elif isinstance(build_fn, (str, Path)):
        raise CheckpointError(
            f"load({str(build_fn)!r}, {str(path)!r}): the first of two arguments is a function "
            "that builds the network at its original size"
        )
    saved = _read(Path(path))
    module = _built_again(saved) if isinstance(build_fn, (str, Path)) else build_fn()
    require_module(module)
    _, module = inside(module)
    if saved.graph is not None:
        module = _graph_again(module, saved.graph, saved.path)
    plan, start = _plan_for(module, saved)
    _add_lazy_buffers(module, saved, start)
    _give_shapes(module, saved, start)
    if plan.tensors:
        try:
            module = cut(module, plan)
        except GraphError as error:
            raise CheckpointError(
                f"{saved.path} does not fit the {type(module).__name__} that was built: {error}"
            ) from error
    _load_strictly(module, saved.tensors, saved.path)
    restore_extras(module, saved.extras)
    return module.eval()


def _read(path: Path) -> _Saved:
    manifest, files = read_folder(path)
    try:
        if manifest["format"] > FORMAT:
            raise CheckpointError(f"{path} has format {manifest['format']}; update gancompress")
        plans: list[tuple[Plan, Shapes | None]] = [(Plan.from_json(files[PLAN].decode()), None)]
        config = json.loads(files[CONFIG])
        kinds = dict(config.get("complex", {}))
        tensors = _unpacked(files[WEIGHTS], path / WEIGHTS, kinds)
        extras = _unpacked(files[EXTRAS], path / EXTRAS, kinds) if EXTRAS in files else {}
        tensors |= {name: tensors[source] for name, source in dict(config["shared"]).items()}
        if starts := config.get("starts"):
            shapes = [{n: tuple(map(int, s)) for n, s in start.items()} for start in starts]
            later = [Plan.from_json(json.dumps(p)) for p in config["later"]]
            every = [plans[0][0], *later]
            plans = [(p, s) for p, s in zip(every, shapes, strict=True)]
        buffers = frozenset(map(str, config.get("buffers", ())))
        built = None if config.get("graph") else config.get("built")
        kind = str(config.get("class", "network"))
        return _Saved(path, tensors, extras, buffers, plans, config.get("graph"), built, kind)
    except (*_DAMAGE, RecursionError) as error:
        raise CheckpointError(f"{path} is not a saved generator: {error!r}") from error


LARGEST = 2**34  # bytes of weights that a folder may ask for: ten times the largest of ours


def _built_again(saved: _Saved) -> nn.Module:
    """Build the network that a folder names, which is one of ours.

    Raises:
        CheckpointError: it names none.
    """
    if not isinstance(saved.built, dict):
        raise CheckpointError(
            f"{saved.path} holds a {saved.kind}, whose code is yours: "
            f"load(build_fn, {str(saved.path)!r}), where build_fn() makes it at its original size"
        )
    try:
        name, arguments = str(saved.built["class"]), dict(saved.built["arguments"])
        with torch.device("meta"), contextlib.suppress(NotImplementedError):
            huge = build_again(name, arguments)
            size = sum(t.numel() * t.element_size() for t in huge.state_dict().values())
            if size > LARGEST:
                raise ValueError(f"its network would have {size:,} bytes of weights")
        return build_again(name, arguments)
    except (ConfigError, *_DAMAGE) as error:
        raise CheckpointError(f"{saved.path} says wrongly how to build it: {error}") from error


def _unpacked(data: bytes, name: Path, kinds: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Return the tensors in ``data``, those of ``kinds`` as the complex numbers that they are."""
    found = tensors_from(data, name)
    for kind in COMPLEX.values():
        for key, other in kinds.items():
            if other == kind and key in found:
                found[key] = torch.view_as_complex(found[key])
    return found


def _plan_for(module: nn.Module, saved: _Saved) -> tuple[Plan, Shapes]:
    """Return the plan that starts from what was built, and the shapes that it starts from.

    Raises:
        CheckpointError: it starts from other shapes.
    """
    have = {n: None if is_lazy(t) else tuple(t.shape) for n, t in raw_tensors(module).items()}
    faults = []
    for plan, shapes in saved.plans:
        if shapes is None:
            return plan, {}
        wrong = [n for n, s in shapes.items() if have.get(n) not in (None, s)]
        absent = [n for n in shapes if n not in have and n not in saved.buffers]
        if not wrong and not absent:
            return plan, shapes
        name = (wrong or absent)[0]
        faults.append(f"{name!r} is {have.get(name)}, it was {shapes[name]} before the cut")
    raise CheckpointError(
        f"{saved.path} does not fit the {type(module).__name__} that was built: {faults[0]}. Build "
        "it with the arguments it was made with"
    )


def _add_lazy_buffers(module: nn.Module, saved: _Saved, start: Shapes) -> None:
    """Register the buffers that the saved module had made in its forward, and a new one has not."""
    known = module.state_dict(keep_vars=True)
    for name in saved.buffers:
        path, _, last = name.rpartition(".")
        if name in known or name not in saved.tensors:
            continue
        try:
            owner = module.get_submodule(path)
        except AttributeError:
            continue
        if owner._buffers.get(last) is None and (
            last in owner._buffers or not hasattr(owner, last)
        ):
            like = saved.tensors[name]
            first = next(iter(module.parameters()), like)
            empty = torch.zeros(start.get(name, like.shape), dtype=like.dtype, device=first.device)
            owner.register_buffer(last, empty)


def _give_shapes(module: nn.Module, saved: _Saved, start: Shapes) -> None:
    """Give lazy parameters the shapes that they had when the cut began."""
    for name, t in raw_tensors(module).items():
        if is_lazy(t) and name in saved.tensors:
            lazy: Any = t
            lazy.materialize(start.get(name, tuple(saved.tensors[name].shape)))
            nn.init.zeros_(lazy)


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
    try:
        with torch.no_grad():
            for name, t in tensors.items():
                # A network saved in half precision comes back in half precision; numbers that share
                # one place in memory get a place each, to be written to.
                data = want[name].data.to(t.dtype)
                want[name].data = data.clone() if 0 in data.stride() and t.numel() else data
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} cannot be loaded into {type(module).__name__}: {error}"
        ) from error
    for name, t in module.state_dict().items():
        if t.dtype == tensors[name].dtype and not _equal(t.cpu(), tensors[name]):
            raise CheckpointError(
                f"{path}: {name!r} is not what the file holds once it is loaded: "
                f"{type(module).__name__} shares it with another tensor, and the saved one did not"
            )


def _equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Return whether two tensors of one dtype are equal bit for bit, NaN included."""
    if one.shape != two.shape:
        return False
    if not one.numel():
        return True
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, two)]
    return torch.equal(bits[0], bits[1])
