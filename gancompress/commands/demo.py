"""``gancompress demo``: a local page with teacher and student on the same input, times beside."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from torch import nn

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.subject import Subject, resolve
from gancompress.commands.resolve.try_forward import probe
from gancompress.commands.sample import teacher_of
from gancompress.errors import ConfigError

if TYPE_CHECKING:
    from gancompress.reporting.demo_pair import SideBySide


def demo(
    *,
    what: str,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    output: str | None,
    host: str,
    port: int,
    device: str,
    json: bool,
) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ConfigError: there is no finished run, or the address cannot be listened on.
    """
    from gancompress.reporting.demo_server import LOOPBACK, make_server

    server = make_server(side_by_side(what, model, weights, inputs, output, device), host, port)
    bound = server.server_address[1]
    address = f"http://{host}:{bound}/"
    if host not in LOOPBACK:
        note(f"{host} is not this machine alone: whoever reaches it can use the page")
    if json:
        emit("demo", {"url": address})
    else:
        stdout().print(Text(f"{address}  (Ctrl-C ends it)"), soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    server.server_close()


def side_by_side(
    what: str,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    output: str | None,
    device: str,
) -> SideBySide:
    """Return the networks of the page: the run's student and, if its weights are known, teacher."""
    from gancompress.reporting.demo_pair import SideBySide

    if ":" in what:
        raise ConfigError(f"demo shows a run folder, or a saved generator, not {what!r}")
    subject = resolve(what, model, inputs=inputs, output=output, device=device)
    probe(subject)
    networks: dict[str, nn.Module] = {}
    if teacher := _teacher(subject, weights, device):
        networks["teacher"] = teacher.generator
    networks["student"] = subject.generator
    return SideBySide(networks, subject.sampler, subject.task, f"{subject.spec}: {what}")


def _teacher(subject: Subject, weights: str | None, device: str) -> Subject | None:
    try:
        return teacher_of(subject, weights, device)
    except ConfigError:
        if weights is not None:
            raise
        note("no teacher beside it: its weights are not in the run (--weights FILE)")
        return None
