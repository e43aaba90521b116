"""GraphForm: a generator as a graph of operators, whose sizes are attributes that may change."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from gancompress.errors import GraphError


class GraphForm(fx.GraphModule):
    """A generator in graph form; made by `to_graph` (ours).

    It holds copies of the generator's own submodules, under their own names, but calls none of
    them: its forward is a list of operators that read their parameters. Sizes that the generator's
    Python held are integer attributes of it, so that a cut can change them.

    Attributes:
        record: what `gancompress.save` needs to make the graph again; None when the example inputs
            cannot be written as JSON.
    """

    record: dict[str, Any] | None

    def __init__(
        self, holder: nn.Module, graph: fx.Graph, numbers: Mapping[str, int], name: str
    ) -> None:
        super().__init__(nn.Module(), fx.Graph(), name)
        self.record = None
        self.meta = {}
        self._modules.update(holder._modules)
        self._parameters.update(holder._parameters)
        self._buffers.update(holder._buffers)
        self._non_persistent_buffers_set.update(holder._non_persistent_buffers_set)
        for key, value in vars(holder).items():
            if isinstance(value, torch.Tensor):
                vars(self)[key] = value
        vars(self).update(numbers)
        self.training = holder.training
        self.graph = graph

    def recompile(self) -> Any:
        """Compile the graph into a forward of this very object, and note the users' lines."""
        if not isinstance(self, GraphForm) or "parametrizations" in self._modules:
            raise GraphError("unwrap() the graph form before its graph is changed")
        # Copies share the class, and with it the forward: a new forward needs a new class.
        self.__class__ = type(type(self).__name__, (GraphForm,), {})  # type: ignore[assignment]
        made = super().recompile()
        # fx wraps calls to print errors; ours must pass them on, as any module does.
        for name in ("__call__", "_wrapped_call"):
            if name in vars(type(self)):
                delattr(type(self), name)
        self._lines = _lines(self._graph, self._code)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphForm:
        new = object.__new__(type(self))
        memo[id(self)] = new
        vars(new).update(copy.deepcopy(vars(self), memo))
        return new

    def __reduce__(self) -> Any:
        raise TypeError(
            "a graph form is not pickled: save it with gancompress.save(path, module, plan=...), "
            "or its state_dict()"
        )

    def line_of(self, number: int) -> str:
        """Return the user's source line behind line ``number`` of the generated forward."""
        return self._lines.get(number, "")


def _lines(graph: fx.Graph, code: str) -> dict[int, str]:
    """Return the user's line by line number of the generated code."""
    places = {n.name: n.meta.get("line", "") for n in graph.nodes}
    found = {}
    for number, text in enumerate(code.splitlines(), start=1):
        match = re.match(r"\s+(\w+)\b", text)
        if match and places.get(match[1]):
            found[number] = places[match[1]]
    return found


# -- what the generated forward calls besides operators ------------------------------------------
def pick(training: bool, if_training: Any, otherwise: Any) -> Any:
    """Return the literal that holds in this mode."""
    return if_training if training else otherwise


def when(training: bool, operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run an operator in train() only."""
    return operator(*args, **kwargs) if training else None


def device_of(tensor: torch.Tensor) -> torch.device:
    """Return where a tensor is: constants follow it."""
    return tensor.device


def refreshed(module: nn.Module, name: str) -> torch.Tensor:
    """Let the old-style hook of ``module`` (spectral or weight norm) compute its weight."""
    for hook in module._forward_pre_hooks.values():
        if hasattr(hook, "compute_weight") and getattr(hook, "name", None) == name:
            hook(module, ())
    return getattr(module, name)


def call_inside(
    context: str, options: tuple[Any, ...], part: nn.Module, *values: torch.Tensor
) -> Any:
    """Run a part of the graph with gradients or autocast switched."""
    if context == "set_grad_enabled":
        with torch.set_grad_enabled(*options):
            return part(*values)
    device, dtype, enabled, cache = options
    with torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cache):
        return part(*values)


def check_tensor(x: Any, name: str, shape: tuple[int | None, ...], floating: bool) -> None:
    """Refuse an input that the graph was not made for (None: any size).

    Raises:
        GraphError: another rank, another fixed size, or labels in the place of numbers.
    """
    fits = isinstance(x, torch.Tensor) and x.dim() == len(shape)
    if fits and x.is_floating_point() == floating:
        sizes = [n is None or n == m for n, m in zip(shape, x.shape, strict=True)]
        if all(sizes):
            return
    want = ", ".join("batch" if n is None else str(n) for n in shape)
    kind = "a floating-point" if floating else "an integer"
    got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
    raise GraphError(
        f"the graph form takes {name!r} as {kind} tensor of shape ({want}), not {got}: make it "
        "again with to_graph() on inputs like these"
    )


def check_constant(x: Any, name: str, value: Any) -> None:
    """Refuse another value than the one that the graph holds.

    Raises:
        GraphError: the value differs.
    """
    if type(x) is not type(value) or x != value:
        raise GraphError(
            f"the graph form was made for {name}={value!r}, not {x!r}: make it again with "
            "to_graph() for this value"
        )
