"""Two samples of any task through all networks before step 0: what does not fit is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError
from gancompress.modules.discriminator import DiscriminatorCall, call_of
from gancompress.modules.finite import refuse_not_finite
from gancompress.tasks.check_fit import run_or_name, untouched
from gancompress.tasks.protocol import Batch, Shown

if TYPE_CHECKING:
    from gancompress.tasks.protocol import Task


def check_networks(
    task: Task,
    batch: Batch,
    generator: nn.Module,
    discriminator: nn.Module | None,
    augment: tuple[Any, ...],
) -> Batch:
    """Run ``batch`` through the networks, change nothing, and return it on their device (ours).

    Raises:
        DataError: a forward fails, the output has another shape than the wanted one, or the
            discriminator's logits cannot be read; expected and found are named.
        ConfigError: an augmentation of pictures, and outputs that are none.
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    batch = batch.to(device)
    parts = [x for x in (*batch.inputs, *batch.kwargs.values()) if isinstance(x, Tensor)]
    shown = ", ".join(f"{tuple(p.shape)} {str(p.dtype).removeprefix('torch.')}" for p in parts)
    with untouched(generator):
        raw = run_or_name(
            lambda: batch.run(generator), f"the generator's forward fails on inputs {shown}"
        )
    output = task.output(raw)
    if not output.is_floating_point() or output.ndim < 2:
        raise DataError(f"the generator's output is {output.dtype} {tuple(output.shape)}")
    refuse_not_finite(output, "the generator's outputs", generator)
    if batch.wanted is not None and output.shape != batch.wanted.shape:
        raise DataError(
            f"the generator makes {tuple(output.shape[1:])} of these inputs; the wanted outputs "
            f"are {tuple(batch.wanted.shape[1:])}. {_advice(task, batch, output)}"
        )
    if augment and output.ndim != 4:
        raise ConfigError(
            f"augment is for pictures; the generator makes {tuple(output.shape)}: set augment=[]"
        )
    if discriminator is not None:
        _check_discriminator(task, batch, discriminator, output)
    return batch


def _call(discriminator: nn.Module, shown: Shown, batch: Batch, what: str) -> DiscriminatorCall:
    """Return how ``discriminator`` is called; an error says why there is no condition to show it.

    Raises:
        DataError: no call works.
    """
    try:
        return run_or_name(
            lambda: call_of(discriminator, shown.output, shown.labels, shown.condition), what
        )
    except DataError as error:
        x = batch.inputs[0] if batch.inputs else None
        pictures = [x for x in batch.inputs if isinstance(x, Tensor) and x.ndim > 2]
        if shown.condition is not None and len(pictures) > 1:
            raise DataError(
                f"{error}. Its condition has {shown.condition.shape[1]} channels: all inputs of "
                "the output's size, joined; task.condition=[NAME] shows it those of these names"
            ) from error
        if shown.condition is not None or not isinstance(x, Tensor):
            raise
        if x.ndim != shown.output.ndim or x.shape[2:] == shown.output.shape[2:]:
            raise
        raise DataError(
            f"{error}. The input is no condition to show beside the output: it is "
            f"{tuple(x.shape[1:])} and the output {tuple(shown.output.shape[1:])}, and one picture "
            "is joined to another of its height and width only"
        ) from error


def _advice(task: Task, batch: Batch, output: Tensor) -> str:
    """Return what to do about outputs of another shape than the wanted ones."""
    first, wanted = batch.inputs[0] if batch.inputs else None, batch.wanted
    if task.rate is None or wanted is None or output.ndim != 3:
        return _times(task, first, output, wanted) + (
            "Use data of one size: --size and --crop for --data, "
            "'x=images(DIR,size=64,crop=center)' for inputs"
        )
    if output.shape[1] != wanted.shape[1]:
        return f"Sound of {output.shape[1]} channel{'s' * (output.shape[1] > 1)} is needed"
    made, length = output.shape[2], wanted.shape[2]
    if not isinstance(first, Tensor) or first.ndim != 3 or made % first.shape[2]:
        return f"Give pieces of {made:,} samples (--length {made})"
    frames = first.shape[2]
    return (
        f"The network makes {made // frames} samples of each of the {frames} frames, and the sound "
        f"is {length:,} samples long: the frames are {length / frames:g} samples apart. Set "
        f"task.hop={made // frames}, or give mels of that hop and pieces of {made:,} samples"
    )


def _times(task: Task, first: Any, output: Tensor, wanted: Tensor | None) -> str:
    """Return what is said of pictures that come out another number of times as large."""
    if wanted is None or not isinstance(first, Tensor) or first.ndim != 4 or output.ndim != 4:
        return ""
    if output.shape[1] != wanted.shape[1] or output.shape[2:] == wanted.shape[2:]:
        return ""
    made, asked = (x.shape[2] / first.shape[2] for x in (output, wanted))
    what = (
        f"The network makes pictures {made:g} times as high as its inputs, and those wanted are "
        f"{asked:g} times as high. "
    )
    return what + (f"Set task.scale={made:g}. " if task.name == "restore" else "")


def _check_discriminator(
    task: Task, batch: Batch, discriminator: nn.Module, output: Tensor
) -> None:
    outputs = {"made": output} | ({} if batch.wanted is None else {"wanted": batch.wanted})
    for kind, images in outputs.items():
        shown = task.shown(batch, images)
        with untouched(discriminator):
            what = f"the discriminator's forward fails on {kind} outputs {tuple(images.shape)}"
            call = _call(discriminator, shown, batch, what)
            heads: list[Tensor] = run_or_name(
                lambda call=call, shown=shown: call(
                    discriminator,
                    image=shown.output,
                    label=shown.labels,
                    condition=shown.condition,
                ),
                what,
            )
        for head in heads:
            if head.shape[:1] != images.shape[:1]:
                raise DataError(
                    f"the discriminator returned {tuple(head.shape)} for {len(images)} outputs; "
                    "expected logits of each"
                )
            refuse_not_finite(head, "the discriminator's logits", discriminator)
