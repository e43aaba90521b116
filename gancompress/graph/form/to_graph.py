"""to_graph(): export a generator to a graph whose literal sizes may change."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from gancompress.errors import CheckpointError, ConfigError, GraphError
from gancompress.graph.form.example_record import describe
from gancompress.graph.form.export_mode import clone, computed_weights, export_mode
from gancompress.graph.form.literals import plant_literals
from gancompress.graph.form.merge_modes import merge_modes
from gancompress.graph.form.module import GraphForm
from gancompress.graph.form.regions import own_sizes
from gancompress.graph.form.rewrite import (
    check_inputs,
    compute_weights,
    fit,
    follow_device,
    free_names,
)
from gancompress.modules.copying import copy_with, refuse_shells
from gancompress.modules.nested import call_arguments, map_tensors, tensors_of
from gancompress.modules.outside import outside
from gancompress.modules.undisturbed import preserved
from gancompress.modules.user_line import is_machinery

FORMS = ("module", "graph")
_PLAIN = (bool, int, float, str)


def to_graph(
    generator: nn.Module,
    example: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    check: bool = True,
    share: bool = False,
) -> GraphForm:
    """Return ``generator`` as a graph module whose sizes can be cut (ours, on `torch.export`).

    For generators whose Python holds sizes: ``x.view(-1, 512, 4, 4)``, ``torch.split(x, 64, 1)``,
    ``assert x.shape[1] == 64``. The result is an ordinary module for `trace`, `wrap`, `cut` and
    `verify`: same parameter names, trainable, train() and eval() as before, any batch size. All
    other sizes of the inputs, and inputs that are no tensors, are fixed by the example.

    Args:
        generator: any module that `torch.export` takes; it is not touched.
        example: inputs of one call, as for `trace`. The first dimension of the first tensor is the
            batch, and that of every tensor of as many rows.
        kwargs: keyword arguments beside a tuple.
        check: run both networks in both modes, and at another batch size, and compare.
        share: hold the generator's own parameters and buffers instead of copies.

    Raises:
        GraphError: the forward depends on data, acts otherwise in train() than in eval() beyond
            batch norm and dropout, or its graph does not give the same output.
    """
    refuse_shells(generator)
    if isinstance(generator, GraphForm):
        return generator
    for path, sub in generator.named_modules():
        if isinstance(sub, torch.jit.ScriptModule) and any(True for _ in sub.parameters()):
            raise GraphError(
                f"{path} is a TorchScript module, whose weights torch.export does not take: put "
                'the module there that it was made from, or leave form="graph" out'
            )
    args, kw = call_arguments(example, kwargs)
    rows = _rows(args, kw)
    leaves = [t for t in pytree.tree_leaves((args, kw)) if isinstance(t, torch.Tensor)]
    if len(leaves) < len(tensors_of((args, kw))):
        raise GraphError(
            "the inputs hold tensors in a type that torch.export does not know: register it with "
            "torch.export.register_dataclass, or pass tuples and dicts"
        )
    args, kw = _two_rows((args, kw), rows)
    # Export runs copies, which share globals and the data of classes with the user's.
    with preserved(generator, values=False, beside=True):
        return _exported(generator, args, kw, max(rows, 2), check=check, share=share)


def _exported(
    generator: nn.Module, args: Any, kw: Any, rows: int, *, check: bool, share: bool
) -> GraphForm:
    holder = copy_with(generator, (lambda t: t) if share else clone)
    if parametrize.is_parametrized(holder):
        raise GraphError(
            f"a parameter of {type(generator).__name__.removeprefix('Parametrized')} itself is "
            "parametrized: move it into a submodule to use the graph form"
        )
    computed = computed_weights(holder)
    made = {mode: export_mode(generator, args, kw, rows, mode) for mode in (True, False)}
    merge_modes(made[True], made[False], set(dict(holder.named_modules(remove_duplicate=False))))
    own_sizes(made[True])
    fit(made[True], holder, computed)
    follow_device(made[True].graph)
    compute_weights(made[True].graph, computed)
    check_inputs(made[True].graph, args, kw, rows)
    numbers = plant_literals(made[True].graph, free_names(holder))
    form = GraphForm(holder, made[True].graph, numbers, f"{type(generator).__name__}Graph")
    with contextlib.suppress(CheckpointError):
        form.record = {
            "args": describe(args),
            "kwargs": describe(kw),
            "graph": _fingerprint(generator, form),
            "torch": torch.__version__,
        }
    if check:
        _compare(generator, form, args, kw, rows)
    return form


def in_form(
    generator: nn.Module, example: Any, kwargs: Mapping[str, Any] | None, form: str
) -> nn.Module:
    """Return the generator itself (``form="module"``) or its graph form (``form="graph"``).

    Raises:
        ConfigError: another form.
        GraphError: as `to_graph`.
    """
    if form not in FORMS:
        raise ConfigError(f"form={form!r} is not one of {', '.join(FORMS)}")
    return to_graph(generator, example, kwargs) if form == "graph" else generator


def _fingerprint(generator: nn.Module, form: GraphForm) -> str:
    """Return a hash of the code, the sizes and the constants of a graph form and its parts."""
    known = dict(generator.named_buffers())
    facts: list[Any] = [(n, b.tolist()) for n, b in form.named_buffers() if n not in known]
    for sub in form.modules():
        if isinstance(sub, GraphForm):
            sizes = sorted((k, v) for k, v in vars(sub).items() if type(v) is int)
            facts.append((sub.code, sizes))
    return hashlib.sha256(str(facts).encode()).hexdigest()


def _rows(args: Any, kwargs: Any) -> int:
    """Return the batch size: the first dimension of the first tensor that has one."""
    return next((t.shape[0] for t in tensors_of((args, kwargs)) if t.dim()), 0)


def _two_rows(example: Any, rows: int) -> Any:
    """Repeat a batch of one: export takes a size of 1 for a constant."""
    if rows != 1:
        return example
    return map_tensors(example, lambda t: torch.cat([t, t]) if t.dim() and t.shape[0] == 1 else t)


def _more_rows(example: Any, rows: int) -> Any:
    return map_tensors(
        example, lambda t: torch.cat([t, t[:1]]) if t.dim() and t.shape[0] == rows else t
    )


def _compare(generator: nn.Module, form: GraphForm, args: Any, kwargs: Any, rows: int) -> None:
    """Run both in both modes, and at another batch size; outputs and buffers must agree."""
    more = _more_rows((args, kwargs), rows)
    for training, example, what in (
        (False, (args, kwargs), "eval()"),
        (True, (args, kwargs), "train()"),
        (False, more, f"eval() on a batch of {rows + 1}"),
    ):
        try:
            want = _outcome(generator, example, training)
        except Exception:
            if example is more:  # the generator itself takes no other batch
                return
            raise
        got = _outcome(form, example, training)
        for name, value in want.items():
            if name not in got or not _close(value, got[name]):
                raise GraphError(
                    f"the graph of {type(generator).__name__} differs from it in {what}: {name}. "
                    'The graph form cannot serve this generator; leave form="graph" out'
                )


def _outcome(module: nn.Module, example: Any, training: bool) -> dict[str, torch.Tensor]:
    """Return outputs and buffers after one call of a copy.

    Raises:
        GraphError: the call changes state that export would keep as it was.
    """
    copy = copy_with(module, lambda t: t if isinstance(t, nn.Parameter) else clone(t))
    copy.train(training)
    args, kwargs = map_tensors(example, lambda t: t.detach().clone())
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if cuda else []
    before, states = _python_state(copy), (random.getstate(), np.random.get_state())
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(7)
        out = copy(*args, **kwargs)
    after = _python_state(copy)
    random.setstate(states[0])
    np.random.set_state(states[1])
    changed = [name for name, value in after.items() if before.get(name, value) != value]
    if changed:
        raise GraphError(
            f"each forward of {type(module).__name__} changes {changed[0]}, which a graph would "
            'keep as it was. The graph form cannot serve this generator; leave form="graph" out'
        )
    found = {f"output {i}": t for i, t in enumerate(tensors_of(out))}
    return {**found, **{f"buffer {n!r}": b for n, b in copy.named_buffers()}}


def _python_state(module: nn.Module) -> dict[str, Any]:
    """Return what a forward may change in Python: random states, and plain attributes."""
    found: dict[str, Any] = {
        "Python's random state": random.getstate(),
        "NumPy's random state": str(np.random.get_state()),
    }
    for path, sub in module.named_modules():
        for name, value in vars(sub).items():
            if isinstance(value, _PLAIN) and not name.startswith("_"):
                found[f"self.{name} of {path or type(sub).__name__}"] = value
    kinds = {kind for sub in module.modules() for kind in type(sub).__mro__}
    for kind in (kind for kind in kinds if not is_machinery(kind)):
        found |= {
            f"{kind.__name__}.{name}": value for name, value in vars(kind).items()
            if isinstance(value, _PLAIN) and not name.startswith("__")
        }  # fmt: skip
        found |= {
            f"the global {name}": space[name] for space, name in outside(kind).names
            if isinstance(space.get(name), _PLAIN)
        }  # fmt: skip
    return found


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    finite = a[a.isfinite()].abs() if a.is_floating_point() else a.new_zeros(0)
    scale = float(finite.max()) if finite.numel() else 1.0
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * max(scale, 1e-6), equal_nan=True)
