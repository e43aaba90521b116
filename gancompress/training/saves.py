"""Checkpoints of a run while it goes on: when they are due, and what happens when one fails."""

from __future__ import annotations

from pathlib import Path

from gancompress.errors import DivergedError, StorageError
from gancompress.training.checkpoint import save_checkpoint
from gancompress.training.log import Log
from gancompress.training.train_state import Snapshot, finite_parts

MAX_FAILED_SAVES = 3


class Saves:
    """Writes snapshots to ``folder``; ``None`` writes nothing (ours).

    A save that fails is said and tried again at the next one: a full disk for a while costs no run.
    """

    def __init__(self, folder: Path | None, log: Log) -> None:
        self._folder, self._log = folder, log
        self._failed = 0

    def save(self, snapshot: Snapshot, *, last: bool) -> None:
        """Write ``snapshot``, of finite numbers only.

        Raises:
            DivergedError: it holds NaN or infinity.
            StorageError: it is the last one, or the third in a row, that cannot be written.
        """
        if not finite_parts(snapshot.parts):
            raise DivergedError(f"weights are not finite at step {snapshot.step}")
        if self._folder is None:
            return
        try:
            save_checkpoint(self._folder, snapshot.step, snapshot.parts, snapshot.state)
            self._failed = 0
        except StorageError as error:
            self._failed += 1
            self._log.event("save_failed", str(error), step=snapshot.step)
            if last or self._failed == MAX_FAILED_SAVES:
                raise
