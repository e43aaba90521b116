"""Locks: of all who want a folder one gets it, and what is left behind is no dead end."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from gancompress.errors import ConfigError
from gancompress.training import lock
from gancompress.training.lock import Lock, current

RACERS = 4


def prepare(folder: Path) -> Trial:
    """Each trial is a race for a folder in which somebody has left a lock, or nobody has."""
    lock.LEASE = 0.3  # type: ignore[misc]
    lock.BEAT = 0.05  # type: ignore[misc]
    place = folder / "run"
    me = current()
    gone, alive = _dead(), os.getppid()

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        host = me.host
        left = {
            "nothing": None,
            "a dead process": f"{gone} {host} boot={me.boot} start=1 space={me.space}\n",
            "a number used again": f"{alive} {host} boot={me.boot} start=7 space={me.space}\n",
            "number 1 of another start": f"1 {host} boot={me.boot} start=7 space={me.space}\n",
            "another host, silent": f"{gone} elsewhere boot=b start=1 space=2\n",
            "another container, silent": f"1 {host} boot={me.boot} start=1 space=9\n",
            "NUL bytes": "\0" * 64,
            "half a line": f"{gone} {host} boo",
            "nothing in it": "",
            "noise": bytes(rng.randrange(256) for _ in range(80)).decode("latin-1"),
            "an earlier version": f"{gone} {host}\n",
        }
        kind = list(left)[number % len(left)]
        if (text := left[kind]) is not None:
            (place / "lock").write_text(text, encoding="utf-8")
        winners = _race(place, folder / "won")
        if winners != 1:
            raise BrokenPromiseError(f"{kind}: {winners} of {RACERS} hold the folder")
        if (place / "lock").exists():
            raise BrokenPromiseError(f"{kind}: the lock is still there")
        return kind

    return trial


def _race(place: Path, won: Path) -> int:
    """Let processes take one lock at one moment, and hold it; return how many got it."""
    shutil.rmtree(won, ignore_errors=True)
    won.mkdir()
    gate_out, gate_in = os.pipe()
    over_out, over_in = os.pipe()
    children = []
    for _ in range(RACERS):
        child = os.fork()
        if not child:
            try:
                os.close(gate_in)
                os.close(over_in)
                os.read(gate_out, 1)  # returns when the parent closes it
                mine = Lock(place / "lock")
                try:
                    mine.take()
                except ConfigError:
                    (won / f"{os.getpid()}-lost").touch()
                    os._exit(0)
                (won / f"{os.getpid()}-won").touch()
                os.read(over_out, 1)
                mine.release()
            finally:
                os._exit(0)
        children.append(child)
    os.close(gate_out)
    os.close(gate_in)
    end = time.monotonic() + 20
    while len(list(won.iterdir())) < RACERS and time.monotonic() < end:
        time.sleep(0.005)
    found = len(list(won.glob("*-won")))
    told = len(list(won.iterdir()))
    os.close(over_in)
    os.close(over_out)
    for child in children:
        os.waitpid(child, 0)
    if told < RACERS:
        raise BrokenPromiseError(f"{RACERS - told} racers never ended")
    return found


def _dead() -> int:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


ROW = Row(
    "Locks",
    "Of four processes that want one folder at one moment exactly one gets it, whatever lock was "
    "left there: dead, reused, of another host or container, empty, NUL bytes, noise",
    1_000,
    prepare,
    sample=11,
)
