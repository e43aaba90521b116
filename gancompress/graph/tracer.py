"""Runs a generator once at the operator level and writes down which channels each operator ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from gancompress.graph.atoms import AtomSpace, Dim, Dims, Factor, Reason, Slot, dim_size, opaque
from gancompress.modules.nested import tensors_of
from gancompress.modules.user_line import user_frame


@dataclass
class TensorInfo:
    """Dimensions of one tensor; ``static`` when it depends on parameters only, not on inputs."""

    dims: Dims
    static: bool


@dataclass
class OpRecord:
    """One operator call: what it touched and the sizes it must show again after a cut."""

    name: str
    where: str
    module: str
    inputs: list[Dims]
    outputs: list[Dims]
    shapes: list[tuple[int, ...]]
    counts: list[tuple[int, Dim]] = field(default_factory=list)  # argument position -> its dim
    counted: str = ""  # the attribute of ``module`` that holds that count
    pins: list[np.ndarray] = field(default_factory=list)  # atoms that a literal position holds
    scalars: tuple[float, ...] = ()  # numbers the operator computes with
    static: bool = False  # it works on weights alone, once a call whatever the batch
    geometry: tuple[Any, ...] = ()  # of a convolution: stride, padding, dilation, transposed, more


@dataclass
class Read:
    """A contraction over atoms: zeros in the ``silence`` slots make dead atoms add nothing."""

    atoms: np.ndarray
    silence: frozenset[Slot] | None
    reader: bool  # weight against activation; False: weight against weight (norms, sigma)
    reason: Reason


@dataclass
class MacTerm:
    """``constant * product of the sizes of dims`` multiply-accumulates of one operator."""

    module: str
    constant: int
    dims: tuple[Dim, ...]


class Tracer:
    """State of one trace: dimensions by tensor, ties in ``space``, and the list of operators.

    ``exact``: what only a number or a norm holds is kept as well.
    """

    def __init__(self, exact: bool = True) -> None:
        self.exact = exact
        self.space = AtomSpace()
        self.ops: list[OpRecord] = []
        self.reads: list[Read] = []
        self.macs: list[MacTerm] = []
        self.slots: dict[Slot, Factor] = {}
        self.slices: list[tuple[np.ndarray, int, int]] = []
        self.outputs: dict[str, Dims] = {}
        self.called: set[str] = set()
        self.batch = 1
        self.starts: list[int] = [0]  # where in ``ops`` each recorded call begins
        self.count_attribute: dict[str, str] = {}
        self._info: dict[int, TensorInfo] = {}
        self._alive: list[torch.Tensor] = []
        self._modules: list[str] = []
        # With the storage itself: one that is let go (`p.data = ...`) would lend out its address.
        self._storages: dict[int, tuple[torch.Tensor, torch.UntypedStorage]] = {}
        self.replaced: list[Dims] = []
        self._picks: dict[int, list[tuple[np.ndarray, Reason]]] = {}

    # -- tensors ---------------------------------------------------------------------------------
    def remember(self, tensor: torch.Tensor, dims: Dims, static: bool) -> None:
        """Attach dimensions to a tensor (kept alive, so that its id stays its own)."""
        if id(tensor) not in self._info:
            self._alive.append(tensor)
        self._info[id(tensor)] = TensorInfo(dims, static)

    def info(self, tensor: torch.Tensor) -> TensorInfo:
        """Return what is known of a tensor; one that came from nowhere is a constant."""
        known = self._info.get(id(tensor))
        if known is None:
            why = "a constant tensor that is no parameter or buffer"
            known = TensorInfo(tuple(opaque(n, why) for n in tensor.shape), static=True)
            self.remember(tensor, known.dims, known.static)
        return known

    def dims(self, tensor: torch.Tensor) -> Dims:
        """Return the dimensions of a tensor."""
        return self.info(tensor).dims

    def add_parameters(self, module: nn.Module, originals: Mapping[str, torch.Tensor]) -> None:
        """Give fresh atoms to every dimension of every parameter and buffer."""
        params = dict(module.named_parameters())
        for name in originals:
            tensor = params[name] if name in params else module.get_buffer(name)
            dims = []
            for d, n in enumerate(tensor.shape):
                if n == 1:
                    dims.append(())
                    continue
                zero = frozenset([(name, d)]) if name in params else None
                factor = Factor(n, self.space.new(n), zero)
                self.slots[(name, d)] = factor
                dims.append((factor,))
            self.remember(tensor, tuple(dims), static=True)
            if name in params:
                storage = tensor.untyped_storage()
                self._storages[storage._cdata] = (tensor, storage)

    def replace_data(self, tensor: torch.Tensor, value: torch.Tensor, where: str) -> None:
        """Follow ``tensor.data = value``: the same channels from now on, those of the value."""
        old, new = self.dims(tensor), self.info(value)
        if [dim_size(d) for d in old] == [dim_size(d) for d in new.dims]:
            reason = Reason("data", where, "its data is replaced")
            for old_dim, new_dim in zip(old, new.dims, strict=True):
                self.space.tie_dims(old_dim, new_dim, reason)
        else:
            reason = Reason("data", where, "its data is replaced by that of another shape")
            for dim in (*old, *new.dims):
                self.space.freeze_dim(dim, reason)
        self.replaced.append(old)
        self.remember(tensor, new.dims, new.static)

    def parameter_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the parameter whose memory a tensor is (a view of), if any."""
        found = self._storages.get(tensor.untyped_storage()._cdata)
        return None if found is None else found[0]

    # -- positions -------------------------------------------------------------------------------
    def pick(self, picked: torch.Tensor, atoms: np.ndarray, reason: Reason) -> None:
        """Note that ``picked`` was taken by position: its use keeps ``atoms``.

        Code often takes an index only to ask for a size (`weight[0][0].numel()`).
        """
        self._picks.setdefault(id(picked), []).append((atoms, reason))

    def use(self, tensors: Sequence[torch.Tensor], views: Sequence[torch.Tensor] = ()) -> None:
        """Keep what picked tensors hold by position, or hand it on to ``views`` of them."""
        for tensor in tensors:
            for atoms, reason in self._picks.get(id(tensor), ()):
                if not views:
                    self.space.freeze(atoms, reason)
                for view in views:
                    self.pick(view, atoms, reason)

    # -- where we are ----------------------------------------------------------------------------
    @property
    def module(self) -> str:
        """Path of the innermost module that is running."""
        return self._modules[-1] if self._modules else ""

    def watch_modules(self, module: nn.Module) -> None:
        """Follow which submodule runs, and keep the dimensions of what it returns."""
        for path, sub in module.named_modules():
            if isinstance(sub, torch.jit.ScriptModule):
                continue
            if isinstance(sub, nn.modules.conv._ConvNd):
                self.count_attribute[path] = "groups"
            elif isinstance(sub, nn.GroupNorm):
                self.count_attribute[path] = "num_groups"
            sub.register_forward_pre_hook(_Enter(self, path))
            sub.register_forward_hook(_Leave(self, path), always_call=True)


class _Enter:
    def __init__(self, tracer: Tracer, path: str) -> None:
        self.tracer, self.path = tracer, path

    def __call__(self, module: nn.Module, args: Any) -> None:
        self.tracer._modules.append(self.path)
        self.tracer.called.add(self.path)


class _Leave(_Enter):
    def __call__(self, module: nn.Module, args: Any, out: Any = None) -> None:
        if self.tracer._modules:
            self.tracer._modules.pop()
        found = tensors_of(out)
        if found:
            self.tracer.outputs[self.path] = self.tracer.dims(found[0])


class Op:
    """One operator call, as its rule sees it."""

    def __init__(
        self, tracer: Tracer, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        self.tracer, self.space = tracer, tracer.space
        self.func, self.kwargs = func, kwargs
        schema = func._schema
        self.name = schema.name.split("::")[-1]
        # Positional view of all arguments, defaults filled in, so that rules can index them.
        self.args = list(args)
        for a in schema.arguments[len(args) :]:
            self.args.append(kwargs.get(a.name, a.default_value if a.has_default_value() else None))
        self.out = out
        self.outs = tensors_of(out)
        self.ins = tensors_of(self.args)
        self.where = user_frame()
        self.counts: list[tuple[int, Dim]] = []
        self.pins: list[np.ndarray] = []

    def reason(self, text: str, graph_frees: bool = False) -> Reason:
        """Make a reason that names this operator and the user's line."""
        return Reason(self.name, self.where, text, graph_frees)

    def dims(self, x: torch.Tensor) -> Dims:
        """Return the dimensions of an argument."""
        return self.tracer.dims(x)

    def static(self, x: torch.Tensor) -> bool:
        """Whether an argument depends on parameters only."""
        return self.tracer.info(x).static

    def freeze(self, dims: Dims | Dim, text: str, graph_frees: bool = False) -> None:
        """Keep all channels of these dimensions; see `Reason` for ``graph_frees``."""
        if graph_frees and not self.tracer.exact:
            return
        reason = self.reason(text, graph_frees)
        for item in dims:
            if isinstance(item, Factor):
                self.space.freeze(item.atoms, reason)
            else:
                self.space.freeze_dim(item, reason)

    def blank(self, why: str) -> list[Dims]:
        """Return outputs without channels."""
        return [tuple(opaque(n, why) for n in t.shape) for t in self.outs]

    def contract(self, a: Dim, b: Dim, a_static: bool, b_static: bool) -> None:
        """Tie two dimensions that are multiplied and summed, and note who can silence dead ones."""
        reason = self.reason("contracted")
        if not a or not b:
            self.freeze(a or b, "contracted with a dimension of size 1")
            return
        for x, y in self.space.align(a, b, reason) or ():
            self.space.tie_factors(x, y, reason)
            self.read(x, y, a_static, b_static)

    def read(self, x: Factor, y: Factor | None, x_static: bool, y_static: bool) -> None:
        """Record that dead atoms of ``x`` (against ``y``, or summed alone) must add nothing."""
        atoms = x.atoms if x.atoms is not None else (y.atoms if y is not None else None)
        if atoms is None:
            return
        options = [(x.zero, x_static)] + ([(y.zero, y_static)] if y is not None else [])
        usable = [(not s, len(z), sorted(z), z) for z, s in options if z is not None]
        silence = min(usable)[3] if usable else None
        both = x_static and (y is None or y_static)
        self.tracer.reads.append(
            Read(atoms, silence, not both, self.reason("reads channels that no weight can silence"))
        )

    def macs(self, constant: int, *dims: Dim) -> None:
        """Count ``constant`` times the sizes of ``dims`` multiply-accumulates."""
        self.tracer.macs.append(MacTerm(self.tracer.module, constant, dims))


# These only look at their tensor from another side.
VIEWS = {"alias", "detach", "expand", "permute", "select", "slice", "squeeze", "t", "transpose",
         "unsqueeze", "view"}  # fmt: skip

# Whether these run depends on strides, views and sizes, not on the network's path.
UNSTEADY = {"detach", "alias", "lift_fresh", "lift_fresh_copy", "clone", "contiguous", "_to_copy"}


def unsteady(name: str, args: Sequence[Any]) -> bool:
    """Whether an operator may come and go from run to run."""
    return name in UNSTEADY and _constant(name, args) is None


def _constant(name: str, args: Sequence[Any]) -> float | None:
    """Return the number that ``torch.tensor(number)`` was given, None for anything else."""
    if name != "lift_fresh" or args[0].numel() != 1 or not args[0].is_floating_point():
        return None
    return float(args[0])


def steady_name(name: str) -> str:
    """One name for the operators that a reshape may turn into."""
    return "view" if name in ("_unsafe_view", "reshape", "_reshape_alias") else name


_ARITHMETIC = {
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "pow",
    "remainder",
    "floor_divide",
    "true_divide",
}


def scalars_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the numbers that an operator computes with: floats, and integers of arithmetic."""
    name = func._schema.name.split("::")[-1]
    constant = _constant(name, args)
    if constant is not None:
        return (constant,)
    whole = name.rstrip("_") in _ARITHMETIC
    values = (*args, *kwargs.values())
    return tuple(
        float(v) for v in values
        if isinstance(v, float) or (whole and isinstance(v, int) and not isinstance(v, bool))
    )  # fmt: skip
