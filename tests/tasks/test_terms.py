"""What tasks ask for beside the adversarial loss: their own terms, and the recipe's losses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.data.order import stream
from gancompress.errors import ConfigError
from gancompress.modules.spectra import log_mel
from gancompress.recipes.schema import Recipe
from gancompress.tasks import TASKS, Draw, Sources
from gancompress.tasks.infer import inferred_task
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Batch
from gancompress.tasks.split import Split
from gancompress.tasks.unpaired import Unpaired
from gancompress.training.log import Silent
from gancompress.training.loop import train


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Negatives:
    """x (n, 1, 8, 8), its target the negative."""

    n_classes = None

    def __len__(self) -> int:
        return 20

    def pairs(self, indices: Tensor) -> tuple[Tensor, Tensor, None]:
        x = (0.1 + indices.float() / 40).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        return x, -x, None


class Named(list[str]):
    """A data set of files with these names."""

    @property
    def names(self) -> list[str]:
        return list(self)


def draw(number: int, n: int = 4) -> Draw:
    return Draw(n, number, stream(0, "test", number))


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_weight_of_a_loss_multiplies_it(weight: float) -> None:
    plan = Recipe.model_validate(
        {
            "name": "tiny", "kind": "distill", "summary": "for tests", "steps": 1, "batch": 4,
            "adversarial": {"weight": 0.0}, "student": {"init": "teacher"}, "log_every": 1,
            "losses": [{"name": "l1", "weight": weight}], "sample_every": 0,
            "distill": [{"name": "pixel", "weight": 0.0}], "precision": "float32",
        }
    )  # fmt: skip
    network = Times(1.0)
    task = TASKS.bind("paired")(Sources(dataset=Negatives()))
    train(plan, generator=network, task=task, screen=Silent())
    inputs = task.batch(Draw(4, 0, stream(0))).inputs[0]
    # |x f + x| by f is |x|.
    assert float(network.factor.grad) == pytest.approx(weight * float(inputs.mean()), rel=1e-5)


def unpaired(**weights: float) -> Unpaired:
    sampler: Any = SimpleNamespace(image=lambda raw: raw, files={}, parts=())
    return Unpaired(sampler, None, Split(8, 0), reverse=Times(0.5), **weights)


def test_terms_of_unpaired_pictures_by_hand() -> None:
    x, real = torch.full((2, 1, 4, 4), 0.8), torch.full((2, 1, 4, 4), -0.2)
    batch = Batch((x,), extras={"wanted domain": real})
    output = torch.full((2, 1, 4, 4), 0.4)
    found = unpaired(cycle=10.0, identity=3.0).terms(batch, output, Times(3.0))
    # Back is 0.2, against 0.8; the wanted domain becomes -0.6, against -0.2.
    assert {k: v.item() for k, v in found.items()} == pytest.approx(
        {"cycle": 10 * 0.6, "identity": 3 * 0.4}
    )
    assert unpaired().terms(batch, output, Times(3.0)) == {}


def test_domains_without_pairs_meet_in_another_way_each_epoch() -> None:
    pictures = torch.arange(8).view(8, 1, 1, 1).expand(8, 1, 2, 2)

    class Numbered:
        def __len__(self) -> int:
            return 8

        def batch(self, indices: Tensor) -> tuple[Tensor, None]:
            return pictures[indices].float(), None

    sampler: Any = SimpleNamespace(
        at=lambda i, rng: (i,), labels=lambda inputs: None, draws_labels=False, parts=()
    )
    task = Unpaired(
        sampler,
        Numbered(),
        Split(8, 3, 0.0),
    )
    met: set[tuple[int, int]] = set()
    for number in range(8):
        ours = task.batch(draw(number)).inputs[0].tolist()
        theirs = task.real(draw(number)).output[:, 0, 0, 0].tolist()
        met |= set(zip(ours, theirs, strict=True))
    assert len(met) > 8, "each input would always meet the same picture"


def test_mels_of_a_vocoder_are_of_the_rate_and_the_bands_asked_for() -> None:
    torch.manual_seed(0)
    pieces = torch.randn(3, 1, 1024) * 0.3
    given = {"n_fft": 256, "hop": 64, "n_mels": 20, "low": 50.0, "high": 3000.0}

    class Sound:
        rate, length, n_classes = 8000, 1024, None

        def __len__(self) -> int:
            return 3

        def batch(self, indices: Tensor) -> tuple[Tensor, None]:
            return pieces[indices], None

    task = TASKS.bind({"name": "vocoder", **given})(Sources(dataset=Sound()))
    batch = task.batch(draw(0, 2))
    assert batch.wanted is not None
    torch.testing.assert_close(batch.inputs[0], log_mel(batch.wanted, rate=8000, **given))


def sampler(classes: int = 3) -> InputSampler:
    return InputSampler(
        lambda n, rng: (
            torch.randn(n, 4, generator=rng), torch.randint(classes, (n,), generator=rng)
        ),
        ["test"],
        label_index=1,
        n_classes=classes,
    )  # fmt: skip


def test_latents_to_look_at_show_a_class_a_column_and_are_not_those_measured_on() -> None:
    task = Noise(sampler(), None, seed=5)
    shown = task.preview(4)
    assert shown.inputs[1].view(-1, 4).tolist() == [[0, 1, 2, 0]] * 10
    assert torch.equal(shown.inputs[0], task.preview(4).inputs[0])
    measured = torch.cat([b.inputs[0] for b in task.held_out(40, 16)])
    assert not torch.isin(measured, shown.inputs[0]).any()


def test_images_of_each_step_are_others_until_all_were_seen() -> None:
    images = torch.arange(12).view(12, 1, 1, 1).expand(12, 1, 4, 4).byte()
    task = Noise(sampler(), ArrayDataset(images), seed=2)
    seen = torch.cat([task.real(draw(number)).output[:, 0, 0, 0] for number in range(3)])
    assert len(seen.unique()) == 12


@pytest.mark.parametrize(
    ("names", "task"), [(["a.png", "b.png"], "paired"), (["c.png", "d.png"], "unpaired")]
)
def test_equal_names_say_pairs(names: list[str], task: str) -> None:
    reads: Any = SimpleNamespace(files={"a": 0, "b": 1})
    assert inferred_task(Sources(sampler=reads, dataset=Named(names))) == task


def test_names_of_which_some_are_equal_say_nothing() -> None:
    reads: Any = SimpleNamespace(files={"a": 0, "b": 1})
    with pytest.raises(ConfigError, match=r"1 of the inputs .*\(b\).*--task unpaired"):
        inferred_task(Sources(sampler=reads, dataset=Named(["a.png", "c.png"])))
