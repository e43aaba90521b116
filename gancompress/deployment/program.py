"""torch.export of one call with free sizes, folded; and its failures in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gancompress.deployment.flat_call import FlatCall
from gancompress.deployment.fold import fold
from gancompress.deployment.sizes import Dims
from gancompress.errors import GraphError
from gancompress.graph.form.export_mode import exporting
from gancompress.modules.user_line import failing_line, line_in


@dataclass(frozen=True)
class Program:
    """A traced call: what every program format is written from (ours).

    Attributes:
        exported: as torch.export made it.
        inputs: names of its tensors, in order.
        outputs: names of what it returns.
        example: tensors of one call.
        dims: free dimensions of each.
        source: the generator that it was traced from.
        folded: how many constants and batch norms went into weights.
    """

    exported: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]
    dims: Dims
    source: nn.Module
    folded: dict[str, int] = field(default_factory=dict[str, int])

    def graph(self) -> fx.GraphModule:
        """Return a module that runs it; each call makes another one."""
        found: Any = self.exported.module(check_guards=False)
        return found


def trace_program(
    call: FlatCall,
    names: tuple[Sequence[str], Sequence[str]],
    example: tuple[Tensor, ...],
    dims: Dims,
    *,
    folding: bool,
    source: nn.Module | None = None,
) -> Program:
    """Export ``call`` on ``example`` with the dimensions ``dims`` free.

    Raises:
        GraphError: torch.export cannot write it; operator or cause and the user's line are named.
    """
    kind = type(call.generator).__name__
    exported = _exported(call, example, dims, kind, names[0])
    folded: dict[str, int] = {}
    if folding:
        module: Any = exported.module(check_guards=False)
        folded = fold(module)
        exported = _exported(module, example, dims, kind, names[0])
    _refuse_draws(exported)
    source = call.generator if source is None else source
    return Program(exported, tuple(names[0]), tuple(names[1]), example, dims, source, folded)


def export_again(program: Program, module: nn.Module) -> Program:
    """Return ``program`` with ``module``, a changed graph of it, in its place."""
    exported = _exported(module, program.example, program.dims, "its program", program.inputs)
    return replace(program, exported=exported)


def _exported(
    module: nn.Module, example: tuple[Tensor, ...], dims: Dims, kind: str, names: Sequence[str]
) -> torch.export.ExportedProgram:
    free = tuple({d: torch.export.Dim.DYNAMIC for d in part} or None for part in dims)
    # A call has *tensors for its only argument; the graph of one has an argument each.
    shapes: Any = (free,) if isinstance(module, FlatCall) else free

    def made(types: bool) -> torch.export.ExportedProgram:
        with exporting(module, types), torch.no_grad():
            return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)

    try:
        try:
            return made(True)
        except TypeError:  # int may be a dtype, which only the true one is
            return made(False)
    except Exception as error:
        raise GraphError(_said(error, kind, names)) from error


def _said(error: Exception, kind: str, names: Sequence[str]) -> str:
    line = failing_line(error)
    place = f" at {line}" if line else ""
    text = str(error)
    if "specialized" in text:
        found = re.search(r"\[(\d+)\]\.(?:size\(\)|shape)\[(\d+)\]", text)
        if found and int(found[1]) < len(names):
            name, d = names[int(found[1])], found[2]
            return (
                f"torch.export fixes dimension {d} of {name}: the forward of {kind} holds that "
                f"size as a number, or loops over it{place}. Leave it out: --dynamic '{name}=...' "
                "names the dimensions that stay free"
            )
    if why := _by_value(text):
        return (
            f"torch.export cannot write {kind}: {why}{place}, and a file holds tensors alone. "
            "Compute it by operators on tensors (torch.where for an if), or take it as an input"
        )
    return f"torch.export cannot write {kind}{place}: {cause(error)}"


def _by_value(text: str) -> str:
    """Return how a forward that needs the numbers of a tensor says so, from torch's own words."""
    if "data-dependent" in text:
        return "the forward takes a number out of a tensor (if, float(), item())"
    if ".numpy() is not supported" in text or "numpy" in text.partition("\n")[0].lower():
        return "the forward leaves torch for NumPy"
    return ""


def cause(error: BaseException) -> str:
    """Return what an exception says in one line of at most 240 characters."""
    lines = [s.strip() for s in str(error).splitlines() if s.strip()]
    first = " ".join(lines[0].split()) if lines else ""
    kind = type(error).__name__
    text = f"{kind}: {first}" if first else kind
    return text if len(text) <= 240 else text[:237] + "..."


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it came from, the outermost first."""
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        yield now
        now = now.__cause__ or now.__context__


def line_of_operator(exported: torch.export.ExportedProgram, operator: str) -> str:
    """Return the user's line that called ``operator`` (``aten::x``, ``aten.x.default``)."""
    wanted = operator.replace("::", ".")
    for graph in (exported.graph, exported.run_decompositions().graph):
        for node in graph.nodes:
            found = str(node.target)
            if node.op == "call_function" and (found == wanted or found.startswith(f"{wanted}.")):
                return line_in(node.meta.get("stack_trace") or "")
    return ""


def _refuse_draws(exported: torch.export.ExportedProgram) -> None:
    """Refuse a program that draws numbers by operators that cannot be made inputs."""
    for node in exported.graph.nodes:
        tags = getattr(node.target, "tags", ())
        if node.op == "call_function" and torch.Tag.nondeterministic_seeded in tags and node.users:
            line = line_in(node.meta.get("stack_trace") or "")
            if str(node.target).startswith("aten.dropout") or "attention" in str(node.target):
                continue  # in eval mode they draw nothing
            raise GraphError(
                f"the forward draws numbers by {node.target}{f' at {line}' if line else ''}, which "
                "can be neither an input nor fixed: pass them in as an argument"
            )
