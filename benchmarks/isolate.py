"""Run one measurement in a process of its own: its crash, hang or memory stays its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

import gancompress as gc


def peak_mb() -> float:
    """Return this process's peak resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def warm_up() -> None:
    """Load what the first trace and cut load, so that no measurement pays for it."""
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)).eval()
    x = torch.randn(1, 1, 2, 2)
    graph = gc.trace(module, x)
    plan = gc.random_plan(graph)
    small = gc.cut(module, plan, graph=graph)
    gc.wrap(module, x).apply(plan)
    gc.verify(module, small, x, plan=plan)


def _work(
    connection: Connection,
    measure: Callable[..., dict[str, Any]],
    arguments: Sequence[Any],
    site: Sequence[str],
) -> None:
    sys.path.extend(site)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    warm_up()
    before = peak_mb()
    try:
        row = measure(*arguments)
    except Exception as problem:
        row = {"status": "failed", "detail": f"{type(problem).__name__}: {problem}"[:400]}
    row["peak_mb"] = round(peak_mb() - before)
    connection.send(row)
    connection.close()


def isolated(
    measure: Callable[..., dict[str, Any]],
    arguments: Sequence[Any],
    *,
    limit_s: float,
    site: Sequence[str] = (),
) -> dict[str, Any]:
    """Return `measure(*arguments)` from another process, or what became of it.

    The process is forked from a server that has imported torch and never run it (threads of torch
    do not survive a fork). `peak_mb` is the growth of resident memory over that of an idle process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "scipy.sparse", "benchmarks.isolate"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, measure, arguments, site))
    start = time.perf_counter()
    process.start()
    theirs.close()
    row: dict[str, Any]
    try:
        if ours.poll(limit_s):
            row = ours.recv()
        else:
            row = {"status": "no result", "detail": f"stopped after {limit_s:.0f} s"}
    except EOFError:
        row = {"status": "failed", "detail": "the process died"}
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    row["wall_s"] = round(time.perf_counter() - start, 1)
    return row
