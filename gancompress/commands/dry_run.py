"""``--dry-run``: the plan, the sizes that it leads to, and whether the target can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.text import Text

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.subject import Subject
from gancompress.modules.copying import duplicate
from gancompress.recipes.plugin_entries import check_plugins
from gancompress.recipes.schema import Recipe


@dataclass(frozen=True)
class Prediction:
    """Widths before and after, and what they cost; nothing has been trained."""

    before: dict[str, int]
    after: dict[str, int]
    cost_before: Any
    cost_after: Any
    off_target: float


def predict(subject: Subject, recipe: Recipe) -> Prediction:
    """Let the schedule run to its end on a copy of the generator, by weight magnitude.

    The sizes are those of the finished run to within its 2 %; which group gives how many channels
    depends on what training finds.

    Raises:
        TargetError: the target is out of reach; the smallest size is in the message.
    """
    import torch

    import gancompress as gc
    from gancompress.target import Target
    from gancompress.tasks.noise import Noise
    from gancompress.training.reconstructed import Inputs
    from gancompress.training.student import narrow_student

    assert recipe.target is not None
    example, network = subject.example(), duplicate(subject.generator).cpu()
    if recipe.kind == "distill":
        graph = gc.trace(network, example)
        drawn = Inputs(Noise(subject.sampler), recipe, torch.device("cpu"))
        after = narrow_student(network, example, recipe, drawn)[1].widths
    else:
        masked = gc.wrap(
            network,
            example=example,
            target=recipe.target,
            allocation=recipe.allocation,
            round_to=recipe.round_to,
            min_channels=recipe.min_channels,
            site=recipe.site,
            seed=recipe.seed,
        )
        masked.advance(1.0)
        graph, after = masked.graph, masked.plan().widths
    before, cost_before, cost_after = graph.widths, graph.cost(), graph.cost(after)
    target = Target.parse(recipe.target)
    wanted = target.fraction * target.of(cost_before)
    return Prediction(before, after, cost_before, cost_after, target.of(cost_after) / wanted - 1)


def show_prediction(subject: Subject, recipe: Recipe, *, kind: str, json: bool) -> None:
    """Print what a run of ``recipe`` would lead to; write nothing.

    Raises:
        ConfigError: a plug-in or an option of the recipe is wrong, as in the run.
        TargetError: the target is out of reach.
    """
    check_plugins(recipe)
    plain = {"recipe": recipe.name, "model": subject.spec, "steps": recipe.steps, "dry_run": True}
    if recipe.target is None:
        params = sum(p.numel() for p in subject.generator.parameters())
        if json:
            emit(kind, {**plain, "params": params})
        else:
            text = (
                f"{recipe.name}: {recipe.steps} steps of {recipe.batch} images, {params:,} params"
            )
            stdout().print(Text(f"{text}. No target: nothing is cut"), soft_wrap=True)
        return
    found = predict(subject, recipe)
    if json:
        sizes = {
            name: {
                "before": getattr(found.cost_before, name),
                "after": getattr(found.cost_after, name),
            }
            for name in ("params", "macs")
        }
        groups = {n: {"before": w, "after": found.after[n]} for n, w in found.before.items()}
        more = {"target": recipe.target, "reachable": True, "off_target": found.off_target}
        emit(kind, {**plain, **more, **sizes, "groups": groups})
        return
    from gancompress.reporting.tables import Table, fewer, si

    rows = [
        (name, str(width), str(found.after[name]), fewer(width, found.after[name], "fewer"))
        for name, width in found.before.items()
    ]
    old, new = found.cost_before, found.cost_after
    rows.append(("parameters", si(old.params), si(new.params), fewer(old.params, new.params)))
    rows.append(("MACs an image", si(old.macs), si(new.macs), fewer(old.macs, new.macs)))
    widths = "Widths by weight magnitude; training decides which groups give more"
    if recipe.kind == "distill":
        widths = "The run has these widths"
    protocol = (
        f"Target {recipe.target}: reachable, {found.off_target:+.2%} off. {widths}. "
        "MACs = FLOPs / 2."
    )
    title = f"{recipe.name} on {subject.spec}: plan (dry run, nothing is written)"
    stdout().print(Table(title, ("group", "channels", "planned", "change"), tuple(rows), protocol))
    note("next: the same command without --dry-run")
