"""Parts of a batch, blocks computed twice, and scaled losses change memory, not results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gancompress.errors import ConfigError
from gancompress.training import arithmetic, device_check
from gancompress.training.loss_scale import LossScale
from gancompress.training.recompute import blocks, recomputed
from gancompress.training.shares import WholeDraws, check_shares
from tests.training.nets import TinyDiscriminator, TinyGenerator, images, recipe
from tests.training.test_resume import Interrupting, digest, go


class Block(nn.Module):
    """Spectral and batch norm, whose buffers every forward moves, and dropout."""

    def __init__(self, ch: int) -> None:
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(ch, ch, 3, padding=1))
        self.norm = nn.BatchNorm2d(ch)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(torch.relu(self.norm(self.conv(x))))


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.body = nn.ModuleList(Block(4) for _ in range(3))
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        return self.head(x)


def pass_through(net: nn.Module, x: Tensor, again: bool) -> tuple[list[Tensor], list[Tensor], int]:
    """Gradients, buffers, and the numbers that autograd keeps until the backward pass."""
    kept = 0

    def keep(t: Tensor) -> Tensor:
        nonlocal kept
        kept += t.numel()
        return t

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        if again:
            with recomputed(net):
                out = net(x)
        else:
            out = net(x)
    before = kept
    out.square().mean().backward()
    return [p.grad for p in net.parameters()], list(net.buffers()), before  # type: ignore[misc]


def test_blocks_computed_twice_give_the_same_gradients_and_buffers() -> None:
    x = torch.randn(4, 1, 8, 8)
    found = {}
    for again in (False, True):
        torch.manual_seed(0)
        found[again] = pass_through(Deep().train(), x, again)
    for mine, theirs in zip(found[True][0] + found[True][1], found[False][0] + found[False][1]):
        assert torch.equal(mine, theirs)
    assert found[True][2] < 0.5 * found[False][2], "and less is kept"


def test_blocks_are_the_outermost_parts_and_nothing_is_left_on_them() -> None:
    net = Deep()
    assert blocks(net) == list(net.body)
    with recomputed(net):
        assert "forward" in vars(net.body[0])
    assert "forward" not in vars(net.body[0])
    flat = TinyDiscriminator()
    flat.body = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.Flatten())
    with pytest.raises(ConfigError, match="no blocks.*in TinyGenerator and TinyDiscriminator"):
        go(recipe(activation_checkpointing=True), None, discriminator=flat)


class Blocked(TinyGenerator):
    """The tiny generator with its middle as a block."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Sequential(
            nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
        )  # fmt: skip

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.linear(torch.cat([z, self.embed(y)], 1)).view(len(z), -1, 4, 4)
        x = nn.functional.interpolate(torch.relu(self.norm(x)), scale_factor=2)
        x = torch.relu(self.norm1(self.conv1(x)))
        return torch.tanh(self.conv2(x + self.middle(x)))


def test_a_run_with_blocks_computed_twice_is_the_run_without() -> None:
    """Masks, taps, cuts and the discriminator's blocks included."""

    def run(asked: bool) -> str:
        torch.manual_seed(0)
        generator, discriminator = Blocked(), TinyDiscriminator()
        discriminator.body = nn.Sequential(  # two layers: a block
            nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3, 1, 1), nn.Flatten()
        )
        plan = recipe(activation_checkpointing=asked)
        return digest(go(plan, None, generator=generator, discriminator=discriminator))

    assert run(True) == run(False)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_see_the_draws_of_the_whole(parts: int) -> None:
    def drawn(n: int, rng: torch.Generator) -> list[Tensor]:
        return [
            torch.rand(n, 1, 1, 1, generator=rng), torch.randint(-3, 4, (n, 1), generator=rng),
            torch.randn((n, 5), generator=rng), torch.rand(7, generator=rng),
        ]  # fmt: skip

    whole = drawn(8, torch.Generator().manual_seed(5))
    for part in range(parts):
        with WholeDraws(8 // parts, part, parts):
            mine = drawn(8 // parts, torch.Generator().manual_seed(5))
        for a, b in zip(mine[:3], whole[:3], strict=True):
            assert torch.equal(a, b[part::parts])
        assert torch.equal(mine[3], whole[3]), "what is no draw for the samples stays"


@pytest.mark.slow
def test_accumulated_runs_resume_bit_for_bit(tmp_path: Path) -> None:
    plan = recipe(accumulate=2)
    whole = digest(go(plan, None))
    assert go(plan, tmp_path / "run", dataset=Interrupting(6, 15)).exit_code == 75
    assert digest(go(plan, tmp_path / "run", resume="auto")) == whole


def test_parts_must_divide_the_batch() -> None:
    check_shares(8, 2, 4)
    with pytest.raises(ConfigError, match=r"batch=8 cannot be shared by accumulate=3.*batch=9"):
        go(recipe(accumulate=3), None)
    with pytest.raises(ConfigError, match=r"2 ranks and accumulate=3: for example batch=6"):
        check_shares(8, 2, 3)


def test_a_scale_halves_when_it_overflows_and_only_then() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], 0.1)
    scale = LossScale(torch.device("cpu"), on=True)
    start = scale.value
    for slope, sound, loss, expected in (
        (1.0, True, 1.0, (False, start)),
        (float("inf"), False, 1.0, (True, start / 2)),
        (float("inf"), False, float("nan"), (False, start / 2)),
    ):
        optimizer.zero_grad()
        scale.scaled((weight * slope).sum()).backward()
        scale.unscale([optimizer])
        if sound:
            assert weight.grad is not None
            assert weight.grad.tolist() == [1.0, 1.0]
        assert (scale.update(torch.tensor(loss), sound=sound), scale.value) == expected
    other = LossScale(torch.device("cpu"), on=True)
    other.load_state_dict(scale.state_dict())
    assert other.value == scale.value
    off = LossScale(torch.device("cpu"), on=False)
    assert off.state_dict() == {}
    assert off.update(torch.tensor(float("nan")), sound=False) is False


def test_float16_with_scaled_losses_trains_cuts_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With float32 under the name of float16: not every CPU has the real one."""
    monkeypatch.setattr(device_check, "fp16_lack", lambda device: "")
    monkeypatch.setitem(arithmetic._AUTOCAST, "fp16", torch.bfloat16)
    plan = recipe(precision="fp16")
    result = go(plan, None)
    assert all(bool(t.isfinite().all()) for t in result.generator.state_dict().values())
    assert go(plan, tmp_path / "run", dataset=Interrupting(6, 15)).exit_code == 75
    assert digest(go(plan, tmp_path / "run", resume="auto")) == digest(result)


def test_overflow_is_no_divergence() -> None:
    """Six steps in a row overflow; the run goes on without a rollback."""
    events: list[str] = []

    class Telling:
        def update(self, line: Any) -> None: ...

        def event(self, text: str) -> None:
            events.append(text)

    class Hot(TinyDiscriminator):
        calls = 0

        def forward(self, images: Tensor, y: Tensor) -> Tensor:
            out = super().forward(images, y)
            if out.requires_grad:
                Hot.calls += 1
                if Hot.calls <= 12:
                    out.register_hook(lambda g: g * float("inf"))
            return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_check, "fp16_lack", lambda device: "")
        patch.setitem(arithmetic._AUTOCAST, "fp16", torch.bfloat16)
        go(
            recipe(precision="fp16", distill=[], shrink={"events": []}), None,
            discriminator=Hot(), dataset=images(), screen=Telling(),
        )  # fmt: skip
    assert sum("overflow float16" in text for text in events) >= 4
    assert not any("rolled back" in text for text in events)


@pytest.mark.parametrize(
    ("setting", "named"),
    [({"precision": "fp16"}, "this CPU does not"), ({"tf32": True}, "TF32 needs an NVIDIA GPU")],
)
def test_what_the_device_has_not_is_refused_before_anything(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], named: str
) -> None:
    monkeypatch.setattr(device_check, "fp16_lack", lambda device: "this CPU does not")
    with pytest.raises(ConfigError, match=named):
        go(recipe(**setting), None)


def test_tf32_is_put_back() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with device_check.tensor_cores(not before):
        assert torch.backends.cuda.matmul.allow_tf32 is not before
    assert torch.backends.cuda.matmul.allow_tf32 is before
