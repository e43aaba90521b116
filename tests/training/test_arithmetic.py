"""How a run computes is decided where it runs, told, recorded, and kept on resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.data.inputs import InputSampler
from gancompress.modules.machine import Bf16
from gancompress.tasks.noise import Noise
from gancompress.training import arithmetic, optimizer_by_name
from gancompress.training.arithmetic import choose_layout, choose_precision, place, settle
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.optimizer_by_name import fused

from .nets import TinyDiscriminator, TinyGenerator, images, networks, recipe

CPU = torch.device("cpu")


def chosen(
    asked: str, native: bool | None, ratio: float | None = None, earlier: str | None = None
) -> tuple[str, str, str]:
    def measure() -> float:
        assert ratio is not None, "nothing had to be measured"
        return ratio

    return choose_precision(
        asked, CPU, earlier=earlier, support=lambda device: Bf16(native, "these flags"),
        ratio=measure,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("native", "ratio", "precision"),
    [
        (True, None, "bf16"), (False, None, "float32"),
        (None, 0.5, "bf16"), (None, 1.05, "bf16"), (None, 1.5, "float32"),
    ],
)  # fmt: skip
def test_auto(native: bool | None, ratio: float | None, precision: str) -> None:
    found, why, warning = chosen("auto", native, ratio)
    assert (found, warning) == (precision, "")
    assert "these flags" in why


def test_what_is_asked_for_is_obeyed_and_emulation_is_said_with_its_price() -> None:
    assert chosen("float32", True)[0] == "float32"
    assert chosen("bf16", True) == ("bf16", "asked for", "")
    assert chosen("bf16", None, 0.9)[2] == ""
    found, _, warning = chosen("bf16", False, 5.31)
    assert found == "bf16"
    assert "5.3 times" in warning
    assert "these flags" in warning


def test_a_resumed_run_keeps_its_choice_and_says_what_would_be_chosen_here() -> None:
    assert chosen("auto", True, earlier="bf16")[2] == ""
    found, _, warning = chosen("auto", False, earlier="bf16")
    assert found == "bf16"
    assert "float32" in warning
    found, _, warning = chosen("auto", True, earlier="float32")
    assert found == "float32"
    assert "bf16" in warning


def test_memory_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_layout("auto", CPU, "float32")[0] is True
    assert choose_layout(False, CPU, "float32") == (False, "asked for")
    assert choose_layout("auto", torch.device("mps"), "float32")[0] is False
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert choose_layout("auto", torch.device("cuda"), "bf16")[0] is True
    assert choose_layout("auto", torch.device("cuda"), "float32")[0] is False
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_layout("auto", CPU, "float32")[0] is False


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Conv2d(4, 6, 3)
        self.up = nn.ConvTranspose2d(6, 4, 4)
        self.volume = nn.Conv3d(2, 3, 3)
        self.normed = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 6, 3))
        self.start = nn.Parameter(torch.randn(1, 4, 5, 5))
        self.modulated = nn.Parameter(torch.randn(1, 6, 4, 3, 3))
        self.blur = nn.Buffer(torch.ones(1, 2, 3, 3))


def test_only_weights_of_convolutions_have_a_memory_format() -> None:
    net = Everything()
    before = {name: (p, p.detach().clone()) for name, p in net.named_parameters()}
    place(net, CPU, torch.channels_last)
    flat = (net.flat.weight, net.up.weight, net.normed.parametrizations.weight.original)
    for weight in flat:
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert not weight.is_contiguous()
    assert net.volume.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(t.is_contiguous() for t in (net.start, net.modulated, net.blur, net.flat.bias))
    for name, parameter in net.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
    place(net, CPU, torch.contiguous_format)
    assert all(p.is_contiguous() for p in net.parameters())


class Modulated(nn.Module):
    """A convolution whose weight (1, o, i, k, k) is scaled by image and shaped with view."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(1, o, i, 3, 3) / 9), nn.Linear(6, i)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = (self.weight * self.style(z).view(n, 1, c, 1, 1)).view(-1, c, 3, 3)
        return F.conv2d(x.reshape(1, n * c, h, w), weight, padding=1, groups=n).view(n, -1, h, w)


class StyleGenerator(nn.Module):
    """z (n, 6) to images (n, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 8, 8, 8))
        self.a, self.rgb = Modulated(8, 10), nn.Conv2d(10, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.a(self.start.repeat(len(z), 1, 1, 1), z)
        return self.rgb(F.leaky_relu(x, 0.2)).tanh()

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(n, 6, generator=rng),)


class ViewGenerator(TinyGenerator):
    """Needs its activations in the usual order."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.linear(torch.cat([z, self.embed(y)], 1)).view(len(z), -1, 4, 4)
        x = self.conv1(F.interpolate(self.norm(x), scale_factor=2))
        return torch.tanh(self.conv2(x.view(x.shape[0], -1).view(x.shape).relu()))


class TrainingViewGenerator(ViewGenerator):
    """The same, in training only."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return (ViewGenerator if self.training else TinyGenerator).forward(self, z, y)


class ViewDiscriminator(nn.Module):
    """Shapes its weight, as hand-written spectral norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Linear(4 * 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        weight = weight / torch.linalg.matrix_norm(weight.view(len(weight), -1), 2)
        return self.out(F.conv2d(self.first(x), weight, padding=1).flatten(1))


def settled(generator: nn.Module, discriminator: nn.Module | None = None, **changes: Any) -> Any:
    changes = {"channels_last": "auto"} | changes
    task = Noise(InputSampler.of(generator))
    return settle(recipe(**changes), task, CPU, generator=generator, discriminator=discriminator)


def layout_of(net: nn.Module) -> set[bool]:
    """Whether weights of convolutions wider than one channel lie in channels last."""
    return {
        not m.weight.is_contiguous()
        for m in net.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) and m.in_channels > 1
    }


def test_networks_that_can_are_in_channels_last() -> None:
    G, D = networks()
    found = settled(G, D)
    assert found.channels_last
    assert found.layout == torch.channels_last
    assert layout_of(G) == {True}


@pytest.mark.parametrize("kind", [ViewGenerator, TrainingViewGenerator])
@pytest.mark.parametrize("asked", ["auto", True])
def test_a_generator_that_cannot_stays_contiguous_and_the_reason_is_told(
    kind: type[TinyGenerator], asked: object
) -> None:
    G = kind()
    G.eval()
    state = {name: value.clone() for name, value in G.state_dict().items()}
    found = settled(G, channels_last=asked)
    assert not found.channels_last
    assert layout_of(G) == {False}
    assert "the generator fails" in found.channels_last_why
    assert not G.training
    assert all(torch.equal(value, state[name]) for name, value in G.state_dict().items())


def test_a_discriminator_that_cannot_keeps_both_contiguous() -> None:
    G, _ = networks()
    found = settled(G, ViewDiscriminator())
    assert not found.channels_last
    assert layout_of(G) == {False}
    assert "the discriminator fails" in found.channels_last_why


def test_what_fails_in_any_format_is_not_blamed_on_the_format() -> None:
    class Broken(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            raise ValueError("never runs")

    found = settled(Broken())
    assert not found.channels_last
    assert "never runs" not in found.channels_last_why


def test_modulated_weights_train_under_auto(tmp_path: Path) -> None:
    done = train(
        recipe(channels_last="auto", precision="auto", augment=[], adversarial={"weight": 0.0},
               distill=[{"name": "pixel"}], steps=4, finetune_steps=1),
        generator=StyleGenerator(), out=tmp_path / "run", screen=Silent(),
    )  # fmt: skip
    assert done.exit_code == 0
    assert done.verified is not None
    assert done.verified["passed"]


def test_the_choice_is_logged_recorded_and_kept_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(native: bool, **more: Any) -> None:
        monkeypatch.setattr(arithmetic, "bf16_support", lambda device: Bf16(native, "a test"))
        G, D = networks()
        train(
            recipe(precision="auto"), generator=G, discriminator=D, dataset=images(),
            out=tmp_path, screen=Silent(), **more,
        )  # fmt: skip

    def told() -> list[dict[str, Any]]:
        lines = (tmp_path / "events.jsonl").read_text().splitlines()
        return [e for e in map(json.loads, lines) if e["event"] == "arithmetic"]

    run(False)
    env = json.loads((tmp_path / "env.json").read_text())["arithmetic"]
    assert (env["precision"], env["precision_why"]) == ("float32", "auto: a test")
    assert "float32" in told()[0]["text"]
    run(True, resume="auto")
    env = json.loads((tmp_path / "env.json").read_text())["arithmetic"]
    assert env["precision"] == "float32"
    assert "auto would choose bf16 here" in told()[-1]["text"]


def test_fused_adam_is_asked_for_only_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.optim.Adam

    def without(params: Any, **options: Any) -> Any:
        if options.get("fused"):
            raise RuntimeError("`fused=True` requires all the params to be on supported devices")
        return real(params, **options)

    assert not fused([torch.zeros(2, dtype=torch.complex64)])
    optimizer_by_name._fused_works.cache_clear()
    monkeypatch.setattr(torch.optim, "Adam", without)
    try:
        assert not fused([torch.zeros(2)])
        G, D = networks()
        train(
            recipe(steps=2, finetune_steps=0), generator=G, discriminator=D, dataset=images(),
            screen=Silent(),
        )  # fmt: skip
    finally:
        optimizer_by_name._fused_works.cache_clear()


def test_layouts_train_alike() -> None:
    """Same numbers to rounding, whatever the order in memory."""
    ends: list[Tensor] = []
    for last in (False, True):
        G, D = TinyGenerator(), TinyDiscriminator()
        torch.manual_seed(1)
        for p in (*G.parameters(), *D.parameters()):
            nn.init.normal_(p, std=0.1)
        done = train(
            recipe(channels_last=last, steps=2, finetune_steps=0, shrink={"events": []}),
            generator=G, discriminator=D, dataset=images(), screen=Silent(),
        )  # fmt: skip
        ends.append(torch.cat([p.detach().flatten() for p in done.generator.parameters()]))
    assert ends[0].shape == ends[1].shape
    assert float((ends[0] - ends[1]).abs().max()) < 0.02
