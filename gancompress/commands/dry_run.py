"""``--dry-run``: the plan, the sizes that it leads to, and whether the target can be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text
from torch import nn

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.subject import Subject
from gancompress.modules.copying import duplicate
from gancompress.recipes.plugin_entries import check_plugins
from gancompress.recipes.schema import Recipe
from gancompress.target import Setting, parse_targets
from gancompress.timing.limits import slow_remark
from gancompress.timing.network import seconds_of, settled


@dataclass(frozen=True)
class Speed:
    """Seconds of one call before and after, measured; ``asked``: times faster, None: not asked."""

    setting: str
    before: float
    after: float
    asked: float | None = None

    @property
    def times(self) -> float:
        """How many times faster."""
        return self.before / self.after

    def __str__(self) -> str:
        return f"{self.before * 1e3:.2f} -> {self.after * 1e3:.2f} ms a call ({self.setting})"


@dataclass(frozen=True)
class Prediction:
    """Widths before and after, and what they cost; nothing has been trained.

    ``off``: how far each target is from being met exactly; ``remarks``: where time does not follow.
    """

    before: dict[str, int]
    after: dict[str, int]
    cost_before: Any
    cost_after: Any
    off: dict[str, float]
    speeds: tuple[Speed, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def off_target(self) -> float:
        """How far the farthest target is off: 0.01 is 1 % larger than asked."""
        return max(self.off.values())

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, for the record beside a run."""
        return {
            "params": [self.cost_before.params, self.cost_after.params],
            "macs": [self.cost_before.macs, self.cost_after.macs],
            "off": self.off,
            "speeds": [asdict(s) for s in self.speeds],
            "remarks": list(self.remarks),
        }


def predict(subject: Subject, recipe: Recipe, device: str = "cpu") -> Prediction:
    """Let the schedule run to its end on a copy of the generator, by weight magnitude.

    The sizes are those of the finished run to within its 2 %; which group gives how many channels
    depends on what training finds. Time is measured, on the original and on the network so cut.

    Raises:
        ConfigError: a device or an engine of a target is not there.
        TargetError: the target is out of reach; the smallest size is in the message.
    """
    import torch

    import gancompress as gc
    from gancompress.tasks.noise import Noise
    from gancompress.training.reconstructed import Inputs
    from gancompress.training.student import narrow_student

    assert recipe.target is not None
    example, network = subject.example(), duplicate(subject.generator).cpu()
    if recipe.kind == "distill":
        graph = gc.trace(network, example)
        drawn = Inputs(Noise(subject.sampler), recipe, torch.device("cpu"))
        small, plan, _ = narrow_student(network, example, recipe, drawn)
        after = plan.widths
    else:
        masked = gc.wrap(
            network,
            example=example,
            target=recipe.target,
            allocation=recipe.allocation,
            round_to=recipe.round_to,
            min_channels=recipe.min_channels,
            site=recipe.site,
            include=recipe.include,
            exclude=recipe.exclude,
            seed=recipe.seed,
        )
        masked.advance(1.0)
        graph, after = masked.graph, masked.plan().widths
        small = masked.prune(check=False)
    cost_before, cost_after = graph.cost(), graph.cost(after)
    speeds = measured_speeds(subject, recipe.target, small, graph.batch, device)
    off = off_targets(recipe.target, cost_before, cost_after, speeds)
    settings = settings_of(recipe.target, device)
    remarks = (
        slow_remark(graph, after, setting, before=s.before, after=s.after)
        for setting, s in zip(settings, speeds, strict=True)
    )
    return Prediction(
        graph.widths, after, cost_before, cost_after, off, speeds, tuple(filter(None, remarks))
    )


def settings_of(target: str, device: str) -> list[Setting]:
    """Return where time is measured: as the targets say, else one sample, eager, on ``device``."""
    asked = [t.setting for t in parse_targets(target) if t.setting is not None]
    own = Setting(device if device.startswith("cuda") else "cpu")
    return [settled(s) for s in asked or [own]]


def measured_speeds(
    subject: Subject, target: str, small: nn.Module, samples: int, device: str
) -> tuple[Speed, ...]:
    """Time the generator of ``subject`` against ``small`` where ``target`` says, by turns."""
    asked = [1 / t.fraction for t in parse_targets(target) if t.kind == "latency"]
    settings = settings_of(target, device)
    found = []
    for i, setting in enumerate(settings):
        before, after = seconds_of(
            [subject.generator, small],
            (subject.example(samples), {}),
            samples,
            setting,
            seconds=0.6 if asked else 0.1,
        )
        found.append(Speed(str(setting), before, after, asked[i] if asked else None))
    return tuple(found)


def off_targets(target: str, before: Any, after: Any, speeds: Sequence[Speed]) -> dict[str, float]:
    """Return how far each target is off: 0.01 is 1 % larger or slower than asked."""
    timed = iter([s for s in speeds if s.asked is not None])
    found = {}
    for one in parse_targets(target):
        if one.kind == "latency":
            found[str(one)] = 1 / one.fraction / next(timed).times - 1
        else:
            found[str(one)] = one.of(after) / (one.fraction * one.of(before)) - 1
    return found


def show_prediction(
    subject: Subject, recipe: Recipe, *, kind: str, json: bool, device: str = "cpu"
) -> None:
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
    found = predict(subject, recipe, device)
    if json:
        sizes = {
            name: {
                "before": getattr(found.cost_before, name),
                "after": getattr(found.cost_after, name),
            }
            for name in ("params", "macs")
        }
        groups = {n: {"before": w, "after": found.after[n]} for n, w in found.before.items()}
        more = {
            "target": recipe.target,
            "reachable": True,
            "off_target": found.off_target,
            "speed": [asdict(s) for s in found.speeds],
            "remarks": list(found.remarks),
        }
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
    rows += [
        (f"ms a call, {s.setting}", f"{s.before * 1e3:.2f}", f"{s.after * 1e3:.2f}",
         f"{s.times:.2f}x faster")
        for s in found.speeds
    ]  # fmt: skip
    decides = "training" if recipe.search is None else "the search"
    widths = f"Widths by weight magnitude; {decides} decides which groups give more"
    if recipe.kind == "distill":
        widths = "The run has these widths"
    protocol = (
        f"Target {recipe.target}: reachable, {found.off_target:+.2%} off. {widths}. "
        "MACs = FLOPs / 2. Time: measured on this machine now, shortest of several, by turns."
    )
    title = f"{recipe.name} on {subject.spec}: plan (dry run, nothing is written)"
    stdout().print(Table(title, ("group", "channels", "planned", "change"), tuple(rows), protocol))
    for remark in found.remarks:
        note(f"warning: {remark}")
    note("next: the same command without --dry-run")
