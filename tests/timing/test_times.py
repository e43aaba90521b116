"""A latency target on a real network: met, kept through cuts and checkpoints, or refused."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import CheckpointError, ConfigError, TargetError
from gancompress.target import Setting, Target
from gancompress.timing import kept as cache
from gancompress.timing.limits import slow_remark
from gancompress.timing.network import at_batch, running, seconds_of, settled
from gancompress.timing.table import Row
from gancompress.timing.times import Times
from gancompress.wrapping import targets as fitting
from tests.timing.test_predicted import made_up

X = (2, 3, 8, 8)


def wide() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 48, 3, 1, 1), nn.ReLU(), nn.Conv2d(48, 48, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, 1, 1), nn.ReLU(), nn.Conv2d(48, 3, 3, 1, 1),
    ).eval()  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, float]:
    """A machine whose time is exactly 0.1 + 0.9 times the share of MACs that are left."""
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(tmp_path))
    machine = {"fixed": 0.1, "trials": 0.0}

    def timed(networks: Any, example: Any, traced: int, setting: Setting, **more: Any) -> Any:
        machine["trials"] += 1
        whole, small = (gc.trace(n, *example[0]).cost().macs for n in networks)
        return [1.0, machine["fixed"] + (1 - machine["fixed"]) * small / whole]

    def table(graph: Any, setting: Setting, unit: int, ragged: float) -> Any:
        return made_up(graph, setting.batch)

    monkeypatch.setattr(fitting, "seconds_of", timed)
    monkeypatch.setattr(fitting, "table_of", table)
    monkeypatch.setattr(fitting, "stair_unit", lambda graph, setting: (1, 1.0))
    return machine


def share(masked: gc.Masked) -> float:
    return masked.cost().macs / masked.original.macs


@pytest.mark.parametrize("asked", [1.5, 2.0, 4.0])
def test_the_goal_is_fitted_to_what_real_networks_take(made: Any, asked: float) -> None:
    masked = gc.wrap(wide(), torch.randn(X), target=f"latency={asked}x@cpu")
    masked.advance(1.0)
    assert 0.95 * asked <= 1 / (0.1 + 0.9 * share(masked)) <= 1.1 * asked
    made["trials"] = 0
    gc.wrap(wide(), torch.randn(X), target=f"latency={asked}x@cpu")
    assert made["trials"] == 0, "what was measured is kept"


def test_time_that_does_not_fall_is_refused_with_what_was_reached(made: Any) -> None:
    made["fixed"] = 0.6
    net = wide()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    with pytest.raises(
        TargetError, match=r"latency=3x@cpu.*out of reach.*others can hold: macs=2x"
    ):
        gc.wrap(net, torch.randn(X), target="latency=3x@cpu; macs=2x")
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_all_hold_together_and_after_a_live_cut(made: Any) -> None:
    net, x = wide(), torch.randn(X)
    masked = gc.wrap(net, x, target=["params=3x", "latency=2x@cpu"])
    masked.advance(0.5)
    masked.shrink()
    masked.advance(1.0)
    masked.shrink()
    small = masked.prune()
    assert sum(p.numel() for p in small.parameters()) <= masked.original.params / 3
    assert 1 / (0.1 + 0.9 * share(masked)) >= 1.9


def test_with_time_beside_them_macs_go_where_time_falls(
    monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    """Of two layers that multiply alike one takes ten times as long: it is cut more."""
    dear = (8, 8)

    def table(graph: Any, setting: Setting, unit: int, ragged: float) -> Any:
        known = made_up(graph, setting.batch)
        rows = {
            kind: Row(r.reads, r.writes, [[t * (10 if kind.space == dear else 1) for t in line]
                                          for line in r.seconds])
            for kind, r in known.rows.items()
        }  # fmt: skip
        return replace(known, rows=rows)

    monkeypatch.setattr(fitting, "table_of", table)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 32, 3, 1, 1), nn.Conv2d(32, 8, 3, 1, 1),
        nn.Upsample(None, 2), nn.Conv2d(8, 16, 3, 1, 1), nn.Conv2d(16, 3, 1),
    ).eval()  # fmt: skip
    found = {}
    for name, more in (("macs", []), ("both", ["latency=1.01x@cpu"])):
        masked = gc.wrap(net, torch.randn(2, 3, 4, 4), target=["macs=2x", *more])
        masked.advance(1.0)
        assert 0.45 <= share(masked) <= 0.5
        (late,) = (g.name for g in masked.graph.groups if g.size == 16)
        found[name] = masked.widths()[late]
        masked.unwrap()
    assert found["both"] < found["macs"], found


def test_a_resumed_run_goes_by_the_saved_measurements(
    made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = torch.randn(X)
    first = gc.wrap(wide(), x, target="latency=2x@cpu")
    state = json.loads(json.dumps(first.state_dict()))
    made["fixed"] = 0.3  # another machine
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(tmp_path / "other"))
    again = gc.wrap(wide(), x, target="latency=2x@cpu")
    assert again.budget is not None
    assert first.budget is not None
    goals = [next(iter(b.times.values())).goal for b in (first.budget, again.budget)]
    assert goals[0] != pytest.approx(goals[1])
    again.load_state_dict(state)
    assert next(iter(again.budget.times.values())).goal == goals[0]
    other = gc.wrap(wide(), x, target="latency=3x@cpu")
    with pytest.raises(CheckpointError, match=re.escape("saved with targets latency=2x@cpu")):
        other.load_state_dict(state)
    damaged = {**state, "measured": {"units": {}, "times": [{"full": 1}]}}
    with pytest.raises(CheckpointError, match="not the measurements"):
        gc.wrap(wide(), x, target="latency=2x@cpu").load_state_dict(damaged)


def test_a_later_plan_cannot_ask_for_time() -> None:
    masked = gc.wrap(wide(), torch.randn(X))
    with pytest.raises(ConfigError, match="give it to wrap"):
        masked.plan("latency=2x@cpu")


def test_auto_measures_nothing_for_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(fitting, "stair_unit", refuse)
    masked = gc.wrap(wide(), torch.randn(X), target="params=2x", round_to="auto")
    assert masked.budget is not None
    assert not masked.budget.units


def test_auto_rounds_widths_where_the_machine_has_stairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "stair_unit", lambda graph, setting: (8, 1.4))
    masked = gc.wrap(wide(), torch.randn(X), target="macs=2x", round_to="auto")
    assert masked.budget is not None
    steps = set(masked.budget.units.values())
    assert max(steps) > 1
    masked.advance(1.0)
    assert all(w % masked.budget.unit(n) == 0 for n, w in masked.plan().widths.items())
    assert 0.98 / 2 <= masked.cost().macs / masked.original.macs <= 1 / 2
    saved = masked.state_dict()
    monkeypatch.setattr(fitting, "stair_unit", lambda graph, setting: (1, 1.0))
    again = gc.wrap(wide(), torch.randn(X), target="macs=2x", round_to="auto")
    again.load_state_dict(saved)
    assert again.budget is not None
    assert again.budget.units == masked.budget.units


def test_words_that_are_no_rounding_are_refused() -> None:
    with pytest.raises(ConfigError, match="round_to='eights'"):
        gc.wrap(wide(), torch.randn(X), round_to="eights")


@pytest.mark.parametrize("engine", ["eager", "onnxruntime"])
def test_real_networks_are_timed_at_the_batch_asked_for(engine: str) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="the extra gancompress[onnx] is not installed")
        pytest.importorskip("onnxscript", reason="the extra gancompress[onnx] is not installed")
    setting = settled(Setting("cpu", 3, engine))
    net, tiny, x = wide().train(), nn.Conv2d(3, 3, 1), torch.randn(X)
    state = torch.random.get_rng_state()
    big, small = seconds_of([net, tiny], ((x,), {}), 2, setting, seconds=0.05)
    assert big > small > 0
    assert net.training
    assert torch.equal(state, torch.random.get_rng_state())


def test_two_of_one_device_contradict_each_other_however_they_are_spelt(made: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("auto is a GPU here")
    with pytest.raises(ConfigError, match=r"contradict each other.*latency=3x@cpu.*holds both"):
        gc.wrap(wide(), torch.randn(X), target=["latency=2x", "latency=3x@cpu"])


def test_what_can_hold_beside_one_out_of_reach_was_reached(made: Any) -> None:
    made["fixed"] = 0.6
    asked = ["latency=3x@cpu", "latency=2.5x@cpu,batch=2", "latency=1.2x@cpu,batch=4", "macs=2x"]
    with pytest.raises(TargetError, match=r"latency=3x.*others can hold: ([^.]|\.\d)*\.") as error:
        gc.wrap(wide(), torch.randn(X), target=asked)
    can = str(error.value).partition("can hold: ")[2]
    assert "latency=1.2x" in can
    assert "macs=2x" in can
    assert "latency=2.5x" not in can


@pytest.mark.slow
def test_a_compiled_network_is_timed_and_does_the_same() -> None:
    """Needs a C++ compiler, like the engine itself."""
    try:
        setting = settled(Setting("cpu", 3, "compiled"))
    except ConfigError as error:
        pytest.skip(str(error))
    net, example = wide(), ((torch.randn(X),), {})
    inputs = at_batch(example, 2, 3, "cpu")
    with running(net, inputs, setting) as call:
        assert torch.allclose(call(), net(*inputs[0]), atol=1e-5)  # type: ignore[arg-type]
    assert min(seconds_of([net, wide()], example, 2, setting, seconds=0.01)) > 0


def test_a_compiler_that_is_not_there_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"No working C\+\+ compiler found\).*engine=eager"):
        gc.wrap(wide(), torch.randn(X), target="latency=2x@cpu,engine=compiled")


def test_inputs_are_repeated_to_the_batch() -> None:
    x, scale, label = torch.arange(6.0).view(2, 3), torch.tensor(2.0), torch.tensor([1, 2])
    (a, b), more = at_batch(((x, scale), {"y": label}), 2, 5, "cpu")
    assert torch.equal(a, torch.cat([x, x, x])[:5])
    assert b.ndim == 0
    assert more["y"].tolist() == [1, 2, 1, 2, 1]
    assert len(at_batch(((x,), {}), 2, 1, "cpu")[0][0]) == 1


def test_a_network_of_one_batch_size_says_so() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).view(2, 4)

    with pytest.raises(ConfigError, match=r"Fixed does not run at latency@cpu,batch=3"):
        seconds_of([Fixed()], ((torch.randn(2, 4),), {}), 2, Setting("cpu", 3))


def test_devices_and_engines_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="on cpu and cuda, not on 'mps'"):
        settled(Setting("mps"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="no device cuda:1 here"):
        settled(Setting("cuda:1"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed.*\[onnx\]"):
        settled(Setting("cpu", 1, "onnxruntime"))


def test_why_time_does_not_follow() -> None:
    net = nn.Sequential(
        *[m for _ in range(6) for m in (nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())]
    ).eval()
    graph = gc.trace(net, torch.randn(1, 8, 2, 2))
    small = dict.fromkeys(graph.widths, 2)
    setting = Setting("cpu")
    said = slow_remark(graph, small, setting, before=1e-4, after=1e-5)
    assert not said
    said = slow_remark(graph, small, setting, before=1.1e-5, after=1e-5)
    assert "starting operators" in said
    said = slow_remark(graph, small, setting, before=11.0, after=10.0)
    assert "narrow layers" in said


def test_a_damaged_cache_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(tmp_path))
    assert cache.kept(Setting("cpu"), "a", lambda: 1) == 1
    assert cache.kept(Setting("cpu"), "a", lambda: 2) == 1
    assert cache.kept(Setting("cpu", engine="onnxruntime"), "a", lambda: 3) == 3
    for file in (tmp_path / "timing").glob("*.json"):
        file.write_text("{")
    assert cache.kept(Setting("cpu"), "a", lambda: 2) == 2
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(tmp_path / "timing" / "x.json"))
    (tmp_path / "timing" / "x.json").write_text("")
    assert cache.kept(Setting("cpu"), "b", lambda: 4) == 4, "a cache that cannot be written"


def test_times_survive_json() -> None:
    graph = gc.trace(wide(), torch.randn(X))
    target = Target("latency", 0.5, Setting("cpu", 2))
    times = Times(target, made_up(graph), 3.0, 0.4, 1.0, 0.5)
    again = Times.from_json(json.loads(json.dumps(times.to_json())))
    assert again == times
    assert again.seconds(graph, {}) == times.seconds(graph, {})
