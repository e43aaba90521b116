"""Kill random ranks at random instants: ``python -m tests.training.rank_kills KILLS``.

Two ranks train together; when one is killed the other must end by itself, soon, and both are
started again. Each chain of kills ends like the run that nothing disturbs, bit for bit. Children
are forked, see `tests.training.kills`.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from torch import distributed

from gancompress.errors import RanksError
from tests.training.ranks import run

SOON = 20.0
"""Seconds in which the other rank must be gone."""


def start(out: Path, number: int, meet: Path) -> int:
    """Fork one rank that goes on with the run in ``out``; return its pid."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        distributed.init_process_group(
            "gloo", init_method=f"file://{meet}", rank=number, world_size=2,
            timeout=datetime.timedelta(seconds=60),
        )  # fmt: skip
        said = run(out=str(out))
        (out.parent / f"{out.name}.{number}.json").write_text(json.dumps(said["tensors"]))
        status = said["exit"]
    except RanksError:
        status = 75
    except BaseException as error:
        # The other may die while they meet.
        status = 75 if isinstance(error, RuntimeError) and "onnect" in str(error) else 1
        if status == 1:
            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def attempt(
    out: Path, meet: Path, kill_after: float | None, rng: random.Random
) -> tuple[list[int | None], float]:
    """Run both ranks once; return how they ended (None: killed), and the seconds until the last.

    As torchrun does, the other one gets SIGTERM, which a step looks at when it is over.
    """
    children = [start(out, number, meet) for number in range(2)]
    began = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        began = time.monotonic()
        victim = rng.randrange(2)
        os.kill(children[victim], signal.SIGKILL)
        time.sleep(0.05)
        os.kill(children[1 - victim], signal.SIGTERM)
    ends = [os.waitpid(child, 0)[1] for child in children]
    codes = [None if os.WIFSIGNALED(s) else os.waitstatus_to_exitcode(s) for s in ends]
    return codes, time.monotonic() - began


def main(wanted: int) -> None:
    """Go through chains until there were so many kills."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    rng, kills, late, trial, slowest = random.Random(0), 0, 0, 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes, lasting = attempt(folder / "whole", folder / "meet", None, rng)
        assert codes == [0, 0], codes
        want = (folder / "whole.0.json").read_text()
        while kills < wanted:
            trial += 1
            out, turn = folder / f"run{trial}", 0
            while True:
                turn += 1
                meet = folder / f"meet{trial}.{turn}"
                codes, seconds = attempt(out, meet, rng.uniform(0.0, 1.3 * lasting), rng)
                if codes == [0, 0]:
                    break
                assert set(codes) <= {0, 75, None}, codes
                assert seconds < SOON, seconds
                kills += None in codes
                late += any((out / "ckpt").glob("step_*"))
                slowest = max(slowest, seconds)
            for number in range(2):
                found = (folder / f"{out.name}.{number}.json").read_text()
                assert found == want, f"chain {trial}: rank {number} ended otherwise"
    assert late, "none was killed after its first checkpoint"
    print(
        f"{kills} kills of one of two ranks, {late} after a checkpoint, in {trial} chains: the "
        f"other was gone within {slowest:.1f} s, and all end like the whole run"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
