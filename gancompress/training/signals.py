"""Ctrl-C and SIGTERM become a flag that the loop reads between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: a scheduler may requeue
EXIT_INTERRUPTED = 130


def stop_signals() -> list[int]:
    """Return the signals of this system that ask a run to stop with a checkpoint."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


class Stop:
    """While entered, SIGINT, SIGTERM and SIGUSR1 set ``requested`` instead of killing (ours).

    Of these, those that the system has: Windows has no SIGUSR1, but Ctrl-Break.

    A second SIGINT quits at once. Outside the main thread, where Python has no signals, nothing is
    installed.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    @property
    def exit_code(self) -> int:
        """Exit code of a run stopped by the signal: 130 for Ctrl-C, otherwise 75."""
        return EXIT_INTERRUPTED if self.requested == signal.SIGINT else EXIT_PREEMPTED

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number
