"""Calls with a keyword that torch.fx uses itself while it traces: ``conv(x, mod=style)``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

# torch.fx hands every call of a module through a function of its own, whose first argument this is.
_CLASH = "mod"
_RENAMED = "_keyword_mod"


def renamed(kwargs: Mapping[str, Any], back: bool = False) -> dict[str, Any]:
    """Return keyword arguments with the keyword that clashes renamed, or named back."""
    old, new = (_RENAMED, _CLASH) if back else (_CLASH, _RENAMED)
    return {new if key == old else key: value for key, value in kwargs.items()}


def rename_keyword(module: nn.Module) -> None:
    """Let a module take the keyword under another name, if it takes it at all (ours).

    Its calls may use either name; its forward gets its own.
    """
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return
    parameters = list(signature.parameters.values())
    if any(p.name == _CLASH or p.kind is p.VAR_KEYWORD for p in parameters):
        module.__class__ = _renaming(type(module))


def restore_keyword(graph: fx.Graph) -> None:
    """Give the input of an exported graph the name that the forward has for it."""
    info = getattr(graph._codegen, "pytree_info", None)
    if info is None or _RENAMED not in str(info.in_spec):
        return
    args, kwargs = info.in_spec.unflatten([object()] * info.in_spec.num_leaves)
    spec = pytree.tree_structure((args, renamed(kwargs, back=True)))
    names = [_CLASH if name == _RENAMED else name for name in info.orig_args]
    graph._codegen.pytree_info = info._replace(orig_args=names, in_spec=spec)  # type: ignore[attr-defined]


def _renaming(kind: type[nn.Module]) -> type[nn.Module]:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return kind.__call__(self, *args, **renamed(kwargs))  # type: ignore[call-arg]

    def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return kind.forward(self, *args, **renamed(kwargs, back=True))

    own = inspect.signature(kind.forward)
    parameters = [
        p.replace(name=_RENAMED) if p.name == _CLASH else p for p in own.parameters.values()
    ]
    forward.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    members = {"__call__": call, "forward": forward, "__module__": kind.__module__}
    return type(kind)(kind.__name__, (kind,), members)  # type: ignore[call-arg]
