"""A structural copy of a generator with fake (or cloned) tensors: tracing never touches it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.modules.nested import tensors_of


def named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each distinct parameter and buffer of ``module`` once, under its first name."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def all_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield every tensor that a module holds, registered or a plain attribute."""
    for sub in module.modules():
        for store in (sub._parameters, sub._buffers, vars(sub)):
            for value in store.values():
                yield from tensors_of(value)


def copy_with(module: nn.Module, replace: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """Deep-copy ``module``, with each tensor it holds replaced by ``replace(tensor)``.

    Nothing is allocated for the originals, and non-leaf tensors (the derived ``weight`` that the
    old spectral norm leaves behind) do not stop the copy.

    Raises:
        GraphError: the module holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    keep = []
    for tensor in all_tensors(module):
        if id(tensor) not in memo:
            memo[id(tensor)] = replace(tensor)
            keep.append(tensor)
    try:
        return duplicate(module, memo)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise GraphError(
            f"{type(module).__name__} cannot be copied ({error}). Tracing works on a copy: make "
            "the module's attributes deep-copyable, or give it a __deepcopy__."
        ) from error


def duplicate(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Deep-copy ``module``, with the configs that `copy.deepcopy` would empty or fail on (ours).

    Vocoders keep theirs in a dict that is its own ``__dict__``, or looks attributes up as keys.
    """
    memo = {} if memo is None else memo
    for sub in module.modules():
        for value in vars(sub).values():
            _copy_open_dict(value, memo)
    return copy.deepcopy(module, memo)


def _copy_open_dict(value: Any, memo: dict[int, Any]) -> None:
    """Copy a dict with attributes for keys into ``memo``; leave anything else alone."""
    if not isinstance(value, dict) or type(value) is dict or id(value) in memo:
        return
    own = getattr(value, "__dict__", None) is value
    try:
        getattr(value, "__deepcopy__", None)
    except KeyError:
        pass
    else:
        if not own:
            return
    new = type(value).__new__(type(value))
    memo[id(value)] = new
    for key, item in value.items():
        _copy_open_dict(item, memo)
        dict.__setitem__(new, key, copy.deepcopy(item, memo))
    if own:
        new.__dict__ = new
    elif type(value).__dictoffset__:
        vars(new).update(copy.deepcopy(vars(value), memo))


_SHELLS = {
    "OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module",
}  # fmt: skip


def inside(module: nn.Module) -> tuple[list[str], nn.Module]:
    """Return the shells around ``module`` (data parallel, compiled), and what is inside of them."""
    shells: list[str] = []
    while (kind := type(module).__name__) in _SHELLS:
        inner = getattr(module, _SHELLS[kind], None)
        if not isinstance(inner, nn.Module):
            break
        shells.append(kind)
        module = inner
    return shells, module


def require_module(given: object) -> None:
    """Refuse what is no module, saying how to get the one that is meant.

    Raises:
        GraphError: a class, a state dict, a handle, a function ... was given.
    """
    if isinstance(given, nn.Module):
        return
    kind = type(given).__name__
    if isinstance(given, type):
        advice = f"make one first: {given.__name__}(...)"
    elif isinstance(given, Mapping):
        advice = "weights alone have no forward: build the generator and load them into it"
    elif isinstance(getattr(given, "generator", None), nn.Module):
        advice = "use its .generator"
    elif callable(given):
        advice = "put what it calls into a module with a forward"
    else:
        advice = "build the generator first"
    name = given.__name__ if isinstance(given, type) else f"a {kind}"
    raise GraphError(f"expected a torch.nn.Module, not {name}: {advice}")


def shell_around(module: nn.Module) -> str:
    """Return the attribute under which a module that only compiles or distributes holds another.

    Empty for any other module.
    """
    return next((_SHELLS[k.__name__] for k in type(module).__mro__ if k.__name__ in _SHELLS), "")


def refuse_shells(generator: nn.Module) -> None:
    """Refuse what is no module, and modules that only wrap the one with the channels."""
    require_module(generator)
    if isinstance(generator, torch.jit.ScriptModule):
        raise GraphError(
            "the generator is TorchScript, which has no Python to follow: pass the module that it "
            "was made from, and script it again afterwards"
        )
    kind = type(generator).__name__
    if inside := shell_around(generator):
        raise GraphError(
            f"the generator is inside a {kind}: pass generator.{inside}, and compile or "
            "distribute it again afterwards"
        )
    if any(getattr(m, "is_gancompress_gate", False) for m in generator.modules()):
        raise GraphError(f"{kind} is wrapped: use its handle's graph, or unwrap() it first")
