"""Which activations of the student answer to which of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gancompress.distill.influence import modules_behind
from gancompress.distill.protocol import Context
from gancompress.distill.taps import Taps, tap_path
from gancompress.errors import ConfigError
from gancompress.modules.nested import tensors_of
from gancompress.modules.undisturbed import look

Pairs = tuple[tuple[str, str], ...]
Results = Callable[[Any], Sequence[Tensor]]
"""Picks, out of what a network returns, the tensors that count: its image, its logits."""


@dataclass(frozen=True)
class _Call:
    """One finished module call: path, nesting depth at call time, output shape."""

    path: str
    depth: int
    shape: tuple[int, ...]


class _Witness:
    """Notes every module call of a forward; only hooks of this witness hold it."""

    def __init__(self, module: nn.Module) -> None:
        self.paths = {part: path for path, part in module.named_modules()}
        self.open: list[nn.Module] = []
        self.calls: list[_Call] = []
        self.counts: dict[str, int] = {}

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.open.append(module)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self.open.pop()
        path = self.paths[module]
        self.counts[path] = self.counts.get(path, 0) + 1
        tensors = tensors_of(output)
        if len(tensors) == 1:
            self.calls.append(_Call(path, len(self.open), tuple(tensors[0].shape)))


def find_taps(
    module: nn.Module,
    example: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    results: Results | None = None,
) -> dict[tuple[int, ...], str]:
    """Return one tap for each spatial size in ``module``: the last block output of it (ours).

    Among the outputs of one size the outermost modules win (a residual block over its
    convolutions), and of those the last to finish; a norm or activation counts only behind a
    convolution of the same level and size. The network's own output, anything of its shape, 1x1
    maps, weight parametrizations and modules that run more than once are no candidates; where a
    network returns several tensors, neither are modules that the result does not come from. Keys
    are spatial sizes, for example ``(16, 16)``, in order of first appearance.

    Args:
        module: the network.
        example: positional arguments of its forward.
        kwargs: arguments by name.
        results: picks the result where it returns more than one tensor.

    Raises:
        ConfigError: the forward on ``example`` gives no maps to tap, or several tensors, and
            ``results`` does not say which count.
    """
    witness = _Witness(module)
    handles = [part.register_forward_pre_hook(witness.enter) for part in witness.paths]
    handles += [part.register_forward_hook(witness.leave) for part in witness.paths]
    try:
        output = look(module, example, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    finals, behind = _results(module, example, kwargs, output, results)
    shapes = {tuple(final.shape) for final in finals}
    batch = finals[0].shape[0]
    # A discriminator ends in a score: then any rank that has space will do.
    ranks = {final.dim() for final in finals if final.dim() > 2} or {3, 4, 5}
    best: dict[tuple[int, ...], _Call] = {}
    for call in witness.calls:
        space = call.shape[2:]
        if (
            witness.counts[call.path] > 1
            or not call.path
            or "parametrizations" in call.path
            or len(call.shape) not in ranks
            or call.shape[0] != batch
            or max(space) == 1
            or call.shape in shapes
            or (behind and call.path not in behind)
        ):
            continue
        if space in best:
            if call.depth <= best[space].depth:
                best[space] = call
        elif _convolves(module.get_submodule(call.path)):
            best[space] = call
    if not best:
        raise ConfigError(
            f"no activation maps found in {type(module).__name__}: every output is the image, "
            "a vector, a 1x1 map or of a module that runs more than once. Give the taps by name "
            "(pairs=[[student, teacher], ...])."
        )
    return {space: call.path for space, call in best.items()}


def _results(
    module: nn.Module,
    example: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    output: Any,
    results: Results | None,
) -> tuple[list[Tensor], frozenset[str]]:
    """Return the tensors of ``output`` that count, and of several the modules they come from."""
    found = tensors_of(output)
    name = type(module).__name__
    if not found:
        raise ConfigError(f"{name} returns no tensor on the example inputs")
    if len(found) == 1:
        return found, frozenset()
    if results is None:
        shown = ", ".join(str(tuple(x.shape)) for x in found)
        raise ConfigError(
            f"{name} returns {len(found)} tensors ({shown}), and nothing says which is its image. "
            "Say it: --output 0 on the command line, image= for build_distiller"
        )
    finals = list(results(output))
    if not finals:
        raise ConfigError(f"none of the {len(found)} tensors of {name} is of the image's shape")
    return finals, modules_behind(module, example, kwargs, results)


def pair_taps(
    teacher: nn.Module,
    student: nn.Module,
    example: tuple[Any, ...],
    image: Tensor | None = None,
) -> Pairs:
    """Return (student tap, teacher tap) for each spatial size in both, coarse to fine (ours).

    On BigGAN these are the outputs of the residual stages (of the attention block where a stage has
    one). ``image`` is what the teacher makes of the example, needed where it returns more.

    Raises:
        ConfigError: no size in common, or nothing to tap in one of the networks.
    """
    results: Results | None = None
    if image is not None:
        shape = image.shape[1:]
        results = lambda output: [x for x in tensors_of(output) if x.shape[1:] == shape]  # noqa: E731
    theirs = find_taps(teacher, example, results=results)
    ours = find_taps(student, example, results=results)
    common = sorted((space for space in ours if space in theirs), key=lambda s: (_area(s), s))
    if not common:
        raise ConfigError(
            f"teacher and student share no map size: teacher {_sizes(theirs)}, "
            f"student {_sizes(ours)}. Distillation by activations needs equal sizes somewhere."
        )
    return tuple((ours[space], theirs[space]) for space in common)


def resolve_pairs(context: Context, pairs: Sequence[str | Sequence[str]] | None) -> Pairs:
    """Return ``pairs`` checked against both networks, or the pairs found when it is None (ours).

    An entry is one name (the same in both networks) or ``[student tap, teacher tap]``.

    Raises:
        ConfigError: an unknown tap (the nearest is named), an entry of another form, or maps of
            different size.
    """
    teacher, student, example = context.teacher, context.student, context.example
    if pairs is None:
        return pair_taps(teacher, student, example, context.image)
    if not pairs:
        raise ConfigError("pairs is empty: name a tap, or leave it out to have the pairs found")
    result: list[tuple[str, str]] = []
    for entry in pairs:
        both = (entry, entry) if isinstance(entry, str) else tuple(entry)
        if len(both) != 2:
            raise ConfigError(
                f"pairs: {entry!r} is neither a tap name nor [student tap, teacher tap]"
            )
        tap_path(student, both[0])
        tap_path(teacher, both[1])
        result.append((both[0], both[1]))
    ours = tap_shapes(student, example, [s for s, _ in result])
    theirs = tap_shapes(teacher, example, [t for _, t in result])
    for (s, t), a, b in zip(result, ours, theirs, strict=True):
        if a[2:] != b[2:]:
            raise ConfigError(f"pair [{s!r}, {t!r}]: sizes differ, student {a} and teacher {b}")
    return tuple(result)


def tap_shapes(
    module: nn.Module, example: tuple[Any, ...], names: Sequence[str]
) -> list[tuple[int, ...]]:
    """Return the shape of each tap of ``module`` on ``example`` (ours).

    Raises:
        ConfigError: an unknown tap, or one that does not run exactly once.
    """
    with Taps(module, names) as taps:
        look(module, example)
        found: dict[str, Tensor] = taps.take()
    return [tuple(found[name].shape) for name in names]


def _convolves(module: nn.Module) -> bool:
    """Tell convolutions and blocks of them by a weight with a kernel, whatever the class."""
    return any(parameter.dim() >= 3 for parameter in module.parameters())


def _area(space: tuple[int, ...]) -> int:
    area = 1
    for size in space:
        area *= size
    return area


def _sizes(taps: dict[tuple[int, ...], str]) -> str:
    return ", ".join("x".join(map(str, space)) for space in taps)
