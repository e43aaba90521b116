"""A discriminator that keeps pace with the generator: narrower at each live cut, in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError, GraphError
from gancompress.graph.groups import Cost
from gancompress.graph.trace import trace
from gancompress.masks.budget import Budget
from gancompress.models.biggan import BigGANDiscriminator
from gancompress.models.config import BigGANConfig
from gancompress.target import Target
from gancompress.training.discriminator_shrink import Narrowing, fast_width
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.wrapping.widths import uniform_widths
from tests.training.nets import images, networks, recipe

FIRST = Cost(1000, 5000)
FOLLOWING = {"events": [0.4, 0.7], "discriminator": True}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def chain(*widths: int) -> nn.Sequential:
    """Convolutions of these widths, on images of one channel."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, o in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(i, o, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(1))


def stepped(network: nn.Module, x: Tensor) -> torch.optim.Adam:
    """An optimiser with moments of every parameter."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network(x).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(("kind", "now"), [("params", Cost(400, 1)), ("macs", Cost(1, 2000))])
def test_it_keeps_the_share_that_the_generator_keeps(kind: str, now: Cost) -> None:
    x = torch.randn(2, 1, 16, 16)
    network = chain(15, 30)
    network(x)
    cost = trace(network, x).cost()
    first = cost.params if kind == "params" else cost.macs
    narrowing = Narrowing(network, (x,), kind=kind)
    assert narrowing.follow(now, FIRST)
    left = trace(network, x).cost()
    share = (left.params if kind == "params" else left.macs) / first
    assert 0.3 < share <= 0.4
    assert narrowing.params == count(network) == left.params
    # The same share of every layer, give or take a channel.
    widths = [m.out_channels for m in network if isinstance(m, nn.Conv2d)]
    assert abs(2 * widths[0] - widths[1]) <= 2
    assert not narrowing.follow(now, FIRST)


@pytest.mark.parametrize(
    ("width", "size", "fast"),
    [(28, 64, 32), (32, 64, 32), (33, 64, 48), (3, 64, 16), (39, 40, 40), (13, 31, 13)],
)
def test_wide_layers_get_widths_that_kernels_like(width: int, size: int, fast: int) -> None:
    assert fast_width(width, size) == fast


def test_the_largest_channels_stay_with_their_moments() -> None:
    x = torch.randn(2, 1, 16, 16)
    network = chain(8, 12)
    network(x)
    with torch.no_grad():
        network[0].weight[3] *= 100
        network[0].weight[5] *= 50
    optimizer = stepped(network, x)
    weight = network[0].weight
    before, moment = weight.detach().clone(), optimizer.state[weight]["exp_avg"].clone()
    narrowing = Narrowing(network, (x,))
    assert narrowing.follow(Cost(400, 1), FIRST, [optimizer])
    kept = [int((before == row).flatten(1).all(1).nonzero()) for row in network[0].weight]
    assert {3, 5} <= set(kept)
    assert len(kept) < 8
    assert torch.equal(optimizer.state[network[0].weight]["exp_avg"], moment[kept])
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert held == [id(p) for p in network.parameters()]
    network(x).sum().backward()
    optimizer.step()


def test_a_biggan_discriminator_follows_twice_and_is_rebuilt_from_its_state() -> None:
    def made() -> BigGANDiscriminator:
        torch.manual_seed(0)
        return BigGANDiscriminator(BigGANConfig(32, n_classes=10, ch=8, dim_z=8, d_attn=(16,)))

    arguments = (torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
    network, twin = made(), made()
    narrowing = Narrowing(network, arguments)
    sizes = [narrowing.params]
    for left in (500, 200):
        assert narrowing.follow(Cost(left, 1), FIRST)
        sizes.append(narrowing.params)
        assert 0.85 * left / 1000 < sizes[-1] / sizes[0] < sizes[-2] / sizes[0]
        widths = {m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)}
        assert all(width % 16 == 0 for width in widths if width >= 32)
    again = Narrowing(twin, arguments)
    again.restore(narrowing.state())
    assert {k: v.shape for k, v in twin.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin.eval()(*arguments), network.eval()(*arguments))
    with pytest.raises(CheckpointError, match="damaged"):
        Narrowing(made(), arguments).restore("{}")


def test_out_of_reach_takes_what_can_go() -> None:
    x = torch.randn(2, 1, 16, 16)
    network = chain(8, 8)
    network(x)
    narrowing = Narrowing(network, (x,), min_channels=3)
    assert narrowing.follow(Cost(1, 1), FIRST)
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == [3, 3]
    assert not narrowing.follow(Cost(1, 1), FIRST)


def test_widths_are_multiples_and_uniform() -> None:
    x = torch.randn(2, 1, 16, 16)
    network = chain(32, 64)
    network(x)
    graph = trace(network, x)
    widths = uniform_widths(graph, Budget(Target("params", 0.3), graph.cost(), round_to=8))
    assert sorted(w % 8 for w in widths.values()) == [0, 0]
    assert graph.cost(widths).params <= 0.3 * graph.cost().params


class Equalised(nn.Module):
    """Weights scaled by their fan-in, and the standard deviation over the batch as a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.second = nn.Conv2d(13, 10, 3, padding=1)
        self.out = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x) * (2 / self.first.weight[0].numel()) ** 0.5)
        spread = h.std(0).mean().expand(len(x), 1, *x.shape[2:])
        h = nn.functional.conv2d(
            torch.cat([h, spread], 1),
            self.second.weight * (2 / self.second.weight[0].numel()) ** 0.5,
            padding=1,
        )
        return self.out(torch.relu(h).mean((2, 3)))


def normed(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), norm, nn.LeakyReLU(0.2), nn.Conv2d(16, 8, 3, padding=1),
        nn.Flatten(), nn.Linear(8 * 64, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "whole"),
    [
        (Equalised(), {"first"}),
        (normed(nn.LayerNorm([16, 8, 8])), {"0"}),
        (normed(nn.GroupNorm(1, 16)), {"0"}),
    ],
    ids=["equalised", "layer norm", "one group"],
)
def test_what_no_exact_cut_could_take_goes(network: nn.Module, whole: set[str]) -> None:
    """Scales by fan-in, deviations and norms over all channels change with the widths."""
    x = torch.randn(3, 1, 8, 8)
    graph = trace(network, x)
    assert all(graph.reason((f"{layer}.weight", 0)) for layer in whole)
    widths = {layer: len(network.get_submodule(layer).weight) for layer in whole}
    optimizer = stepped(network, x)
    narrowing = Narrowing(network, (x,))
    first = narrowing.params
    assert narrowing.follow(Cost(500, 1), FIRST, [optimizer])
    assert narrowing.follow(Cost(250, 1), FIRST, [optimizer])
    assert 0.15 * first < narrowing.params <= 0.25 * first
    assert all(len(network.get_submodule(n).weight) < width for n, width in widths.items())
    network(x).sum().backward()
    optimizer.step()


class OneWay(nn.Module):
    """Reads its images whole: there is no channel to take out."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.flatten(1))


def test_one_that_cannot_be_narrowed_stays_whole_and_the_log_says_so(tmp_path: Path) -> None:
    generator, _ = networks()
    discriminator = OneWay()
    with pytest.raises(GraphError, match="no channel of OneWay"):
        Narrowing(discriminator, (torch.randn(2, 1, 8, 8),))
    train(
        recipe(shrink=FOLLOWING, distill=[{"name": "pixel"}]),
        generator=generator, discriminator=discriminator, dataset=images(), out=tmp_path / "run",
        screen=Silent(),
    )  # fmt: skip
    assert count(discriminator) == 65
    assert "keeps its size: no channel of OneWay" in (tmp_path / "run" / "log.txt").read_text()


def test_a_cut_that_is_refused_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(2, 1, 16, 16)
    network = chain(16, 32)
    network(x)
    optimizer, said = stepped(network, x), []
    before = dict(network.named_parameters())
    narrowing = Narrowing(network, (x,), warn=said.append)

    def refuse(*args: object, **kwargs: object) -> None:
        raise GraphError("the cut network does not run")

    monkeypatch.setattr("gancompress.training.discriminator_shrink.operate", refuse)
    assert not narrowing.follow(Cost(400, 1), FIRST, [optimizer])
    assert said == ["the discriminator keeps its size: the cut network does not run"]
    after = dict(network.named_parameters())
    assert all(after[name] is tensor for name, tensor in before.items())
    assert narrowing.state() is None


def test_a_run_narrows_at_each_cut_and_says_so(tmp_path: Path) -> None:
    generator, discriminator = networks()
    whole = count(discriminator)
    train(
        recipe(shrink=FOLLOWING), generator=generator, discriminator=discriminator,
        dataset=images(), out=tmp_path / "run", screen=Silent(),
    )  # fmt: skip
    told = [json.loads(t) for t in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    sizes = [t["discriminator_params"] for t in told if t["event"] == "shrink"]
    assert whole > sizes[0] > sizes[1] >= sizes[-1] == count(discriminator)
    assert all("the discriminator to" in t["text"] for t in told if t["event"] == "shrink")


def test_a_frozen_one_stays_whole_and_the_log_says_so(tmp_path: Path) -> None:
    generator, discriminator = networks()
    whole = count(discriminator)
    train(
        recipe(shrink=FOLLOWING, discriminator={"policy": "frozen"}, distill=[{"name": "pixel"}]),
        generator=generator, discriminator=discriminator, dataset=images(), out=tmp_path / "run",
        screen=Silent(),
    )  # fmt: skip
    assert count(discriminator) == whole
    assert "keeps its size: it is frozen" in (tmp_path / "run" / "log.txt").read_text()


def test_a_student_of_fixed_size_has_no_cuts_to_follow() -> None:
    changes = {"kind": "distill", "student": {"init": "narrow"}, "finetune_steps": 0}
    with pytest.raises(ValueError, match="belong to kind prune"):
        recipe(**changes, shrink={"discriminator": True})
