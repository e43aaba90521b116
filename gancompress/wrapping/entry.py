"""wrap(): learnable channel masks on a generator that stays itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gancompress.errors import ConfigError, GraphError
from gancompress.graph.form.to_graph import in_form
from gancompress.masks.allocation import ALLOCATIONS
from gancompress.masks.attach import SITES
from gancompress.masks.choose import patterns_of
from gancompress.masks.importance import IMPORTANCES, check_importance
from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES
from gancompress.masks.relax import RELAXATIONS
from gancompress.modules.copying import require_module
from gancompress.modules.nested import call_arguments
from gancompress.surgery.numeric_check import refuse_nan
from gancompress.target import Given, parse_targets
from gancompress.wrapping.handle import Masked


def wrap(
    generator: nn.Module,
    example: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: Given | None = None,
    relaxation: Any = "ste",
    penalty: Any = "cost",
    importance: Any = "scores",
    allocation: Any = None,
    schedule: Any = "cubic",
    window: tuple[float, float] = (0.0, 1.0),
    site: str = "reader",
    form: str = "module",
    include: Sequence[str | nn.Module] = (),
    exclude: Sequence[str | nn.Module] = (),
    round_to: int | str = 1,
    min_channels: int = 1,
    seed: int = 0,
) -> Masked:
    """Put learnable channel masks on the groups of ``generator`` (PPCD's layers; placement ours).

    The generator stays the same object and its forward the same call; with all gates open its
    output is unchanged. `Masked.unwrap` undoes everything, bit for bit.

    Args:
        generator: any module; its source is not touched.
        example: inputs of one call (tensor, tuple, or mapping of keywords); without it they are
            taken from the first forward call.
        kwargs: keyword arguments beside a tuple.
        target: ``"params=5.2x"``, ``"macs=0.2"`` or ``"latency=2x@cpu,batch=1,engine=eager"``, or a
            list of which all are to hold; `Masked.advance` then kills down to it.
        relaxation: from `RELAXATIONS`: a name, ``{"name": ..., option: value}``, or a function;
            likewise those that follow.
        penalty: from `PENALTIES`.
        importance: from `IMPORTANCES`; decides, per cost saved, who goes.
        allocation: from `ALLOCATIONS`; decides how many each group gives. ``None``: by value for
            the cost saved.
        schedule: from `SCHEDULES`.
        window: progress at which the removal starts and ends.
        site: ``"reader"`` gates the raw weights that read a group; ``"output"`` multiplies the
            writing layer's output (the paper's literal placement, for ablation).
        form: ``"graph"`` wraps the graph form of the generator (see `to_graph`): sizes written in
            Python can change too. Train ``masked.generator`` then: the one given stays as it is.
        include: glob patterns of groups, layers (for the channels they write or carry) or modules
            (for all layers in them), or the modules themselves; empty means all.
        exclude: likewise, what is kept whole; wins over ``include``.
        round_to: widths become multiples of this; ``"auto"``: of what computes as fast on this
            machine (measured once), unless all targets are of parameters.
        min_channels: each group keeps at least so many.
        seed: of the random importance.

    Raises:
        ConfigError: an unknown name or option, a number out of range, or a pattern that matches
            nothing.
        GraphError: the forward fails, nothing can be pruned, or it is wrapped already.
        TargetError: the target is out of reach; states the smallest size and what holds it up.
    """
    require_module(generator)
    RELAXATIONS.bind(relaxation)
    # Made once: a penalty or an importance may be an object with a state of its own.
    lends = bool(PENALTIES.fact(penalty, "weights"))
    penalty, importance = PENALTIES.bind(penalty), IMPORTANCES.bind(importance)
    allocation = None if allocation is None else ALLOCATIONS.bind(allocation)
    if site not in SITES:
        raise ConfigError(f"site={site!r} is not one of {', '.join(SITES)}")
    if isinstance(round_to, str) and round_to != "auto":
        raise ConfigError(f"round_to={round_to!r} is neither a number nor 'auto'")
    if (isinstance(round_to, int) and round_to < 1) or min_channels < 1:
        raise ConfigError(f"round_to={round_to} and min_channels={min_channels} must be at least 1")
    check_importance(importance)
    include = patterns_of(generator, include, "include")
    exclude = patterns_of(generator, exclude, "exclude")
    if target is not None:
        target = parse_targets(target)
    if form != "module" and example is None and kwargs is None:
        raise ConfigError(f"form={form!r} needs example inputs: wrap(generator, example=...)")
    if any(isinstance(m, ChannelMask) for m in generator.modules()):
        raise GraphError(f"{type(generator).__name__} is wrapped already: unwrap() it first")
    options = {
        "target": target, "relaxation": relaxation, "penalty": penalty, "importance": importance,
        "allocation": allocation, "lends": lends,
        "schedule": schedule, "window": tuple(window), "site": site, "include": include,
        "exclude": exclude, "round_to": round_to, "min_channels": min_channels, "seed": seed,
    }  # fmt: skip
    if form != "module":  # its export and comparison would blame the graph
        refuse_nan(generator, call_arguments(() if example is None else example, kwargs))
    generator = in_form(generator, () if example is None else example, kwargs, form)
    masked = Masked(generator, options)
    if example is None and kwargs is None:
        masked.wait_for_example()
    else:
        masked.begin(*call_arguments(() if example is None else example, kwargs))
    return masked
