"""Threads that wait for each other, on clocks that the test turns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from gancompress.training import thread_watch
from gancompress.training.thread_watch import (
    Clocks,
    ThreadWatch,
    fewer,
    run_delay,
    start_threads,
    watch_threads,
)


@dataclass
class Machine:
    """``cores`` cores, some of them held by neighbours; a step is 1 second of work."""

    cores: int
    neighbours: int = 0
    knows_waiting: bool = True
    threads: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    waited: float = 0.0
    changes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.threads = self.cores

    def set_threads(self, threads: int) -> None:
        self.threads = threads
        self.changes.append(threads)

    def watch(self, **options: object) -> ThreadWatch:
        clocks = Clocks(
            lambda: self.wall, lambda: self.cpu, lambda: self.waited if self.knows_waiting else None
        )
        return ThreadWatch(self.threads, set_threads=self.set_threads, clocks=clocks, **options)  # type: ignore[arg-type]

    def step(self) -> None:
        starved = max(0, self.threads + self.neighbours - self.cores)
        took = 1.0 / self.threads * (4.0 if starved else 1.0)
        self.wall += took
        self.cpu += took * (self.threads - starved / 2)
        self.waited += took * starved / 2

    def run(self, watch: ThreadWatch, steps: int) -> list[str]:
        said = []
        for _ in range(steps):
            self.step()
            said.append(watch.step())
        return [text for text in said if text]


def test_alone_nothing_changes() -> None:
    machine = Machine(cores=4)
    assert machine.run(machine.watch(), 300) == []
    assert machine.changes == []


@pytest.mark.parametrize("knows", [True, False])
def test_a_neighbour_that_comes_and_goes(knows: bool) -> None:
    machine = Machine(cores=2, knows_waiting=knows)
    watch = machine.watch()
    machine.run(watch, 20)
    machine.neighbours = 1
    said = machine.run(watch, 30)
    assert machine.threads == watch.threads == 1
    assert said[0].startswith("2 -> 1 threads")
    assert "rounding" in said[0]
    machine.neighbours = 0
    said = machine.run(watch, 500)
    assert machine.threads == 2
    assert said[-1].startswith("1 -> 2 threads: cores are free")


def test_a_neighbour_from_the_start() -> None:
    machine = Machine(cores=2, neighbours=1)
    machine.run(machine.watch(), 30)
    assert machine.threads == 1


def test_several_neighbours_among_many_cores() -> None:
    machine = Machine(cores=16, neighbours=3)
    machine.run(machine.watch(), 60)
    assert machine.threads == 13


def test_trials_in_vain_become_rare_and_are_said_once() -> None:
    machine = Machine(cores=2, neighbours=5)
    watch = machine.watch()
    # Whatever the number, one thread of two or one alone waits: fewer bring nothing.
    said = machine.run(watch, 600)
    assert len(said) == 1
    assert "do not help" in said[0]
    assert machine.threads == 2
    assert len(machine.changes) <= 16


def test_a_slow_step_alone_changes_nothing() -> None:
    machine = Machine(cores=4)
    watch = machine.watch()
    for turn in range(100):
        machine.run(watch, 1)
        if turn % 10 == 0:
            machine.wall += 30.0  # a checkpoint
    assert machine.changes == []


def test_a_number_that_the_user_chose_is_kept_and_the_shortage_said_once() -> None:
    machine = Machine(cores=2, neighbours=1)
    said = machine.run(machine.watch(fixed="OMP_NUM_THREADS is set"), 200)
    assert machine.changes == []
    assert len(said) == 1
    assert "OMP_NUM_THREADS is set" in said[0]


@pytest.mark.parametrize(
    ("threads", "ratio", "expected"), [(2, 1.5, 1), (2, 1.9, 1), (16, 15.0, 14), (8, 2.0, 4)]
)
def test_fewer(threads: int, ratio: float, expected: int) -> None:
    assert fewer(threads, ratio) == expected


def test_run_delay(tmp_path: Path) -> None:
    for name, text in (("1", "5 1500000000 9"), ("2", "5 500000000 9"), ("3", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(text)
    (tmp_path / "4").mkdir()
    assert run_delay(tmp_path) == 2.0
    assert run_delay(tmp_path / "absent") is None
    assert run_delay(tmp_path / "4") is None


def test_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(thread_watch, "usable_cores", lambda: 3)
    assert start_threads({})[0] == 3
    assert start_threads({"OMP_NUM_THREADS": "16"})[0] == 16
    monkeypatch.setattr(thread_watch, "usable_cores", lambda: 64)
    assert start_threads({})[0] == 16


def test_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(thread_watch, "usable_cores", lambda: 2)
    cpu = torch.device("cpu")
    watch = watch_threads(cpu, {})
    assert watch is not None
    assert (watch.threads, watch.fixed, set_to) == (2, "", [2])
    watch = watch_threads(cpu, {"MKL_NUM_THREADS": "4"})
    assert watch is not None
    assert (watch.threads, watch.fixed) == (4, "MKL_NUM_THREADS is set")
    assert watch_threads(torch.device("cuda"), {}) is None
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    watch = watch_threads(cpu, {})
    assert watch is not None
    assert watch.fixed
    monkeypatch.setattr(thread_watch, "usable_cores", lambda: 1)
    assert watch_threads(cpu, {}) is None
