"""Export a generator in one mode, with computed weights left to the modules that compute them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from gancompress.errors import GraphError
from gancompress.graph.form.constants import read_live
from gancompress.graph.form.keywords import rename_keyword, renamed, restore_keyword
from gancompress.graph.form.module import refreshed
from gancompress.graph.form.symbols import numbers_stay_symbols
from gancompress.graph.trial.workbench import moving_nothing
from gancompress.modules.copying import copy_with
from gancompress.modules.nested import tensors_of
from gancompress.modules.user_line import failing_line


def clone(t: torch.Tensor) -> torch.Tensor:
    """Return an independent tensor of the same kind."""
    new = t.detach().clone(memory_format=torch.preserve_format)
    if not isinstance(t, nn.Parameter):
        return new
    made = nn.Parameter(new, requires_grad=t.requires_grad)
    vars(made).update(vars(t))
    return made


def _hooks(sub: nn.Module) -> Iterator[tuple[int, Any]]:
    """Yield torch's old-style hooks (spectral norm, weight norm) that compute a weight."""
    for key, hook in list(sub._forward_pre_hooks.items()):
        known = type(hook).__module__.startswith("torch.nn.utils.")
        if known and hasattr(hook, "compute_weight"):
            yield key, hook


def _forget(sub: nn.Module) -> None:
    """Let the attributes that the user's pre-hooks set on ``sub`` last for one call only.

    Export refuses attributes that change; what such a hook computes becomes part of the graph.
    """
    before = {k: v for k, v in vars(sub).items() if isinstance(v, torch.Tensor)}

    def reset(module: nn.Module, args: Any, out: Any) -> None:
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and before.get(name) is not value:
                del vars(module)[name]
        vars(module).update(before)

    sub.register_forward_hook(reset, always_call=True)


def computed_weights(holder: nn.Module) -> dict[str, bool]:
    """Return the names of computed weights; True where an old-style hook computes them."""
    found: dict[str, bool] = {}
    for path, sub in holder.named_modules(remove_duplicate=False):
        dot = f"{path}." if path else ""
        if parametrize.is_parametrized(sub):
            found.update({dot + name: False for name in sub.parametrizations})  # type: ignore[union-attr]
        found.update({dot + hook.name: True for _, hook in _hooks(sub)})
    return found


def plain_copy(generator: nn.Module) -> nn.Module:
    """Return a copy in which computed weights are plain parameters."""
    stores = {p.untyped_storage()._cdata for p in generator.parameters()}

    def replace(t: torch.Tensor) -> torch.Tensor:
        # A view of a parameter that an attribute holds moves with it, and must stay one.
        view = not t.is_meta and t.untyped_storage()._cdata in stores
        return t if view or isinstance(t, nn.Parameter) else clone(t)

    copy = copy_with(generator, replace)
    copy.eval()
    for sub in list(copy.modules()):
        values: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            if parametrize.is_parametrized(sub):
                values = {n: getattr(sub, n).detach().clone() for n in sub.parametrizations}  # type: ignore[union-attr]
                # Not remove_parametrizations: that would change the class, which copies share.
                sub.__class__ = type(sub).__bases__[0]
                del sub._modules["parametrizations"]
            for key, hook in _hooks(sub):
                values[hook.name] = refreshed(sub, hook.name).detach().clone()
                del sub._forward_pre_hooks[key]
                vars(sub).pop(hook.name, None)
        if sub._forward_pre_hooks:
            _forget(sub)
        for name, value in values.items():
            sub.register_parameter(name, nn.Parameter(value))
        rename_keyword(sub)
    return copy


def export_mode(
    generator: nn.Module, args: Any, kwargs: Any, rows: int, training: bool
) -> fx.GraphModule:
    """Export in one mode, with a free batch size.

    Raises:
        GraphError: export refuses, or the batch size is fixed; names the line.
    """
    copy, kwargs = plain_copy(generator), renamed(kwargs)
    copy.train(training)
    kind = type(generator).__name__
    try:
        try:
            made = _export(copy, args, kwargs, rows)
        except TypeError:  # int may be a dtype, which only the true one is
            made = _export(copy, args, kwargs, rows, types=False)
    except Exception as error:
        first = next((s for s in str(error).splitlines() if s.strip()), type(error).__name__)
        line = failing_line(error)
        raise GraphError(
            f"torch.export cannot write {kind} as a graph"
            f"{f': {line}' if line else ''} ({type(error).__name__}: {first}). The graph form "
            "needs a forward whose path does not depend on the values of its tensors; without "
            'form="graph" the generator can still be pruned'
        ) from error
    assert isinstance(made, fx.GraphModule)
    read_live(made, copy)
    restore_keyword(made.graph)
    for node, leaf in zip(
        placeholders(made.graph), pytree.tree_leaves((args, kwargs)), strict=True
    ):
        tensor = isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.shape[0] == rows
        if tensor and is_concrete_int(node.meta["val"].shape[0]):
            raise GraphError(
                f"torch.export fixes the batch size of {kind} at {rows} (input {node.name!r}): its "
                "forward loops over the batch, or holds its size. The graph form must run at any"
            )
    return made


def _export(copy: nn.Module, args: Any, kwargs: Any, rows: int, types: bool = True) -> nn.Module:
    with exporting(copy, types):
        shapes = _dynamic(copy, args, kwargs, rows)
        return torch.export.export(copy, args, kwargs, dynamic_shapes=shapes, strict=False).module()


def placeholders(graph: fx.Graph) -> list[fx.Node]:
    """Return the inputs of a graph, in order."""
    return [n for n in graph.nodes if n.op == "placeholder"]


class _Detached(TorchFunctionMode):
    """Reads ``tensor.data`` as ``tensor.detach()``: export cannot index the former."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def exporting_quietly() -> Iterator[None]:
    """Export without warnings, log lines and dumps of its own: failures are told by us."""
    loggers = [
        logging.getLogger(n) for n in ("torch.fx.experimental", "torch.export", "torch._export")
    ]
    loggers.append(logging.getLogger("torch.fx.experimental.symbolic_shapes"))
    before = [g.disabled for g in loggers]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for g in loggers:
            g.disabled = True
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for g, was in zip(loggers, before, strict=True):
            g.disabled = was


@contextlib.contextmanager
def exporting(module: nn.Module, types: bool = True) -> Iterator[None]:
    """Let torch.export read the user's Python of ``module``, and say nothing meanwhile (ours).

    ``types``: let sizes pass for ``int``, too; without where a forward takes ``int`` for a dtype.
    """
    with exporting_quietly(), _Detached(), numbers_stay_symbols(module, types), moving_nothing():
        yield


def _dynamic(module: nn.Module, args: Any, kwargs: Any, rows: int) -> Any:
    shapes = torch.export.ShapesCollection()
    found = False
    for t in tensors_of((args, kwargs)):
        if t.dim() and t.shape[0] == rows:
            shapes[t], found = {0: torch.export.Dim.AUTO}, True
    return shapes.dynamic_shapes(module, args, kwargs) if found else None
