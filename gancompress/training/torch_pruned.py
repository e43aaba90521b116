"""A student whose channels torch-pruning chose, cut by our own surgeon."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from gancompress.errors import GraphError, TargetError
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.masks.budget import Budget
from gancompress.models.layers import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    SpectralConv2d,
    SpectralLinear,
    spectral_weight,
)
from gancompress.modules.copying import duplicate
from gancompress.modules.nested import tensors_of
from gancompress.recipes.schema import Recipe
from gancompress.wrapping import wrap

STEPS = 64  # of the pruning ratio, between 0 and 1
IMPORTANCES = {
    "magnitude": partial(tp.importance.GroupMagnitudeImportance, p=2),
    "taylor": tp.importance.GroupTaylorImportance,
}


def torch_pruned_student(
    teacher: nn.Module, example: tuple[Any, ...], recipe: Recipe
) -> tuple[nn.Module, Plan, dict[str, Any]]:
    """Return ``teacher`` at ``recipe.target`` with the channels that torch-pruning keeps (ours).

    Its pruner (by default the same ratio in every layer, group magnitude; Fang et al. 2023) works
    on a plain twin, since it can handle neither spectral norms nor norms of another author. What it
    keeps there is cut out of the teacher itself. Also returns the plan and the verification of the
    cut.

    Raises:
        GraphError: torch-pruning cannot follow the network, or its coupling contradicts ours.
        TargetError: it stops short of the target.
    """
    assert recipe.target is not None
    masked = wrap(duplicate(teacher), example, target=recipe.target, seed=recipe.seed)
    graph = masked.graph
    budget = masked.budget
    assert budget is not None
    trial = _Trial(teacher, graph, example, recipe.student.pruner.importance)
    keep = _chosen(trial, budget)
    plan = Plan.of(graph, keep)
    small = masked.prune(plan)
    return small, plan, {} if masked.verification is None else vars(masked.verification)


def plain_twin(generator: nn.Module) -> nn.Module:
    """Return the same function in eval mode, of torch's own layers where BigGAN has its own.

    Spectral norms are folded into their weights, conditional norms are taken apart.
    """
    twin = duplicate(generator).to(memory_format=torch.contiguous_format)
    twin.eval()
    _replace(twin)
    return twin.requires_grad_(True)


class _ConditionalNorm(nn.Module):
    def __init__(self, old: ConditionalBatchNorm2d) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(len(old.stored_mean), eps=old.eps, affine=False)
        _copy_statistics(self.norm, old)
        self.gain, self.bias = old.gain, old.bias

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        scale = 1 + self.gain(condition)
        return self.norm(input) * scale[:, :, None, None] + self.bias(condition)[:, :, None, None]


def _replace(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        new: nn.Module = child
        if isinstance(child, SpectralConv2d):
            sizes = child.in_channels, child.out_channels, child.kernel_size[0]
            new = nn.Conv2d(*sizes, padding=child.kernel_size[0] // 2, bias=False)
        elif isinstance(child, SpectralLinear):
            new = nn.Linear(child.in_features, child.out_features, bias=False)
        elif isinstance(child, ConditionalBatchNorm2d):
            new = _ConditionalNorm(child)
        elif isinstance(child, BatchNorm2d):
            new = nn.BatchNorm2d(len(child.gain), eps=child.eps)
            new.weight, new.bias = child.gain, child.bias
            _copy_statistics(new, child)
        if isinstance(child, SpectralConv2d | SpectralLinear):
            folded = spectral_weight(
                child.weight.detach(), child.u0, child.sv0, eps=child.sn_eps, update=False
            )
            assert isinstance(new, nn.Conv2d | nn.Linear)
            new.weight = nn.Parameter(folded)
            new.bias = child.bias  # type: ignore[assignment]
        new.eval()
        setattr(module, name, new)
        _replace(new)


def _copy_statistics(new: nn.BatchNorm2d, old: BatchNorm2d | ConditionalBatchNorm2d) -> None:
    assert new.running_mean is not None
    assert new.running_var is not None
    new.running_mean.copy_(old.stored_mean)
    new.running_var.copy_(old.stored_var)


@dataclass(frozen=True)
class _Trial:
    """Lets torch-pruning prune a twin of ``teacher`` once."""

    teacher: nn.Module
    graph: ChannelGraph
    example: tuple[Any, ...]
    importance: str

    def pruned(self, ratios: dict[str, float]) -> dict[str, list[int]]:
        """Return what it keeps at a ratio for each group."""
        twin = plain_twin(self.teacher)
        layers = {p: m for p, m in twin.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        paths = {id(m): p for p, m in layers.items()}
        writes = {n.rpartition(".")[0] for g in self.graph.groups for n, d in g.slots if d == 0}
        fixed = [m for p, m in layers.items() if p not in writes]
        left = {p: list(range(m.weight.shape[0])) for p, m in layers.items()}
        try:
            pruner = tp.BasePruner(
                twin,
                self.example,  # type: ignore[arg-type]
                importance=IMPORTANCES[self.importance](),
                ignored_layers=list[nn.Module](fixed),
                pruning_ratio=0.0,
                pruning_ratio_dict={  # type: ignore[arg-type]
                    layers[path]: ratios[g.name]
                    for g in self.graph.groups
                    for path in sorted({n.rpartition(".")[0] for n, d in g.slots if d == 0})
                    if path in layers and g.name in ratios
                },
            )
            if self.importance == "taylor":
                output = tensors_of(twin(*self.example))[0]
                output.square().mean().backward()
            for group in pruner.step(interactive=True) or ():
                for dependency, channels in group:
                    path = paths.get(id(dependency.target.module))
                    if path is not None and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                        gone = set(map(int, channels))
                        left[path] = [c for i, c in enumerate(left[path]) if i not in gone]
                group.prune()
            with torch.no_grad():
                twin(*self.example)
        except Exception as error:
            name = type(self.teacher).__name__
            raise GraphError(f"torch-pruning cannot prune {name}: {error}") from error
        return _by_group(self.graph, left)


def _chosen(trial: _Trial, budget: Budget) -> dict[str, list[int]]:
    """Return the channels that torch-pruning keeps, by group, at the mildest ratio that will do."""
    graph = trial.graph

    def cost(widths: dict[str, int]) -> float:
        return budget.load(graph, {**graph.widths, **widths})

    # Rising strength: one more step of the ratio for one group after the other, so that the network
    # lands near its target and all layers have the same ratio up to one step. What a strength will
    # cost is foretold from which groups answer at all; each trial takes seconds.
    half = trial.pruned(dict.fromkeys(graph.widths, 0.5))
    answering = [g.name for g in graph.groups if len(half[g.name]) < g.size]
    for strength in range(len(answering) * (STEPS - 1)):
        level, extra = divmod(strength, len(answering))
        # One channel at least stays; a little more than one, since the library rounds down.
        most = {n: 1 - 1.001 / graph[n].size for n in answering}
        ratios = {n: min((level + (i < extra)) / STEPS, most[n]) for i, n in enumerate(answering)}
        foretold = {n: int(graph[n].size * (1 - r)) for n, r in ratios.items()}
        if cost({**graph.widths, **foretold}) <= budget.goal:
            kept = trial.pruned(ratios)
            if cost({n: len(k) for n, k in kept.items()}) <= budget.goal:
                return kept
    raise _beyond(budget, answering)


def _beyond(budget: Budget, answering: list[str]) -> TargetError:
    return TargetError(
        f"torch-pruning cannot reach {'; '.join(map(str, budget.targets))}: it "
        f"prunes only {', '.join(answering) or 'nothing'}. Ask for less"
    )


def _by_group(graph: ChannelGraph, left: dict[str, list[int]]) -> dict[str, list[int]]:
    keep: dict[str, list[int]] = {}
    for group in graph.groups:
        found: set[tuple[int, ...]] = set()
        for (name, dim), index in group.slots.items():
            path = name.rpartition(".")[0]
            if dim == 0 and path in left and name.endswith(".weight"):
                alive = set(left[path])
                found.add(tuple(i for i, row in enumerate(index) if alive.issuperset(row.tolist())))
        if len(found) > 1:
            raise GraphError(f"torch-pruning keeps other channels in the writers of {group.name!r}")
        keep[group.name] = list(found.pop()) if found else list(range(group.size))
    return keep
