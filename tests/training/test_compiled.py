"""`compile: true`: one graph with masks in it, made again after each cut."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import gancompress as gc
from gancompress.errors import ConfigError
from gancompress.masks.sensitivity import observe
from gancompress.training import device_check
from tests.training.nets import networks, recipe
from tests.training.test_resume import go


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compile without a compiler, whole graphs only; tells what was compiled."""
    torch._dynamo.reset()
    made: list[Any] = []
    compiled = partial(torch.compile, backend="aot_eager", fullgraph=True)

    def noting(module: Any) -> Any:
        made.append(module)
        return compiled(module)

    monkeypatch.setattr(torch, "compile", noting)
    return made


def test_masks_are_part_of_one_graph_and_feel_the_same(compilations: list[Any]) -> None:
    felt = []
    for compiled in (False, True):
        generator = networks()[0]
        inputs = generator.sample_inputs(4, torch.Generator().manual_seed(0))
        masked = gc.wrap(generator, inputs, target="params=2x")
        run = generator
        if compiled:
            for mask in masked.masks.values():
                mask.watch()
            run = torch.compile(generator)
        run(*inputs).square().mean().backward()
        observe(masked.masks.values())
        felt.append({n: m.sensitivity.clone() for n, m in masked.masks.items()})
    for name, value in felt[0].items():
        assert value.any()
        torch.testing.assert_close(felt[1][name], value)


@pytest.mark.slow
def test_a_compiled_run_is_compiled_again_at_each_cut(compilations: list[Any]) -> None:
    plan = recipe(compile=True, distill=[], importance={"name": "fisher"})
    result = go(plan, None)
    assert len(compilations) == 4, "at the start, after two cuts, and when the masks are gone"
    plain = go(plan.model_copy(update={"compile": False}), None)
    assert result.plan == plain.plan
    ours, theirs = result.generator.state_dict(), plain.generator.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4)


def test_what_does_not_go_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="leave activation_checkpointing out"):
        recipe(compile=True, activation_checkpointing=True)
    with pytest.raises(ValidationError, match="leave batch_norm=synced out"):
        recipe(compile=True, batch_norm="synced")
    monkeypatch.setattr(device_check, "which", lambda name: None)
    with pytest.raises(ConfigError, match="no C\\+\\+ compiler"):
        go(recipe(compile=True), None)
