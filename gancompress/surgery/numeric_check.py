"""Vet: does removing half of every group leave the function as it is? In numbers, beforehand."""

from __future__ import annotations

from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.atoms import Reason
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.graph.trial.arithmetic import trial_plan
from gancompress.graph.trial.silenced import silenced
from gancompress.modules.copying import named_tensors
from gancompress.modules.nested import tensors_of
from gancompress.surgery.cut import cut
from gancompress.surgery.float64_run import (
    Example,
    calls,
    distance,
    fresh_run,
    later_distance,
    not_finite,
    run,
)
from gancompress.surgery.fresh_inputs import is_float, redraw
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.verify import LOOSEST, TOLERANCE, in_training, stand_ins


def vetted_trace(generator: nn.Module, graph: ChannelGraph) -> ChannelGraph:
    """Return ``graph``, or a new one that keeps whole what cannot be removed exactly (ours).

    Shapes were checked while tracing; this finds what only numbers show, such as a scale that the
    forward computes from a channel count. Cuts half of every group for trial in float64; when the
    zeroed and the cut network differ, in eval() or in train(), the groups at fault are found by
    bisection.

    Raises:
        GraphError: the weights have no values, or such that the output is not finite, or two equal
            calls give different outputs.
    """
    if any(t.is_meta for _, t in named_tensors(generator)):
        raise GraphError(
            f"{type(generator).__name__} is on the meta device, where weights have no values: load "
            "them first (to_empty() and load_state_dict())"
        )
    refuse_nan(generator, graph.example)
    if not graph.groups:
        return graph
    names, training = list(graph.widths), False
    if _exact(generator, graph, names):
        training = True
        if graph.trains not in ("differs", "traced"):
            return graph
        if _exact(generator, graph, names, training=True):
            return graph
        if graph.trains == "differs":
            return vetted_trace(
                generator, trace(generator, *graph.example, keep=graph.keep, train=True)
            )
    else:
        refuse_chance(generator, graph.example)
    culprits = _bisect(generator, graph, names, training) or names
    keep = [(graph[n].atoms, _reason(generator, graph, n, training)) for n in culprits]
    train = graph.trains == "traced"
    again = trace(generator, *graph.example, keep=[*graph.keep, *keep], train=train)
    return vetted_trace(generator, again)


def refuse_nan(generator: nn.Module, example: Example) -> None:
    """Refuse weights whose output is not finite: every comparison would fail for another cause.

    Raises:
        GraphError: names the tensor.
    """
    if not any(t.isnan().any() for _, t in named_tensors(generator) if is_float(t)):
        return
    out = run(generator, example)
    if not all(bool(t.isfinite().all()) for t in out):
        raise GraphError(
            f"the output of {type(generator).__name__} is not finite: {not_finite(generator)}. The "
            "checkpoint is of a training that diverged, or damaged: load an earlier one"
        )


def follows_input(generator: nn.Module, example: Example, *, randomised: bool = False) -> bool:
    """Whether other inputs of the example's kind change the output (ours).

    Where they do not, `verify` cannot tell a right cut from a wrong one by them.

    Args:
        generator: not touched.
        example: inputs of one call.
        randomised: with other weights; a layer that starts at zero hides what lies behind it.
    """
    if not any(is_float(t) for t in tensors_of(example)):
        return True
    raw = raw_tensors(generator)
    stand = stand_ins(raw, raw, None, 0) if randomised else None
    try:
        # Of two rows there is one other order: against the example, not two draws of it.
        one, two = (run(generator, inputs, stand) for inputs in (example, redraw(example, 0)))
    except GraphError:  # it takes inputs of one kind only: nothing to say against it
        return True
    return distance(one, two) > 0


def refuse_chance(generator: nn.Module, example: Example) -> None:
    """Refuse a forward that draws from what no seed reaches, or keeps state where none is seen.

    Raises:
        GraphError: two equal calls differ.
    """
    gap = distance(run(generator, example), run(generator, example))
    if gap > 0:
        raise GraphError(
            f"two calls of {type(generator).__name__} with equal inputs and seeds differ by "
            f"{gap:.1e} of the output's standard deviation: no cut of it can be verified. It draws "
            "random numbers from a source that torch.manual_seed, random.seed and np.random.seed "
            "do not reach, or remembers earlier calls where none can look (an iterator, a file, "
            "another library): keep those in the module"
        )


def _reason(generator: nn.Module, graph: ChannelGraph, name: str, training: bool) -> Reason:
    if training:
        return Reason("verify", "", "removing its channels changes what train() does")
    if _exact(generator, graph, [name], calm=True):
        text = "the forward draws random numbers of its size: a smaller size would draw others"
        return Reason("verify", "", text)
    return Reason("verify", "", "removing its channels changes the output in another way")


def _bisect(
    generator: nn.Module, graph: ChannelGraph, names: list[str], training: bool
) -> list[str]:
    if _exact(generator, graph, names, training=training):
        return []
    if len(names) == 1:
        return names
    half = len(names) // 2
    return [
        *_bisect(generator, graph, names[:half], training),
        *_bisect(generator, graph, names[half:], training),
    ]


def _exact(
    generator: nn.Module,
    graph: ChannelGraph,
    names: list[str],
    *,
    training: bool = False,
    calm: bool = False,
) -> bool:
    plan = Plan.of(graph, trial_plan(graph, 2, names))
    try:
        small = cut(generator, plan)
    except Exception:
        return False
    zeroed = silenced(generator, graph, plan.keep)
    if training:
        return (in_training(zeroed, small, redraw(graph.example, 0), plan) or 0.0) <= LOOSEST
    if calm:
        example = redraw(graph.example, 0)
        return distance(run(zeroed, example, calm=True), run(small, example, calm=True)) <= LOOSEST
    inputs, want = fresh_run(zeroed, graph.example, 0)
    try:
        got = calls(small, inputs, count=len(want.outputs))
    except GraphError:
        return False
    repeated = later_distance(want, got) or 0.0
    return distance(want.outputs[0], got.outputs[0]) <= TOLERANCE and repeated <= LOOSEST
