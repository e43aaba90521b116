"""Run one measurement in a forked process: its crash, hang or memory stays its own."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn


def peak_mb() -> float:
    """Return this process's peak resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _work(connection: Connection, measure: Callable[[], dict[str, Any]]) -> None:
    before = peak_mb()
    try:
        row = measure()
    except Exception as problem:
        row = {"status": "failed", "detail": f"{type(problem).__name__}: {problem}"[:400]}
    row["peak_mb"] = round(peak_mb() - before)
    connection.send(row)
    connection.close()


def warm_up() -> None:
    """Load in the parent what the first trace loads, so that no measurement pays for it."""
    import gancompress as gc

    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)).eval()
    x = torch.randn(1, 1, 2, 2)
    graph = gc.trace(module, x)
    plan = gc.random_plan(graph)
    small = gc.cut(module, plan, graph=graph)
    gc.wrap(module, x).apply(plan)
    gc.verify(module, small, x, plan=plan)


def isolated(measure: Callable[[], dict[str, Any]], limit_s: float) -> dict[str, Any]:
    """Return `measure()` from a fork of this process, or what became of it.

    `peak_mb` is added: the growth of resident memory over what was loaded at the fork.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, measure))
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
    if process.is_alive():
        process.join(5)
    if process.is_alive():
        process.kill()
    process.join()
    row["wall_s"] = round(time.perf_counter() - start, 1)
    return row
