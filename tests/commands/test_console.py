"""What reaches a terminal, and which cause an error is said to have."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from rich.table import Table

from gancompress.commands.console import complain, described, note, stdout
from gancompress.errors import DataError, visible
from gancompress.training.signals import PreemptedError, Stop, preemptible

EVIL = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb[bold]c[/]\r"


def test_texts_of_files_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    note(EVIL)
    complain(EVIL, exit_code=2)
    table = Table("x")
    table.add_row(EVIL.replace("[bold]c[/]", "c"))
    stdout().print(table)
    shown = "".join(capsys.readouterr())
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "\\x1b]0;title" in shown
    assert "[bold]c[/]" in shown


def test_messages_of_errors_are_visible_and_plain_text_stays() -> None:
    assert str(DataError(EVIL)) == visible(EVIL)
    plain = "straße 日本 é\n\tindented"
    assert visible(plain) == plain


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_lack_of_memory_is_the_cause_whatever_came_of_it(error: Exception) -> None:
    assert described(error)[1] == 5
    later = DataError("the forward fails")
    later.__cause__ = error
    text, code = described(later)
    assert (code, text.startswith("out of memory")) == (5, True)
    assert described(DataError("out of memory, says the file"))[1] == 3


def test_a_folder_that_is_gone_is_no_bug() -> None:
    text, code = described(FileNotFoundError(2, "No such file or directory", "runs/1/log.txt"))
    assert code == 6
    assert "is gone: [Errno 2] No such file or directory: 'runs/1/log.txt'" in text
    assert described(OSError(9, "Bad file descriptor"))[1] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_set_up_and_closing_end_with_a_word(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with preemptible(), Stop() as stop:  # the loop's own: a flag, and no end
        os.kill(os.getpid(), number)
    assert stop.agree()
    assert stop.requested == number
    with pytest.raises(PreemptedError, match=number.name) as caught, preemptible():
        os.kill(os.getpid(), number)
    assert described(caught.value)[1] == 75
    assert signal.getsignal(number) == before
