"""Memory that runs out in a step: the same batch in smaller parts, and nothing half updated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import OutOfMemoryError, lack_of_memory
from gancompress.training import memory
from gancompress.training.log import Silent
from gancompress.training.memory import kept, next_parts, parts_again
from gancompress.training.steps import Steps
from tests.training.nets import images, recipe
from tests.training.ranks import TAUGHT, furthest, run
from tests.training.test_resume import digest, go

PLAN = recipe(checkpoint_every=4)
PLACES: dict[str, tuple[Any, str, int]] = {
    "the first forward": (nn.functional, "conv2d", 1),
    "the discriminator's update": (torch.optim.Adam, "step", 1),
    "the generator's loss": (nn.functional, "conv2d", 5),
    "a backward": (torch.Tensor, "backward", 2),
    "the generator's update": (torch.optim.Adam, "step", 2),
}


@contextmanager
def lacking(place: str, steps: set[int], times: int = 1) -> Iterator[None]:
    """Let memory run out at ``place`` in an update at one of ``steps``, ``times`` times."""
    home, name, at = PLACES[place]
    own, update = getattr(home, name), Steps.update
    left, seen, active = times, 0, False

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal left, seen
        seen += active
        if active and left and seen >= at:
            left -= 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return own(*args, **kwargs)

    def entered(self: Steps, state: Any, figures: Any) -> bool:
        nonlocal seen, active
        seen, active = 0, state.step in steps
        try:
            return update(self, state, figures)
        finally:
            active = False

    patch = pytest.MonkeyPatch()
    patch.setattr(home, name, counted)
    patch.setattr(Steps, "update", entered)
    try:
        yield
    finally:
        patch.undo()


class Listening(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def event(self, text: str) -> None:
        self.told.append(text)


def test_wherever_it_runs_out_in_a_step_the_run_goes_on_alike() -> None:
    """Half of a step has been made in some: none of it stays. The parts are told."""
    found = set()
    for place in PLACES:
        screen = Listening()
        with lacking(place, {6}):
            found.add(digest(go(PLAN, None, screen=screen)))
        (said,) = [text for text in screen.told if "parts" in text]
        assert "from step 5 on each batch of 8 goes through in 2 parts" in said, place
    assert len(found) == 1
    assert found != {digest(go(PLAN, None))}


def test_the_effective_batch_stays() -> None:
    """In a network without norms the run is the undivided one, up to the order of sums."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        whole = run(**TAUGHT)
        for times in (1, 2):
            with lacking("a backward", {6}, times):
                assert furthest(run(**TAUGHT), whole) < 1e-5
    finally:
        torch.set_default_dtype(before)


def test_parts_are_remembered_by_checkpoints(tmp_path: Path) -> None:
    def stopped(out: Path | None, at: int) -> Any:
        with lacking("a backward", {6}):
            return go(PLAN, out, dataset=Raising(at), resume=None)

    whole = digest(stopped(None, 99))
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path / "run", 14)
    assert digest(go(PLAN, tmp_path / "run", resume="auto")) == whole


class Raising:
    """The images; batch number ``at`` never comes."""

    def __init__(self, at: int) -> None:
        self.inner, self.left = images(), at
        self.n_classes, self.channels, self.resolution = 3, 1, 8

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Tensor) -> Any:
        self.left -= len(indices) == 8
        if self.left == 0:
            raise KeyboardInterrupt
        return self.inner.batch(indices)


def test_one_sample_that_does_not_fit_ends_the_run_which_goes_on_later(tmp_path: Path) -> None:
    with (
        lacking("a backward", {6}, times=10**6),
        pytest.raises(OutOfMemoryError, match=r"at step 6, with 1 sample at a time: .*--resume"),
    ):
        go(PLAN, tmp_path / "run")
    again = go(PLAN, tmp_path / "run", resume="auto")
    assert digest(again) == digest(go(PLAN, None))


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Steps, "update", failing)
    with pytest.raises(RuntimeError, match="do not fit"):
        go(PLAN, None)


def test_of_several_ranks_none_goes_back_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "world", lambda: 2)
    with lacking("a backward", {6}), pytest.raises(RuntimeError, match="allocate"):
        go(PLAN, None)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libx.so: failed to map segment: Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory, says a user"), False),
    ],
)
def test_what_counts_as_lack_of_memory(error: Exception, found: bool) -> None:
    assert (lack_of_memory(error) is not None) == found


def test_parts_share_a_batch_evenly() -> None:
    for batch in range(1, 49):
        for ranks in (n for n in (1, 2, 3) if batch % n == 0):
            share = batch // ranks
            for parts in (n for n in range(1, share + 1) if share % n == 0):
                more = next_parts(batch, ranks, parts + 1, at_least=2 * parts)
                assert (more is None) == (parts == share)
                assert more is None or (share % more == 0 and more > parts)
    assert next_parts(12, 1, 2, at_least=2) == 2
    assert next_parts(9, 1, 2, at_least=2) == 3
    assert parts_again(recipe(batch=8), 4) == 4
    assert parts_again(recipe(batch=6), 4) == 6
    assert parts_again(recipe(batch=8, accumulate=2), 1) == 2


class Known(nn.Module):
    """Whose backward pass keeps z, the exponentials and the output: 480 bytes a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 50), nn.Linear(50, 64)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.b(torch.exp(self.a(z)))).view(-1, 1, 8, 8)


@pytest.mark.parametrize("n", [1, 7])
def test_what_a_backward_keeps_is_counted_once_and_without_weights(n: int) -> None:
    net = Known()
    with kept(net) as found:
        net(torch.randn(n, 6))
    assert found == [n * 4 * (6 + 50 + 64)]


@pytest.mark.slow
def test_a_step_that_is_sure_not_to_fit_begins_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    each: list[int] = []
    own = memory.kept_by_a_sample

    def measured(*given: Any) -> int:
        each.append(own(*given))
        return each[-1]

    monkeypatch.setattr(memory, "kept_by_a_sample", measured)
    monkeypatch.setattr(memory, "memory_here", lambda: None)
    plain = digest(go(PLAN, None))
    assert not each
    monkeypatch.setattr(memory, "memory_here", lambda: 8 * (each or [2**30])[0])
    assert digest(go(PLAN, None)) == plain, "looking leaves no trace"
    screen = Listening()
    monkeypatch.setattr(memory, "memory_here", lambda: 3 * each[0])
    got = digest(go(PLAN, None, screen=screen))
    assert got == digest(go(recipe(checkpoint_every=4, accumulate=4), None))
    assert any("from step 0 on each batch of 8 goes through in 4 parts" in t for t in screen.told)
    monkeypatch.setattr(memory, "memory_here", lambda: each[0] - 1)
    with pytest.raises(OutOfMemoryError, match=r"at least .* for one sample"):
        go(PLAN, None)
