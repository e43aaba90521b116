"""A structural copy of a generator with fake (or cloned) tensors: tracing never touches it."""

from __future__ import annotations

import collections
import contextlib
import copy
import copyreg
import io
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.modules.nested import tensors_of
from gancompress.modules.user_line import is_machinery


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


def _in_objects(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors behind objects that a module keeps: what a helper of its caches."""
    todo = [value for sub in module.modules() for value in vars(sub).values()]
    seen: dict[int, Any] = {}
    while todo:
        item = todo.pop()
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, nn.Module | type) or id(item) in seen:
            continue
        elif isinstance(item, dict):
            todo += dict.values(item)
        elif isinstance(item, list | tuple | set | collections.deque):
            todo += item
        elif not is_machinery(type(item)):
            todo += (getattr(item, "__dict__", None) or {}).values()
        seen[id(item)] = item  # with the object, so that an id stays its own


def copy_with(module: nn.Module, replace: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """Deep-copy ``module``, with each tensor it holds replaced by ``replace(tensor)``.

    Nothing is allocated for the originals, and non-leaf tensors (the derived ``weight`` that the
    old spectral norm leaves behind) do not stop the copy.

    Raises:
        GraphError: the module holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    keep = []
    for tensor in (*all_tensors(module), *_in_objects(module)):
        if id(tensor) not in memo:
            memo[id(tensor)] = replace(tensor)
            keep.append(tensor)
    try:
        return _grafted(module, duplicate(module, memo), memo)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise GraphError(
            f"{type(module).__name__} cannot be copied ({error}). Tracing works on a copy: make "
            "the module's attributes deep-copyable, or give it a __deepcopy__."
        ) from error


def _grafted(module: nn.Module, made: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Put the replaced tensors into a copy that a ``__deepcopy__`` of the user's made its own way.

    Raises:
        GraphError: it has other parts than the original.
    """
    parts = dict(made.named_modules())
    if len(parts) < sum(1 for _ in module.named_modules()):
        raise GraphError(
            f"the copy of {type(module).__name__} has fewer parts than the original: its "
            "__deepcopy__ makes another network. Tracing works on a copy that has the same parts"
        )
    for path, sub in module.named_modules():
        # What TorchScript holds is not ours to put anywhere.
        plain = type(sub) is type(parts.get(path)) and not isinstance(sub, torch.jit.ScriptModule)
        for kind in ("_parameters", "_buffers") if plain else ():
            for key, tensor in getattr(sub, kind).items():
                store = getattr(parts[path], kind)
                if id(tensor) not in memo or store.get(key) is memo[id(tensor)]:
                    continue
                store[key] = memo[id(tensor)]
    return made


def duplicate(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Deep-copy ``module``, with the configs that `copy.deepcopy` would empty or fail on (ours).

    Vocoders keep theirs in a dict that is its own ``__dict__``, or looks attributes up as keys.
    Locks, open files and Python modules, which nothing copies, are shared with the copy.
    """
    known = {} if memo is None else memo
    try:
        return _deep_copy(module, dict(known))
    except TypeError:
        with _sharing_handles():
            return _deep_copy(module, dict(known))


def _deep_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    for sub in module.modules():
        for value in vars(sub).values():
            _copy_open_dict(value, memo)
    return copy.deepcopy(module, memo)


_HANDLES = (types.ModuleType, type(threading.Lock()), type(threading.RLock()), threading.local,
            io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom,
            io.FileIO)  # fmt: skip
"""Kinds of objects that Python does not copy, and that two networks may share."""


@contextlib.contextmanager
def _sharing_handles() -> Iterator[None]:
    """Let copies hold the very same locks, open files and modules as the original."""
    own = copyreg.dispatch_table
    before = {kind: own[kind] for kind in _HANDLES if kind in own}
    # To `copy`, a reducer that returns a text says that the object is its own copy.
    own.update(dict.fromkeys(_HANDLES, lambda handle: type(handle).__name__))
    try:
        yield
    finally:
        for kind in _HANDLES:
            del own[kind]
        own.update(before)


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
    tensors = (*generator.named_parameters(), *generator.named_buffers())
    if lazy := next((n for n, t in tensors if nn.parameter.is_lazy(t)), None):
        raise GraphError(
            f"{lazy!r} of {kind} has no shape yet (a lazy module): call the generator once, so "
            "that its layers have sizes, before it is wrapped or traced"
        )
    if inside := shell_around(generator):
        raise GraphError(
            f"the generator is inside a {kind}: pass generator.{inside}, and compile or "
            "distribute it again afterwards"
        )
    if any(getattr(m, "is_gancompress_gate", False) for m in generator.modules()):
        raise GraphError(f"{kind} is wrapped: use its handle's graph, or unwrap() it first")
