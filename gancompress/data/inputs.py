"""How a generator's inputs are drawn: from a user's words, or from the generator itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError, closest

_SPEC = re.compile(r"^(?P<name>[A-Za-z_]\w*)=(?P<kind>[a-z]+)\((?P<sizes>[\d,\s]*)\)$")
_KINDS = ("labels", "normal", "uniform")
_LARGEST = 2**26  # numbers for one sample: beyond this it is a typing error, not an input


class InputSampler:
    """Draws the positional arguments of one forward pass: ``sampler(n, rng)`` (ours).

    ``specs`` says in words how, ``n_classes`` is the number of classes drawn (``None``: no labels).
    """

    def __init__(
        self,
        draw: Callable[[int, torch.Generator], tuple[Tensor, ...]],
        specs: Sequence[str],
        *,
        label_index: int | None = None,
        n_classes: int | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.n_classes = n_classes
        self._draw = draw
        self._label_index = label_index

    @classmethod
    def parse(cls, specs: Sequence[str]) -> InputSampler:
        """Read one specification per argument, in order of ``forward``.

        ``z=normal(128)`` draws N(0, 1) of shape (n, 128), ``x=uniform(3,64,64)`` uniform in
        [-1, 1], ``y=labels(10)`` int64 labels (n,) in 0..9. Names are for messages only.

        Raises:
            ConfigError: a specification has another form (all of them are named), or two draw
                labels.
        """
        if not specs:
            raise ConfigError("no input is specified; for example --input 'z=normal(128)'")
        faults: list[str] = []
        parts: list[tuple[str, tuple[int, ...]]] = []
        for spec in specs:
            fault, kind, sizes = _read(spec)
            if fault:
                faults.append(fault)
            parts.append((kind, sizes))
        labels = [i for i, (kind, _) in enumerate(parts) if kind == "labels"]
        if len(labels) > 1:
            faults.append(f"{len(labels)} inputs are labels; at most one can be")
        if faults:
            raise ConfigError("; ".join(faults))

        def draw(n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
            return tuple(_draw_one(kind, sizes, n, rng) for kind, sizes in parts)

        return cls(
            draw,
            specs,
            label_index=labels[0] if labels else None,
            n_classes=parts[labels[0]][1][0] if labels else None,
        )

    @classmethod
    def of(cls, generator: nn.Module) -> InputSampler:
        """Take the generator's own ``sample_inputs(n, rng)``.

        Its labels are the only int64 tensor of rank 1 that it returns; their number of classes is
        the generator's ``n_classes`` or that of its ``config``.

        Raises:
            ConfigError: there is no such method, or it returns something else than tensors.
        """
        method = getattr(generator, "sample_inputs", None)
        name = type(generator).__name__
        if not callable(method):
            raise ConfigError(
                f"{name} has no sample_inputs(n, rng); say how its inputs are drawn, "
                "for example with --input 'z=normal(128)'"
            )

        def draw(n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
            found: Any = method(n, rng)
            found = (found,) if isinstance(found, Tensor) else tuple(found)
            if not all(isinstance(part, Tensor) and len(part) == n for part in found):
                raise ConfigError(f"{name}.sample_inputs({n}, rng) must return {n} rows a tensor")
            return found

        example = draw(2, torch.Generator().manual_seed(0))
        labels = [
            i for i, part in enumerate(example) if part.ndim == 1 and not part.is_floating_point()
        ]
        classes = getattr(generator, "n_classes", None)
        if classes is None:
            classes = getattr(getattr(generator, "config", None), "n_classes", None)
        return cls(
            draw,
            [f"{name}.sample_inputs"],
            label_index=labels[0] if len(labels) == 1 else None,
            n_classes=classes if len(labels) == 1 else None,
        )

    def __call__(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Return the arguments of a forward pass of ``n`` images."""
        return self._draw(n, rng)

    def labels(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """Return the labels (n,) among ``inputs``; ``None`` for an unconditional generator."""
        return None if self._label_index is None else inputs[self._label_index]

    def relabelled(self, inputs: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, ...]:
        """Return ``inputs`` with their labels replaced by ``labels`` (n,).

        Raises:
            DataError: the inputs carry no labels.
        """
        if self._label_index is None:
            raise DataError("these inputs carry no labels to replace")
        index = self._label_index
        given = labels.to(inputs[index].device, inputs[index].dtype)
        return (*inputs[:index], given, *inputs[index + 1 :])


def _read(spec: str) -> tuple[str, str, tuple[int, ...]]:
    match = _SPEC.match(spec.strip())
    if match is None:
        return f"input {spec!r} is not NAME=KIND(SIZES), for example z=normal(128)", "", ()
    kind = match["kind"]
    if kind not in _KINDS:
        return f"input {spec!r}: no kind {kind!r}.{closest(kind, _KINDS)}", "", ()
    words = [word.strip() for word in match["sizes"].split(",")]
    sizes = tuple(int(word) if word else 0 for word in words)
    count = 1
    for size in sizes:
        count *= size
    if kind == "labels" and len(sizes) != 1:
        return f"input {spec!r}: labels take one number, the count of classes", "", ()
    if not 1 <= count <= _LARGEST:
        return f"input {spec!r}: sizes must be at least 1, and {_LARGEST:,} numbers at most", "", ()
    return "", kind, sizes


def _draw_one(kind: str, sizes: tuple[int, ...], n: int, rng: torch.Generator) -> Tensor:
    if kind == "labels":
        return torch.randint(sizes[0], (n,), generator=rng, device=rng.device)
    if kind == "normal":
        return torch.randn(n, *sizes, generator=rng, device=rng.device)
    return torch.rand(n, *sizes, generator=rng, device=rng.device) * 2 - 1
