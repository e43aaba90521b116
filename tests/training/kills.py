"""Kill runs at random instants and let them go on: ``python -m tests.training.kills PLAN KILLS``.

A process of its own, which never computes a gradient: torch refuses those in a child that is
forked afterwards, and a run that fails at its first step cannot be killed at its tenth.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from tests.training.test_resume import PLANS, digest, go


def start(name: str, out: Path) -> int:
    """Fork a child that goes on with the run in ``out`` and writes its digest; return its pid."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        result = go(PLANS[name], out, resume="auto")
        (out / "digest").write_text(f"{digest(result)} exit {result.exit_code}")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def whole(name: str, out: Path) -> tuple[str, float]:
    """Return the digest of a run that nothing disturbs, and its seconds."""
    started = time.monotonic()
    _, status = os.waitpid(start(name, out), 0)
    assert status == 0, status
    return (out / "digest").read_text(), time.monotonic() - started


def chain(name: str, out: Path, longest: float, rng: random.Random) -> tuple[int, int]:
    """Start and kill until a run ends by itself; return the kills, and those in mid-run."""
    kills = late = 0
    while True:
        child = start(name, out)
        time.sleep(rng.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"a run failed after {kills} kills: status {status}"
            return kills, late
        kills += 1
        late += any((out / "ckpt").glob("step_*"))


def main(name: str, wanted: int) -> None:
    """Go through chains until there were so many kills; each must end like the whole run."""
    torch.set_num_threads(1)
    rng, kills, late, trial = random.Random(name), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        want, lasting = whole(name, Path(folder) / "whole")
        while kills < wanted:
            trial += 1
            out = Path(folder) / str(trial)
            # Most are killed, and each chain ends.
            more, more_late = chain(name, out, 1.5 * lasting, rng)
            kills, late = kills + more, late + more_late
            found = (out / "digest").read_text()
            assert found == want, f"chain {trial} ({kills} kills): {found}, not {want}"
    assert late, "no run was killed after its first checkpoint"
    print(
        f"{kills} kills, {late} after a checkpoint, in {trial} chains: all end like the whole run"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
