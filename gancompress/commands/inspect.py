"""``gancompress inspect``: what can go, what cannot, why, and how small it gets."""

from __future__ import annotations

from collections.abc import Sequence

from gancompress.commands.console import emit, stdout
from gancompress.commands.resolve.subject import resolve
from gancompress.commands.resolve.try_forward import probe


def inspect(
    *,
    what: str | None,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    form: str,
    second_opinion: bool,
    json: bool,
) -> None:
    """Print one row per convolution, linear and norm layer of the generator."""
    import gancompress as gc

    subject = resolve(what, model, weights=weights, inputs=inputs)
    example = probe(subject)
    found = gc.inspect(subject.generator, example, form=form, second_opinion=second_opinion)
    if json:
        emit("inspect", {"model": subject.spec, "form": form, **found.to_dict()})
        return
    stdout().print(found)
