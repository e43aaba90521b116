"""Attach gates to a generator's raw weights, and take them off again, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import nn
from torch.nn.utils import parametrize

from gancompress.errors import GraphError
from gancompress.graph.atoms import Slot
from gancompress.graph.groups import ChannelGraph, Group
from gancompress.masks.mask import ChannelMask, Gate, GatePart, OutputGate
from gancompress.masks.own_class import (
    answer_with_users_class,
    asks_for_classes,
    refuse_endless_super,
)

SITES = ("reader", "output")


def attach(
    generator: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, ChannelMask],
    site: str = "reader",
) -> None:
    """Put one gate on each raw tensor that reads (or must silence) a masked group (ours).

    ``site="output"`` multiplies what each writer puts out with the learned mask, as PPCD's figure
    has it; dead channels are still gated at their readers.

    Raises:
        GraphError: a tensor cannot be parametrized, a group has no writer layer to hook, or a
            class calls ``super(type(self), self)``.
    """
    plan: dict[str, list[tuple[Group, int, bool]]] = {}
    for group in graph.groups:
        if group.name not in masks:
            continue
        for slot in (*group.readers, *group.silencers):
            learned = site == "reader" and slot in group.readers
            plan.setdefault(slot[0], []).append((group, slot[1], learned))
    for name in plan:
        refuse_endless_super(_owner(generator, name)[0], name.rpartition(".")[0])
    registered: set[str] = set()
    owners, asked = _owners(generator), asks_for_classes(generator)
    for name, rows in plan.items():
        owner, key = _owner(generator, name)
        parts: list[GatePart] = []
        size = owner._parameters[key].shape  # type: ignore[union-attr]
        for dim in sorted({d for _, d, _ in rows}):
            parts += _parts(rows, dim, size[dim], masks, name)
        new = [g for g, _, _ in rows if g.name not in registered]
        owned = []
        for group in new:
            if group.name not in registered:
                registered.add(group.name)
                owned.append(masks[group.name])
        # A parameter that several modules share is gated in each of them.
        for place, (sharer, name_there) in enumerate(owners[id(owner._parameters[key])]):
            _register(sharer, name_there, Gate(parts, [] if place else owned, detach))
            if asked:
                answer_with_users_class(sharer)
    missing = [n for n in masks if n not in registered]
    if missing:
        raise GraphError(f"groups {missing} have no weight to gate; exclude them")
    if site == "output":
        for group in graph.groups:
            if group.name in masks:
                _hook_outputs(generator, group, masks[group.name])


def _owners(generator: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Return, by id, every place where a parameter is registered."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for sub in generator.modules():
        for key, p in sub._parameters.items():
            if p is not None:
                found.setdefault(id(p), []).append((sub, key))
    return found


def _register(owner: nn.Module, key: str, gate: Gate) -> None:
    gate.to(owner._parameters[key].device)  # type: ignore[union-attr]
    gate.train(owner.training)
    gate.order = next((g.order for g in _gates_of(owner)), list(owner._parameters))
    if parametrize.is_parametrized(owner):
        _own_class(owner)
    parametrize.register_parametrization(owner, key, gate, unsafe=True)


def _gates_of(owner: nn.Module) -> Iterator[Gate]:
    if parametrize.is_parametrized(owner):
        for plist in owner.parametrizations.values():  # type: ignore[union-attr]
            gate = plist[0]  # type: ignore[index]
            if isinstance(gate, Gate):
                yield gate


def _parts(
    rows: list[tuple[Group, int, bool]],
    dim: int,
    size: int,
    masks: Mapping[str, ChannelMask],
    name: str,
) -> Iterator[GatePart]:
    for group, d, learned in rows:
        if d != dim:
            continue
        owner = np.full(size, -1, np.int64)
        index = group.slots[(name, dim)]
        owner[index] = np.arange(group.size)[:, None]
        yield GatePart(masks[group.name], dim, owner, learned)


def _owner(generator: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, key = name.rpartition(".")
    owner = generator.get_submodule(path)
    if key not in owner._parameters:
        raise GraphError(
            f"{name!r} is not a parameter of {type(owner).__name__}: it cannot be gated. Exclude "
            "its layer with exclude=(...)."
        )
    return owner, key


def _hook_outputs(generator: nn.Module, group: Group, mask: ChannelMask) -> None:
    """Register the output gate on every layer that writes the whole group."""
    found = False
    for slot in group.slots:
        layer = writer_layer(generator, slot)
        if layer is None or group.slots[slot].shape[1] != 1:
            continue
        dim = -1 if isinstance(layer, nn.Linear) else 1
        index = group.slots[slot][:, 0]
        if len(index) != _width(layer) or not np.array_equal(index, np.arange(len(index))):
            continue
        hook = OutputGate(mask, dim)
        layer.register_forward_hook(hook.gate_output)
        found = True
    if not found:
        raise GraphError(
            f'site="output": no convolution or linear writes exactly group {group.name!r}; exclude '
            'it or use site="reader"'
        )


def _width(layer: nn.Module) -> int:
    return int(getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0))


def writer_layer(generator: nn.Module, slot: Slot) -> nn.Module | None:
    """Return the convolution or linear whose output dimension this slot is, or None."""
    path = slot[0].split(".parametrizations")[0]
    if ".parametrizations" not in slot[0]:
        path = slot[0].rpartition(".")[0]
    layer = generator.get_submodule(path)
    width = _width(layer)
    if not width or "weight" not in slot[0]:
        return None
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return layer if slot[1] == (1 if transposed else 0) else None


def find_masks(generator: nn.Module) -> dict[str, ChannelMask]:
    """Return the masks inside a wrapped generator (or a copy of one), by group name."""
    return {m.name: m for m in generator.modules() if isinstance(m, ChannelMask)}


def detach(generator: nn.Module) -> None:
    """Remove all gates and hooks of ours; raw tensors, their order and classes are as before.

    Raises:
        GraphError: a parametrization was added over one of our gates; nothing has changed then.
    """
    found = []
    for path, sub in generator.named_modules():
        if parametrize.is_parametrized(sub):
            lists: dict[str, nn.Module] = dict(sub.parametrizations.items())  # type: ignore[union-attr]
            ours = [k for k, p in lists.items() if isinstance(p[0], Gate)]  # type: ignore[index]
            over = [k for k in ours if len(lists[k]) > 1]  # type: ignore[arg-type]
            if over:
                raise GraphError(
                    f"{path}.{over[0]} got another parametrization after wrap(): remove that one "
                    "first, and apply it before wrap() next time"
                )
            if ours:
                found.append((sub, ours))
    for sub, ours in found:
        _take_off(sub, ours)
    for sub in generator.modules():
        for handle_id, hook in list(sub._forward_hooks.items()):
            if isinstance(getattr(hook, "__self__", None), OutputGate):
                del sub._forward_hooks[handle_id]


def _take_off(sub: nn.Module, keys: list[str]) -> None:
    """Remove our parametrizations from one module.

    Not `remove_parametrizations`: that deletes the property from a class which every deep copy of
    the module shares, and so breaks the copies.
    """
    lists = sub.parametrizations
    originals = {k: lists[k].original for k in keys}  # type: ignore[index]
    order = lists[keys[0]][0].order  # type: ignore[index]
    for key in keys:
        del lists[key]  # type: ignore[union-attr]
    cls = type(sub)
    if len(lists) == 0:  # type: ignore[arg-type]
        del sub._modules["parametrizations"]
        sub.__class__ = cls.__bases__[0]
    else:
        _own_class(sub, without=keys)
    for key, tensor in originals.items():
        sub.register_parameter(key, tensor)
    # State-dict order is part of "as before".
    for name in [n for n in order if n in sub._parameters]:
        sub._parameters[name] = sub._parameters.pop(name)


def _own_class(sub: nn.Module, without: Sequence[str] = ()) -> None:
    """Give a parametrized module a dynamic class that no copy of it shares."""
    cls = type(sub)
    skip = {"__dict__", "__weakref__", *without}
    sub.__class__ = type(  # type: ignore[assignment]
        cls.__name__, cls.__bases__, {
        k: v for k, v in vars(cls).items() if k not in skip
    })  # fmt: skip
