"""How drawn inputs reach ``forward``: by place, by name, or packed in a dictionary or list."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gancompress.errors import ConfigError


def in_order(names: Sequence[str], generator: nn.Module) -> list[int]:
    """Return the order in which inputs called ``names`` go into ``generator(*inputs)`` (ours).

    Names that are all those of arguments of ``forward`` decide, keyword-only ones included;
    ``batch.image`` is the entry ``image`` of the argument ``batch``, ``xs.0`` the first item of
    ``xs``. Where order alone is not enough, a hook of ``generator`` hands them over.

    Raises:
        ConfigError: some names are arguments of ``forward`` in another place and some are not, a
            name is given twice, or there are more inputs than arguments.
    """
    slots = [
        p
        for p in inspect.signature(generator.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    order = [p.name for p in slots]
    roots = [name.partition(".")[0] for name in names]
    known = [name for name in roots if name in order]
    if len(set(names)) < len(names):
        raise ConfigError(f"inputs {', '.join(names)}: a name is given twice")
    if len(known) == len(names):
        places = sorted(range(len(names)), key=lambda i: order.index(roots[i]))
        bind_names(generator, [names[i] for i in places])
        return places
    call = f"{type(generator).__name__}.forward({', '.join(order)})"
    wrong = [name for i, name in enumerate(roots) if name in order and order.index(name) != i]
    if wrong:
        other = next(name for name in roots if name not in order)
        raise ConfigError(
            f"input {wrong[0]!r} is argument {order.index(wrong[0]) + 1} of {call} and typed as "
            f"number {roots.index(wrong[0]) + 1}, and there is no argument {other!r}. Use its names"
        )
    inner = next((name for name in names if "." in name), None)
    if inner is not None:
        raise ConfigError(f"input {inner!r}: {call} has no argument {inner.partition('.')[0]!r}")
    several = any(
        p.kind is p.VAR_POSITIONAL for p in inspect.signature(generator.forward).parameters.values()
    )
    if len(names) > len(order) and order and not several:
        raise ConfigError(
            f"{len(names)} inputs ({', '.join(names)}) for {call}. If it takes a dictionary or a "
            f"list, name its entries: --input '{order[0]}.{names[0]}=...', or --input "
            f"'{order[0]}.0=...'"
        )
    return list(range(len(names)))


class NamedInputs:
    """A forward pre-hook that hands positional tensors over by name, or packed (ours).

    A generator whose inputs are keyword-only, leave out an optional argument between two, or come
    in a dictionary or list is then called like any other: ``generator(*inputs)``.
    """

    def __init__(self, names: Sequence[str], positional: int) -> None:
        self.names, self.positional = tuple(names), positional

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments as ``forward`` takes them; another call is left as it is."""
        if len(args) != len(self.names) or kwargs or not all(isinstance(x, Tensor) for x in args):
            return args, kwargs
        packed = pack(self.names, args)
        given = list(packed.values())
        return tuple(given[: self.positional]), dict(list(packed.items())[self.positional :])


def pack(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return arguments by name: ``a.b`` is entry ``b`` of the dictionary ``a``, ``a.0`` of a list.

    Raises:
        ConfigError: an argument is given as a whole and in parts, or items of a list are missing.
    """
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        *path, last = name.split(".")
        here = found
        for key in path:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise ConfigError(f"input {name!r}: {key!r} is given as a whole, too")
        if last in here:
            raise ConfigError(f"input {name!r} is given as a whole and in parts")
        here[last] = value
    return {name: _listed(value, name) for name, value in found.items()}


def _listed(value: Any, name: str) -> Any:
    """Return ``value`` with dictionaries that are numbered from 0 made lists."""
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(part, f"{name}.{key}") for key, part in value.items()}
    if not all(key.isdecimal() for key in inner):
        return inner
    missing = next((str(i) for i in range(len(inner)) if str(i) not in inner), None)
    if missing is not None:
        raise ConfigError(f"inputs {', '.join(f'{name}.{k}' for k in inner)}: no {name}.{missing}")
    return [inner[str(i)] for i in range(len(inner))]


def bind_names(generator: nn.Module, names: Sequence[str]) -> None:
    """Let ``generator(*inputs)`` hand its arguments over as ``names``, where order is not enough.

    Nothing is changed when these are its first positional arguments.

    Raises:
        ConfigError: parts of an argument do not fit together.
    """
    slots = inspect.signature(generator.forward).parameters.values()
    plain = [p.name for p in slots if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    roots = list(pack(names, names))
    straight = 0
    while straight < len(roots) and plain[straight : straight + 1] == [roots[straight]]:
        straight += 1
    if roots != list(names) or straight < len(roots):
        generator.register_forward_pre_hook(NamedInputs(names, straight), with_kwargs=True)
