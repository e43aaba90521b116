"""Which modules of a network have a part in one of the tensors that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.modules.nested import map_tensors
from gancompress.modules.undisturbed import traceless, undisturbed


class _Marks:
    """Adds a zero of its own to what each module returns: autograd then knows what comes of it."""

    def __init__(self, module: nn.Module) -> None:
        self.paths = {part: path for path, part in module.named_modules()}
        self.zeros: dict[int, str] = {}
        self._kept: list[Tensor] = []

    def mark(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        def marked(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return x
            zero = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
            self.zeros[id(zero)] = self.paths[module]
            self._kept.append(zero)  # an id is its own only while it lives
            return x + zero

        return map_tensors(output, marked)


def modules_behind(
    module: nn.Module,
    example: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    results: Callable[[Any], Sequence[Tensor]],
) -> frozenset[str]:
    """Return the paths of the modules whose outputs ``results`` are computed from (ours).

    One forward in eval mode that leaves no trace; autograd's graph is read, nothing is
    differentiated. Empty where the forward keeps no graph.
    """
    marks = _Marks(module)
    handles = [part.register_forward_hook(marks.mark) for part in marks.paths]
    try:
        with undisturbed(module), torch.enable_grad():
            chosen = results(traceless(module, example, kwargs))
    finally:
        for handle in handles:
            handle.remove()
    found: set[str] = set()
    todo: list[Any] = [x.grad_fn for x in chosen]
    seen: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        path = marks.zeros.get(id(getattr(node, "variable", None)))
        if path is not None:
            found.add(path)
        todo += [parent for parent, _ in node.next_functions]
    return frozenset(found)
