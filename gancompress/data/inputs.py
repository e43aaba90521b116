"""How a generator's inputs are drawn: from a user's words, or from the generator itself."""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.data import input_kinds
from gancompress.data.input_kinds import INPUT_KINDS, Drawn, Stored
from gancompress.data.input_kinds.protocol import LARGEST_SAMPLE
from gancompress.data.named_inputs import in_order
from gancompress.errors import ConfigError, DataError, GancompressError, closest
from gancompress.modules.nested import pick

_SPEC = re.compile(
    r"^(?P<name>[A-Za-z_]\w*(?:\.\w+)*)\s*=\s*(?P<kind>[a-z]\w*)\((?P<text>.*)\)$", re.DOTALL
)
LARGEST_DRAW = 2**31
"""Numbers in one draw (8 GiB in float32): more is refused before the memory is taken."""


@dataclass(frozen=True)
class InputPart:
    """One argument of the forward: its name, kind and what makes it (ours)."""

    name: str
    kind: str
    source: Drawn | Stored

    @property
    def noise(self) -> bool:
        """Whether it is random floats."""
        return isinstance(self.source, Drawn) and self.source.noise


class InputSampler:
    """Draws the arguments of one forward pass: ``sampler(n, rng)`` (ours).

    The same ``rng`` state gives the same arguments. ``specs`` says in words how they are drawn,
    ``n_classes`` is the number of classes drawn (``None``: no labels), ``parts`` the arguments one
    by one (empty for a generator's own ``sample_inputs``), ``output`` which of the generator's
    outputs is its image: ``None`` (the only tensor), a number, or a name; ``files`` the names,
    suffix aside, by which inputs are read from files (empty: none is).
    """

    def __init__(
        self,
        draw: Callable[[int, torch.Generator], tuple[Tensor, ...]],
        specs: Sequence[str],
        *,
        label_index: int | None = None,
        n_classes: int | None = None,
        parts: Sequence[InputPart] = (),
        output: str | None = None,
        files: Sequence[str] = (),
    ) -> None:
        self.specs = tuple(specs)
        self.n_classes = n_classes
        self.parts = tuple(parts)
        self.output = output
        self.files = tuple(files)
        self._draw = draw
        self._label_index = label_index
        source = None if label_index is None or not parts else parts[label_index].source
        self._one_hot = isinstance(source, Drawn) and source.one_hot

    @classmethod
    def parse(
        cls, specs: Sequence[str], generator: nn.Module | None = None, output: str | None = None
    ) -> InputSampler:
        """Read one specification per argument, ``NAME=KIND(...)``.

        ``z=normal(128)`` draws N(0, 1) of shape (n, 128), ``x=uniform(3,64,64)`` uniform in
        [-1, 1], ``y=labels(10)`` int64 labels (n,) in 0..9; the other kinds are in
        ``gancompress/data/input_kinds``. Inputs read from files are joined by file name.

        They are in the order of ``forward``. With ``generator``, names that are those of its
        arguments decide instead, keyword-only ones included; ``batch.image=...`` is an entry of a
        dictionary that ``forward`` takes, ``xs.0=...`` an item of a list.

        Raises:
            ConfigError: a specification has another form (all of them are named), or two draw
                labels, or names and order contradict.
            DataError: files are missing or do not fit together.
        """
        if not specs:
            raise ConfigError("no input is specified; for example --input 'z=normal(128)'")
        faults: list[str] = []
        parts: list[InputPart] = []
        for spec in specs:
            try:
                parts.append(_read(spec))
            except DataError as error:
                raise DataError(f"input {spec!r}: {error}") from error
            except GancompressError as error:
                faults.append(str(error))
        labels = sum(_classes(part) is not None for part in parts)
        if labels > 1:
            faults.append(f"{labels} inputs are labels; at most one can be")
        if faults:
            raise ConfigError("; ".join(faults))
        if generator is not None:
            parts = [parts[i] for i in in_order([part.name for part in parts], generator)]
        index = next((i for i, part in enumerate(parts) if _classes(part) is not None), None)
        places, names = _joined(parts)
        return cls(
            functools.partial(_draw, parts, places),
            specs,
            files=names,
            label_index=index,
            n_classes=None if index is None else _classes(parts[index]),
            parts=parts,
            output=output,
        )

    @classmethod
    def of(cls, generator: nn.Module, output: str | None = None) -> InputSampler:
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
            output=output,
        )

    @classmethod
    def unsaid(cls, generator: nn.Module, output: str | None = None) -> InputSampler:
        """Return a sampler that says, when it is asked, that nobody said how inputs are drawn."""
        message = (
            f"how are the inputs of {type(generator).__name__} drawn? Say it with "
            "--input 'z=normal(128)' (one --input per argument; labels: 'y=labels(10)'; pictures: "
            "'x=images(FOLDER)'), or give the class a method sample_inputs(n, rng)"
        )

        def draw(n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
            raise ConfigError(message)

        return cls(draw, (), output=output)

    def __call__(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Return the arguments of a forward pass of ``n`` images."""
        return self._draw(n, rng)

    def at(self, places: Tensor, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Return the arguments that the files at ``places`` in ``files`` hold.

        What is not read from files is drawn, as ever.
        """
        return self._draw(len(places), rng, places.tolist())  # type: ignore[call-arg]

    @property
    def draws_labels(self) -> bool:
        """Whether there are labels among what is drawn."""
        return self._label_index is not None

    def labels(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """Return the labels (n,) among ``inputs``; ``None`` for an unconditional generator."""
        if self._label_index is None:
            return None
        found = inputs[self._label_index]
        return found.argmax(1) if self._one_hot else found

    def relabelled(self, inputs: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, ...]:
        """Return ``inputs`` with their labels replaced by ``labels`` (n,).

        Raises:
            DataError: the inputs carry no labels.
        """
        if self._label_index is None:
            raise DataError("these inputs carry no labels to replace")
        index = self._label_index
        if self._one_hot:
            labels = F.one_hot(labels.long(), inputs[index].shape[1])
        given = labels.to(inputs[index].device, inputs[index].dtype)
        return (*inputs[:index], given, *inputs[index + 1 :])

    def image(self, output: Any) -> Tensor:
        """Return the image in what the generator returned, by ``self.output``.

        Raises:
            DataError: it is not there, or it cannot be told which tensor is the image.
        """
        return pick(output, self.output)


@functools.cache
def _kinds() -> list[str]:
    for module in pkgutil.iter_modules(input_kinds.__path__):
        importlib.import_module(f"{input_kinds.__name__}.{module.name}")
    return INPUT_KINDS.names()


def _read(spec: str) -> InputPart:
    match = _SPEC.match(spec.strip())
    if match is None:
        raise ConfigError(f"input {spec!r} is not NAME=KIND(SIZES), for example z=normal(128)")
    _kinds()
    kind = match["kind"]
    if kind not in INPUT_KINDS:
        raise ConfigError(f"input {spec!r}: no kind {kind!r}.{closest(kind, INPUT_KINDS.names())}")
    try:
        part = InputPart(match["name"], kind, INPUT_KINDS.get(kind)(match["text"]))
    except ConfigError as error:
        raise ConfigError(f"input {spec!r}: {error}") from error
    if (numbers := math.prod(part.source.shape)) > LARGEST_SAMPLE:
        raise DataError(
            f"a sample has {numbers:,} numbers {part.source.shape}, {LARGEST_SAMPLE:,} at most"
        )
    return part


def _classes(part: InputPart) -> int | None:
    return part.source.n_classes if isinstance(part.source, Drawn) else None


def _joined(parts: Sequence[InputPart]) -> tuple[Mapping[str, list[int]], list[str]]:
    """Return for each input from files the place of each common name, and the names in order.

    Raises:
        DataError: a name is in one of them and not in another; the names are in the message.
    """
    stored = {p.name: p.source.names for p in parts if not isinstance(p.source, Drawn)}
    for name, names in stored.items():
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise DataError(f"input {name!r}: two files are called {twice!r}")
    for first, names in stored.items():
        for second, others in stored.items():
            if missing := sorted(set(names) - set(others)):
                shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
                raise DataError(
                    f"inputs {first!r} and {second!r} are joined by file name, and {len(missing)} "
                    f"of {first!r} have no partner in {second!r}: {shown}"
                )
    places = {name: {n: i for i, n in enumerate(names)} for name, names in stored.items()}
    # As they lie, not sorted: the rows of an array are called "0", "1", ..., "10".
    order = next(iter(stored.values()), [])
    return {name: [found[n] for n in order] for name, found in places.items()}, order


def _draw(
    parts: Sequence[InputPart],
    places: Mapping[str, list[int]],
    n: int,
    rng: torch.Generator,
    chosen: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    for part in parts:
        if (count := n * math.prod(part.source.shape)) > LARGEST_DRAW:
            raise DataError(
                f"{n} samples of input {part.name!r} {part.source.shape} are {count:,} numbers; "
                f"at most {LARGEST_DRAW:,} are drawn at once. Use a smaller batch"
            )
    count = len(next(iter(places.values()), []))
    if count and not chosen:  # one choice of files for all inputs that are read from files
        chosen = torch.randint(count, (n,), generator=rng, device=rng.device).tolist()
    made: list[Tensor] = []
    for part in parts:
        if isinstance(part.source, Drawn):
            made.append(part.source.draw(n, rng))
        else:
            where = torch.tensor([places[part.name][i] for i in chosen], dtype=torch.int64)
            made.append(part.source.read(where).to(rng.device))
    return tuple(made)
