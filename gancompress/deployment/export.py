"""export(): files of a generator for other programs, compared with it before they are kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.deployment.flat_call import FlatCall, flat_outputs, named_inputs, named_outputs
from gancompress.deployment.formats import Format, read_formats, require_engines
from gancompress.deployment.noise import Drawn, Noise, Watched, plan_noise
from gancompress.deployment.program import Program, trace_program
from gancompress.deployment.sizes import (
    Variant,
    at_least_two,
    batches,
    other_sizes,
    read_dynamic,
    space_of,
)
from gancompress.deployment.standalone import weights_beside
from gancompress.deployment.weights_file import write_tensors
from gancompress.deployment.writers import open_file, write
from gancompress.errors import ConfigError, DataError, GraphError, TargetError
from gancompress.graph.form.export_mode import plain_copy
from gancompress.modules.copying import inside, require_module
from gancompress.modules.nested import call_arguments
from gancompress.modules.undisturbed import undisturbed
from gancompress.modules.user_line import failing_line


@dataclass(frozen=True)
class Exported:
    """One file that `export` wrote (ours).

    Attributes:
        format: its name.
        file: where it lies.
        bytes: how large it is.
        max_error: largest difference of an output from the generator's, over all sizes tried.
        checked: the sizes at which it was compared.
        refused: other sizes that the generator itself does not take.
        inputs: names of its inputs, in order.
        outputs: names of its outputs.
    """

    format: str
    file: Path
    bytes: int
    max_error: float
    checked: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a generator, ready to be written: names, sizes, noise, wanted outputs (ours).

    Attributes:
        flat: the call as a function of tensors, on a copy whose weights are plain.
        plain: the same of the generator itself, which draws its own noise.
        names: of inputs, of outputs.
        example: tensors of the call, noise included.
        dims: free dimensions of each.
        variants: the call at other sizes, noise included.
        wanted: the generator's own outputs, by the name of the variant.
        refused: sizes that the generator itself does not take.
    """

    flat: FlatCall
    plain: FlatCall
    names: tuple[tuple[str, ...], tuple[str, ...]]
    example: tuple[Tensor, ...]
    dims: tuple[frozenset[int], ...]
    variants: tuple[Variant, ...]
    wanted: Mapping[str, list[Tensor]]
    refused: tuple[str, ...]

    def fed(self, tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return ``tensors`` with freshly drawn noise, and the generator's outputs for them."""
        drawn, out = _run(self.plain, Variant("calibration", tuple(tensors)))
        noise = self.flat.noise
        if not noise.way:
            return tuple(tensors), out
        feed = (*tensors, *(d.value for d in drawn)) if noise.way == "input" else tuple(tensors)
        args, kwargs = self.plain.call
        reference = FlatCall(self.plain.generator, args, kwargs, noise)
        return feed, _run(reference, Variant("calibration", feed))[1]


def export(
    generator: nn.Module,
    example: Any,
    out: str | Path,
    *,
    kwargs: Mapping[str, Any] | None = None,
    to: str = "onnx",
    dynamic: Sequence[str] | None = None,
    noise: str | None = None,
    folding: bool = True,
    tolerance: float = 1e-4,
) -> list[Exported]:
    """Write ``generator`` in the formats ``to``, all of them or none (ours).

    A file is a function of tensors alone: those of ``example``, in order, then noise where it is an
    input. Each is opened by its own engine and compared with the generator, at several sizes.

    Args:
        generator: any module; it is not touched, and is run in eval mode.
        example: inputs of one call, as for `trace`; lists and dicts of tensors are fine.
        out: file to write; of several formats the part of the name before the suffix.
        kwargs: keyword arguments beside a tuple.
        to: ``onnx``, ``torch.export``, ``aoti``, ``standalone``, ``safetensors``, or several with
            commas.
        dynamic: free dimensions, ``["x=0,2,3"]``. Left out: the batch of every input, and height,
            width or time of inputs (n, c, *space) where generator and formats take other sizes.
        noise: what becomes of numbers that the forward draws: ``input`` or ``fixed``.
        folding: put norms and whatever else depends on weights alone into the weights.
        tolerance: largest difference allowed.

    Raises:
        ConfigError: an unknown format or input, a missing engine, an existing file, or noise.
        DataError: the generator fails on the example, or at every other size.
        GraphError: a format cannot express the generator.
        TargetError: a file differs from the generator by more than ``tolerance``.
    """
    formats = read_formats(to)
    require_engines(formats)
    require_module(generator)
    _, generator = inside(generator)
    files = file_names(Path(out), formats)

    def made(free: Sequence[str] | None) -> list[Exported]:
        call = program = None
        if any(f.program for f in formats):
            call = prepare(generator, example, kwargs, free, noise)
            program = trace_program(
                call.flat, call.names, call.example, call.dims, folding=folding,
                source=call.plain.generator,
            )  # fmt: skip
        return keep_all(files, lambda f, draft: _one(f, draft, generator, call, program, tolerance))

    if dynamic is None and any(f.program for f in formats):
        inputs = named_inputs(generator, *call_arguments(example, kwargs))
        if space := space_of(inputs.names, inputs.tensors):
            # A network that takes one size only, or a format that cannot say the others.
            with contextlib.suppress(DataError, GraphError, TargetError, ConfigError):
                return made(space)
    return made(dynamic)


def file_names(out: Path, formats: Sequence[Format]) -> dict[Format, Path]:
    """Return the file of each format.

    Raises:
        ConfigError: one is there already, or ``out`` has a suffix that several formats cannot have.
    """
    files = {formats[0]: out} if len(formats) == 1 else {}
    if not files:
        if any(out.name.endswith(f.suffix) for f in formats):
            raise ConfigError(f"--out {out} with several formats: leave the suffix out")
        files = {f: out.with_name(out.name + f.suffix) for f in formats}
    one = formats[0]
    if len(formats) == 1 and one.name != "onnx" and not out.name.endswith(one.suffix):
        raise ConfigError(f"--out {out}: a file of {one.name} ends in {one.suffix}")
    for kind, file in files.items():
        if kind.name == "standalone" and not file.stem.isidentifier():
            raise ConfigError(
                f"--out {out}: a standalone file is a Python module, so that its name has letters, "
                "digits and _ alone"
            )
        beside = [weights_beside(file)] if kind.name == "standalone" else []
        for there in (file, *beside):
            if there.exists():
                raise ConfigError(f"{there} exists. Choose another name with --out")
    return files


def prepare(
    generator: nn.Module,
    example: Any,
    kwargs: Mapping[str, Any] | None,
    dynamic: Sequence[str] | None,
    noise: str | None,
) -> Call:
    """Try the generator at all sizes, decide about noise, and return the call to be written.

    Raises:
        ConfigError: an unknown input, or noise that nobody decided about.
        DataError: the generator fails on the example, or at every size that is to be free.
    """
    args, kw = call_arguments(example, kwargs)
    inputs = named_inputs(generator, args, kw)
    if not inputs.tensors:
        raise DataError("the example holds no tensor: a file needs an input")
    rows = next((t.shape[0] for t in inputs.tensors if t.dim()), 0)
    dims = read_dynamic(dynamic, inputs.names, inputs.tensors, rows)
    tensors = at_least_two(inputs.tensors, dims)
    tried = [Variant("as given", tensors), *batches(tensors, dims)]
    batch_only = len(tried)
    tried += other_sizes(tensors, dims)
    plain = FlatCall(generator, args, kw, Noise())
    ran: list[tuple[Variant, list[Drawn], Any]] = []
    refused: list[str] = []
    last: DataError | None = None
    for i, variant in enumerate(tried):
        try:
            ran.append((variant, *_run(plain, variant)))
        except DataError as error:
            if i < batch_only:
                raise
            refused.append(variant.name)
            last = error
    if last is not None and len(ran) == batch_only:
        raise DataError(f"the generator itself takes no other size than the example's: {last}")
    kept = sum(v.name in {t.name for t in tried[:batch_only]} for v, _, _ in ran)
    plan = plan_noise(noise, [drawn for _, drawn, _ in ran], kept)
    fed = _fed_variants(ran, plan)
    reference = FlatCall(generator, args, kw, plan)
    wanted = {v.name: _run(reference, v)[1] for v in fed}
    names = (*inputs.names, *(plan.names if plan.way == "input" else ()))
    free = (*dims, *(plan.dims if plan.way == "input" else ()))
    call = FlatCall(plain_copy(generator), args, kw, plan).eval()
    return Call(
        call,
        plain,
        (names, named_outputs(wanted_output(reference, fed[0])).names),
        at_least_two(fed[0].tensors, free),
        free,
        tuple(fed),
        wanted,
        tuple(refused),
    )


def wanted_output(reference: FlatCall, variant: Variant) -> Any:
    """Return what a call returns, with names."""
    with undisturbed(reference):
        return reference(*variant.tensors)


def _run(call: FlatCall, variant: Variant) -> tuple[list[Drawn], list[Tensor]]:
    """Run a call without a trace; return what it drew and its outputs.

    Raises:
        DataError: its forward fails; the place in the user's code is named.
    """
    try:
        with undisturbed(call), Watched() as watched:
            out = flat_outputs(call(*variant.tensors))
    except Exception as error:
        line = failing_line(error)
        shapes = ", ".join(str(tuple(t.shape)) for t in variant.tensors)
        raise DataError(
            f"the generator's forward fails on inputs {shapes} ({variant.name})"
            f"{f' at {line}' if line else ''}: {' '.join(str(error).split())[:200]}"
        ) from error
    return watched.drawn, [t.detach().cpu() for t in out]


def _fed_variants(
    ran: Sequence[tuple[Variant, Sequence[Drawn], Any]], plan: Noise
) -> list[Variant]:
    if plan.way != "input":
        return [variant for variant, _, _ in ran]
    return [Variant(v.name, (*v.tensors, *(d.value for d in drawn))) for v, drawn, _ in ran]


def _one(
    kind: Format,
    draft: Path,
    generator: nn.Module,
    call: Call | None,
    program: Program | None,
    tolerance: float,
) -> Exported:
    """Write one draft, and compare it where it is a program."""
    if call is None or program is None or not kind.program:
        write_tensors(draft, generator.state_dict(), type(generator).__name__)
        return Exported(kind.name, draft, 0, 0.0)
    write(kind.name, program, draft)
    worst = compare(kind.name, draft, call, program)
    # Written this way round so that NaN fails.
    if not worst <= tolerance:
        raise TargetError(
            f"the exported network ({kind.name}) differs by {worst:.2g} from the generator, "
            f"allowed is {tolerance:g}. No file was written; --tolerance allows more"
        )
    checked = tuple(v.name for v in call.variants)
    return Exported(kind.name, draft, 0, worst, checked, call.refused, *call.names)


def compare(name: str, file: Path, call: Call, program: Program) -> float:
    """Return the largest difference of ``file`` from the generator over all sizes of ``call``."""
    run = open_file(name, file, program)
    worst = 0.0
    for variant in call.variants:
        try:
            with torch.no_grad():
                found = run(variant.tensors)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise TargetError(
                f"the exported network ({name}) fails at the size {variant.name!r}: {text}. "
                "No file was written"
            ) from error
        for got, want in zip(found, call.wanted[variant.name], strict=True):
            if got.shape != want.shape:
                raise TargetError(
                    f"the exported network ({name}) puts out {tuple(got.shape)} where the "
                    f"generator puts out {tuple(want.shape)} ({variant.name}). No file was written"
                )
            gap = (got.cpu().double() - want.double()).abs()
            worst = max(worst, float("nan") if gap.isnan().any() else float(gap.max()), key=_rank)
    return worst


def _rank(x: float) -> float:
    return float("inf") if x != x else x


def keep_all(
    files: Mapping[Format, Path],
    make: Callable[[Format, Path], Exported],
) -> list[Exported]:
    """Make a draft of every file, then put all of them in their places; none if one fails."""
    found: list[Exported] = []
    first = next(iter(files.values()))
    first.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=first.parent, prefix=".gancompress-") as folder:
        moves: list[tuple[Path, Path]] = []
        for kind, file in files.items():
            # A folder each: what lies beside a file (weights of a standalone class) comes along.
            place = Path(folder) / kind.name
            place.mkdir()
            written = make(kind, place / file.name)
            made = sorted(place.iterdir())
            moves += [(p, file.with_name(p.name)) for p in made]
            size = sum(p.stat().st_size for p in made)
            found.append(replace(written, file=file, bytes=size))
        for _, end in moves:
            if end.exists():
                raise ConfigError(f"{end} exists. Choose another name with --out")
        for draft, end in moves:
            os.replace(draft, end)
    return found
