"""All or nothing: put modules and optimisers back as they were when a step fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def all_or_nothing(
    modules: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> Iterator[None]:
    """Undo everything that the body did to structure and bindings if it raises (ours).

    Covers classes, attributes, registered tensors, submodules and hooks of each module, and groups
    and state of each optimiser. Tensors are not copied: the body must make new ones instead of
    writing into those it found.
    """
    subs = list({id(s): s for m in modules for s in m.modules()}.values())
    shells = [(s, type(s), dict(vars(s)), _contents(vars(s))) for s in subs]
    groups = [
        (o, [(g, {**g, "params": list(g["params"])}) for g in o.param_groups], dict(o.state))
        for o in optimizers
    ]
    try:
        yield
    except BaseException:
        for sub, cls, attributes, contents in shells:
            sub.__class__ = cls
            vars(sub).clear()
            vars(sub).update(attributes)
            # In place: handles of hooks refer to these very dictionaries.
            for store, items in contents:
                store.clear()
                store.update(items)
        for optimizer, saved, state in groups:
            for group, values in saved:
                group.clear()
                group.update(values)
            optimizer.state.clear()
            optimizer.state.update(state)
        raise


def _contents(attributes: dict[str, Any]) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    return [(v, dict(v)) for v in attributes.values() if isinstance(v, dict)]
