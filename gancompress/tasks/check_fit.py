"""One probe batch through all networks before step 0: what does not fit is named at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import Dataset
from gancompress.data.inputs import InputSampler
from gancompress.data.order import stream
from gancompress.errors import ConfigError, DataError, GancompressError
from gancompress.modules.discriminator import call_of, logits_of
from gancompress.modules.finite import refuse_not_finite
from gancompress.modules.undisturbed import BufferGuard, evaluating
from gancompress.modules.user_line import failing_line

PROBE = 2
TOLERANCE = 1.01


def check_fit(
    generator: nn.Module,
    sampler: InputSampler,
    *,
    discriminator: nn.Module | None = None,
    dataset: Dataset | None = None,
    augment: Sequence[Any] = (),
) -> tuple[Tensor, ...]:
    """Run a batch of 2 through the networks and return the generator's arguments (ours).

    Nothing is changed: eval mode, no gradient, buffers put back. Beside real images the
    generator's must be images (n, channels, h, w) in [-1, 1]; without, sound (n, channels, time)
    and volumes do as well, in any range, since only the teacher's are compared with.

    Raises:
        DataError: a forward pass fails, or channels, size, range or classes differ; expected and
            found values are in the message.
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    inputs = tuple(part.to(device) for part in sampler(PROBE, stream(0, "probe")))
    shown = ", ".join(f"{tuple(p.shape)} {str(p.dtype).removeprefix('torch.')}" for p in inputs)
    with untouched(generator):
        output = run_or_name(
            lambda: generator(*inputs), f"the generator's forward fails on inputs {shown}"
        )
    images = sampler.image(output)
    sound = getattr(dataset, "rate", None) is not None
    ranks = (3,) if sound else (3, 4, 5) if dataset is None else (4,)
    kind = "sound" if sound else "images"
    _check_images(images, f"the generator's {kind}", generator, ranks=ranks)
    if discriminator is not None and augment and images.ndim != 4:
        raise DataError(
            f"augment ({', '.join(augment)}) is for images (n, channels, h, w); the generator "
            f"makes {tuple(images.shape)}. Set augment=[]"
        )
    labels = sampler.labels(inputs)
    if dataset is not None:
        refuse_noise_for_pictures(sampler, images, generator)
        _check_data(images, dataset, sampler)
    if discriminator is not None:
        with untouched(discriminator):
            shown_to_it: list[tuple[str, Tensor, Tensor | None]] = [("generated", images, labels)]
            if dataset is not None:
                real, y = dataset.batch(torch.arange(min(PROBE, len(dataset))))
                y = y.to(device) if y is not None and sampler.draws_labels else None
                shown_to_it.append(("real", real.to(device), y))
            for kind, pictures, y in shown_to_it:
                what = f"the discriminator's forward fails on {kind} images {tuple(pictures.shape)}"
                logits = run_or_name(
                    partial(_logits, discriminator, pictures, y, sampler.n_classes), what
                )
                if logits.shape[:1] != pictures.shape[:1]:
                    raise DataError(
                        f"the discriminator returned {tuple(logits.shape)} for {len(pictures)} "
                        f"{kind} images; expected one logit an image"
                    )
                refuse_not_finite(
                    logits, f"the discriminator's logits of {kind} images", discriminator
                )
    return inputs


def stood_in_for(generator: nn.Module, sampler: InputSampler) -> str | None:
    """Return what the class reads (its ``reads``), where its own ``sample_inputs`` stands in."""
    what = getattr(type(generator), "reads", None)
    return what if isinstance(what, str) and not sampler.parts else None


def refuse_noise_for_pictures(
    sampler: InputSampler, images: Tensor, generator: nn.Module | None = None
) -> None:
    """Refuse to feed noise to a generator that reads pictures, beside data that it never sees.

    An input looks like pictures when its sides are those of the ``images`` (n, c, h, w) that come
    out, or when it has their channels and they are a whole multiple of its sides
    (super-resolution). A map of noise beside a latent vector is none (StyleGAN's).

    Raises:
        ConfigError: an input that looks like pictures is drawn as noise, or the class says that
            what it draws only stands in.
    """
    if generator is not None and (what := stood_in_for(generator, sampler)):
        raise ConfigError(
            f"{type(generator).__name__} reads {what}s, and without --input its class draws noise "
            "in their place: it would be trained on what it never meets in use, while it sees "
            "nothing of --data. Give it pictures: --input 'x=images(FOLDER)', label maps: "
            "'m=masks(FOLDER,35)', pairs: --ab left, or let a task make its inputs of the data: "
            "--task restore, --task vocoder"
        )
    if images.ndim != 4:
        return
    shapes = [part.source.shape for part in sampler.parts if part.noise]
    latent = any(len(shape) == 1 or shape[1:] == (1, 1) for shape in shapes)
    channels, *sides = images.shape[1:]
    for part in sampler.parts:
        if not part.noise or len(part.source.shape) != 3 or (latent and len(shapes) > 1):
            continue
        c, h, w = part.source.shape
        same = [h, w] == sides and min(h, w) >= 8
        larger = min(h, w) >= 16 and c == channels and not (sides[0] % h or sides[1] % w)
        if same or larger:
            shown = ",".join(map(str, part.source.shape))
            raise ConfigError(
                f"input {part.name!r} is noise, {part.kind}({shown}), and the generator makes "
                f"pictures {tuple(images.shape[1:])} of it: it reads pictures, and would be "
                "trained on noise that it never meets in use, while it sees nothing of --data. "
                f"Give it pictures: --input '{part.name}=images(FOLDER)'. If noise is what it "
                "reads, give its class a method sample_inputs(n, rng)"
            )


def _check_data(images: Tensor, dataset: Dataset, sampler: InputSampler) -> None:
    made = tuple(images.shape[1:])
    sound = images.ndim == 3
    real, _ = dataset.batch(torch.arange(min(PROBE, len(dataset))))
    given = tuple(real.shape[1:])
    if made != given:
        what = "sound" if sound else "images"
        axes = "channels, samples" if sound else "channels, height, width"
        advice = f" (--length {made[1]})" if sound else ""
        raise DataError(
            f"the generator makes {what} {made} ({axes}); the data has {given}. Use data of the "
            f"generator's size{advice}"
        )
    if sampler.n_classes is not None and dataset.n_classes != sampler.n_classes:
        raise DataError(
            f"the generator draws labels of {sampler.n_classes} classes; the data has "
            f"{dataset.n_classes or 'no labels'}. Use matching data, or another y=labels(...)"
        )
    _check_images(real, f"the data's {'sound' if sound else 'images'}", None, ranks=(real.ndim,))


def _check_images(
    images: object, what: str, made_by: nn.Module | None, *, ranks: tuple[int, ...]
) -> None:
    beside_data = len(ranks) == 1
    shape = "*space" if not beside_data else {3: "time", 4: "h, w"}[ranks[0]]
    if not isinstance(images, Tensor) or images.ndim not in ranks or not images.is_floating_point():
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"{what} must be floats (n, channels, {shape}); found {found}")
    refuse_not_finite(images, what, made_by)
    low, high = float(images.min()), float(images.max())
    if beside_data and (low < -TOLERANCE or high > TOLERANCE):
        raise DataError(
            f"{what} lie in [{low:.3g}, {high:.3g}]; expected [-1, 1]. Scale them, for a generator "
            "for example by a last tanh"
        )


def _logits(
    discriminator: nn.Module, images: Tensor, labels: Tensor | None, n_classes: int | None
) -> Tensor:
    # The first question is asked with the number of classes: all later ones get its answer.
    call_of(discriminator, images, labels, n_classes=n_classes)
    return logits_of(discriminator, images, labels)


def run_or_name(call: Callable[[], Any], what: str) -> Any:
    """Return what ``call`` returns; an error says ``what`` failed, and where in the user's code.

    Raises:
        DataError: it failed.
    """
    try:
        return call()
    except GancompressError as error:
        raise type(error)(f"{what}: {error}") from error
    except Exception as error:
        line = failing_line(error)
        place = f" at {line}" if line else ""
        raise DataError(f"{what}: {type(error).__name__}: {error}{place}") from error


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Run the body with ``module`` in eval mode and no gradient; its buffers come back."""
    guard = BufferGuard(module)
    try:
        with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        guard.restore()
