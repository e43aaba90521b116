"""Does train() something else than eval(), and does a cut that is right for eval() break it?"""

from __future__ import annotations

from collections.abc import Sequence

from gancompress.graph.attribute_changes import attribute_changes, set_attributes
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import kept_indices
from gancompress.graph.rules.norm import BATCH_NORMS
from gancompress.graph.trial.arithmetic import trial_plan
from gancompress.graph.trial.silenced import Step, StepsMode
from gancompress.graph.trial.workbench import CHANCES, Workbench
from gancompress.modules.copying import named_tensors

# Dropout and the count of batches, which follow any number of channels.
_ALONE = {"native_dropout", "empty_like", "bernoulli_", "div_", "mul", "add_"}


def in_train(bench: Workbench, graph: ChannelGraph, trial: bool) -> str:
    """Return what train() does: see `ChannelGraph.trains`; or ``"breaks"`` (ours).

    Two runs on fake tensors at most, more of the second where chance decides what runs; one where
    the operators are those of eval().

    Args:
        bench: makes copies of the generator.
        graph: traced in eval().
        trial: run a cut copy in train() where the operators differ.
    """
    before, bench.passes = bench.passes, [True]
    end = graph.starts[1] if len(graph.starts) > 1 else len(graph.ops)
    try:
        same, seeds = True, [0]
        while same and seeds:
            log = StepsMode()
            seed = seeds.pop(0)
            try:
                bench.call(bench.copy(), log, seed=seed, calm=False)
            except Exception:  # batch norm on a batch of one, a forward that wants targets
                return "fails"
            same = _same(graph, end, log.steps)
            # Layers that chance leaves out of one run are in another.
            seeds = list(range(1, CHANCES)) if bench.drawn and seed == 0 else seeds
        if same and not _norms_mix(graph, end):
            return "same"
        if not (trial and graph.groups):
            return "differs"
        alive = graph.alive(trial_plan(graph, 0))
        tensors = dict(named_tensors(bench.generator))
        twin = bench.copy({id(tensors[n]): k for n, k in kept_indices(graph, alive).items()})
        set_attributes(twin, attribute_changes(graph, alive))
        try:
            for seed in range(CHANCES if bench.drawn else 1):
                bench.call(twin, seed=seed)
        except Exception:
            return "breaks"
        return "differs"
    finally:
        bench.passes = before


def _norms_mix(graph: ChannelGraph, end: int) -> bool:
    """Whether a norm stands across channels that can go: in train() it would mix them.

    It is one operator in both modes. A batch norm of tokens (n, tokens, channels) is such a norm.
    """
    across = [
        factor
        for op in graph.ops[:end] if op.name in BATCH_NORMS and op.inputs
        for dim in (*op.inputs[0][:1], *op.inputs[0][2:])
        for factor in dim
    ]  # fmt: skip
    return any(f.atoms is not None and not graph.solution.all_frozen(f.atoms) for f in across)


def _same(graph: ChannelGraph, end: int, steps: Sequence[Step]) -> bool:
    """Whether train() runs the operators of eval(), with dropout at the most between them."""
    # Of a norm in train() the statistics come after its output.
    left = [(op.name, op.shapes[:1], op.scalars) for op in reversed(graph.ops[:end])]
    for step in steps:
        if left and (step.name, step.shapes[:1], step.scalars) == left[-1]:
            left.pop()
        elif step.name not in _ALONE:
            return False
    return not left
