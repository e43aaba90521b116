"""Ctrl-C and SIGTERM become a flag that the loop reads between steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from gancompress.modules.ranks import largest

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: a scheduler may requeue
EXIT_INTERRUPTED = 130


def stop_signals() -> list[int]:
    """Return the signals of this system that ask a run to stop with a checkpoint."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


class PreemptedError(BaseException):
    """A scheduler ended the program before its first step, or after its last one."""

    exit_code = EXIT_PREEMPTED


@contextlib.contextmanager
def preemptible() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 end set-up and closing by `PreemptedError`, not without a word.

    So locks are given back and drafts removed. In the loop `Stop` takes over. Outside the main
    thread nothing is installed.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise PreemptedError(f"stopped by {signal.Signals(number).name}")

    previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                if number == signal.SIGINT:  # Python's own KeyboardInterrupt
                    continue
                previous[number] = signal.signal(number, end)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Stop:
    """While entered, SIGINT, SIGTERM and SIGUSR1 are kept for `agree` instead of killing (ours).

    Of these, those that the system has: Windows has no SIGUSR1, but Ctrl-Break.

    ``requested`` is the signal that all ranks have agreed to stop at; ``None`` until then. A second
    SIGINT quits at once. Outside the main thread, where Python has no signals, nothing is
    installed.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._received: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    @property
    def exit_code(self) -> int:
        """Exit code of a run stopped by the signal: 130 for Ctrl-C, otherwise 75."""
        return EXIT_INTERRUPTED if self.requested == signal.SIGINT else EXIT_PREEMPTED

    def agree(self) -> bool:
        """Return whether any rank has received a signal; all of them ask at the same steps."""
        self.requested = largest(self._received or 0) or None
        return self.requested is not None

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
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
