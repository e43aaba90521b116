"""B8: one of two ranks dies, torchrun starts both again, and the run ends as if none had."""

from __future__ import annotations

import datetime
import faulthandler
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from torch import distributed
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import go, recipe_of
from gancompress.training.signals import preemptible

KINDS = ("prune", "distill", "train")
RESTARTS = 3
SILENT = 20.0
"""Seconds after which a rank gives the others up."""
HUNG = 100.0
"""Seconds after which a rank says where it is."""


def rank(kind: str, out: str, victim: int, moments: tuple[float, ...]) -> None:
    """Go on with the run in ``out`` as one rank; ``victim`` dies at its moment of each start."""
    # The agent's own handlers are not those of a rank, which torchrun starts as a new program.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, signal.SIG_DFL)
    turn, number = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    if turn < len(moments) and number == (victim + turn) % 2:
        # SIGALRM, to which nobody listens: the system ends the process on the spot.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, moments[turn])
    faulthandler.dump_traceback_later(HUNG, repeat=True)
    code = 1
    try:
        distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=SILENT))
        with preemptible():
            made = recipe_of(kind, sample_every=forked.EVERY)
            code = go(made, Path(out), resume="auto").exit_code
        if code == 0:
            distributed.barrier()
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        if code:
            os._exit(code)  # the agent waits for what a rank that ends well returns


def torchrun(kind: str, out: Path, victim: int, moments: tuple[float, ...]) -> Callable[[], None]:
    """Return what does the work of torchrun: its agent, whose ranks are forked from here."""

    def launch() -> None:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=2, rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", run_id=out.name, max_restarts=RESTARTS,
            start_method="fork", monitor_interval=0.05,
        )  # fmt: skip
        elastic_launch(config, rank)(kind, str(out), victim, moments)

    return launch


def launched(launch: Callable[[], None], told: Path) -> float:
    """Let a child do it; return its seconds. What it says goes to the file ``told``.

    Raises:
        BrokenPromiseError: it hangs, or gives up.
    """
    started = time.monotonic()
    child = os.fork()
    if not child:
        code = 1
        try:
            log = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            launch()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        code = forked.ended(child)
    except BrokenPromiseError as error:
        raise BrokenPromiseError(f"{error}: {_last(told)}") from error
    if code:
        raise BrokenPromiseError(f"torchrun gives up after {RESTARTS} restarts: {_last(told)}")
    return time.monotonic() - started


def _last(told: Path) -> str:
    return " | ".join(told.read_text(errors="replace").split("\n")[-12:])[-500:]


def prepare(folder: Path) -> Trial:
    """Run each kind once on two ranks; in each trial one of them dies, once to three times."""
    forked.load_all()
    told = folder / "told.txt"
    found: dict[str, tuple[str, float]] = {}
    for kind in KINDS:
        lasting = launched(torchrun(kind, folder / kind, 0, ()), told)
        found[kind] = forked.digest(folder / kind), lasting
    out = folder / "out"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        kind = KINDS[number % len(KINDS)]
        want, lasting = found[kind]
        deaths = rng.randint(1, RESTARTS)
        moments = tuple(max(1e-3, rng.uniform(0.0, lasting)) for _ in range(deaths))
        launched(torchrun(kind, out, rng.randrange(2), moments), told)
        if (ended := forked.digest(out)) != want:
            raise BrokenPromiseError(f"{kind}, dead after {moments}: {ended}, not {want}")
        return f"{kind}, up to {deaths} death{'s' * (deaths > 1)}"

    return trial


ROW = Row(
    "B8",
    "When one of two ranks dies at a random instant, once to three times, the other ends, torchrun "
    "starts both again, and the run ends as the unbroken one, without a hang",
    50,
    prepare,
    sample=1,
    forks=True,
)
