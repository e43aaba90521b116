"""What outputs look like to another network: the only view that sets are compared through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.errors import DataError, GancompressError
from gancompress.metrics.classifier import FEATURES, describe
from gancompress.modules.user_line import failing_line


class Features(Protocol):
    """A named view of images: features for distances, predicted labels for accuracy (ours).

    It may have a method ``standard(fake, real)`` that returns figures which the field knows by name
    for these very features (`InceptionFeatures`).
    """

    name: str
    n_classes: int

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (n, d) and predicted labels (n,) of images (n, c, h, w) in [-1, 1].

        Labels are ``None`` where the view does not know the classes.
        """
        ...


class EmbeddedFeatures:
    """The shipped Fashion-MNIST classifier as ``Features``: 96-d, grey 32x32 images (ours)."""

    name = FEATURES
    n_classes = 10

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, 96) and predicted labels (n,) of images (n, 1, 32, 32) in [-1, 1].

        Raises:
            DataError: the images have another shape or hold non-finite values.
        """
        return describe(images)


SIDE = 32
"""Height and width that the embedded classifier reads."""


class GreyFeatures:
    """The embedded classifier on pictures of any size and colour, made grey and 32x32 (ours).

    A rough view: it was trained on garments. Sets that differ clearly are told apart; its scale is
    its own, and classes are not known.
    """

    name = f"{FEATURES} on grey {SIDE}x{SIDE}"
    n_classes = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        """Return features (n, 96) of images (n, c, h, w) in [-1, 1], channels averaged.

        Raises:
            DataError: no images, or non-finite values.
        """
        if images.ndim != 4:
            raise DataError(
                f"the embedded features look at pictures (n, c, h, w), got {tuple(images.shape)}. "
                "Give features of your own: --features package.module:fn"
            )
        grey = images.float().mean(1, keepdim=True)
        small = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return describe(small.clamp(-1, 1))[0], None


class OwnFeatures:
    """Features of the user's own: a network or function, named as it was typed (ours).

    Args:
        view: is given outputs (n, c, *space) in [-1, 1] and returns features (n, d), or maps
            (n, d, *space) that are averaged over space; or a pair of those and of logits (n, k),
            the largest of which is taken for the class.
        name: what results call it.
        device: where it computes; a network is moved there, in eval mode.

    Raises:
        DataError: when called: the view fails, or returns something else.
    """

    def __init__(
        self, view: Callable[[Tensor], Any], name: str, device: str | torch.device = "cpu"
    ) -> None:
        self.view, self.name, self.device = view, name, torch.device(device)
        self.n_classes = 0
        if isinstance(view, nn.Module):
            view.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (n, d) and predicted labels (n,) or ``None``."""
        try:
            found: Any = self.view(images.float().to(self.device))
        except GancompressError:
            raise
        except Exception as error:
            line = failing_line(error)
            place = f" at {line}" if line else ""
            raise DataError(
                f"features {self.name} fail on outputs {tuple(images.shape)}: "
                f"{type(error).__name__}: {error}{place}"
            ) from error
        view: Any = found
        logits: Any = None
        if isinstance(found, (tuple, list)) and len(found) == 2:
            view, logits = found
            self._check(logits, images)
        self._check(view, images)
        view = view.flatten(2).mean(2) if view.ndim > 2 else view
        if logits is None:
            return view.double().cpu(), None
        self.n_classes = logits.shape[1]
        return view.double().cpu(), logits.argmax(1).cpu()

    def _check(self, part: Any, images: Tensor) -> None:
        if not isinstance(part, Tensor) or part.ndim < 2 or len(part) != len(images):
            shown = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise DataError(
                f"features {self.name} returned {shown} for {len(images)} outputs; expected "
                "features (n, d), or a pair of features (n, d) and logits (n, k)"
            )


def embedded_view(shape: tuple[int, ...]) -> Features:
    """Return the embedded features for outputs of ``shape`` (c, *space)."""
    return EmbeddedFeatures() if shape == (1, SIDE, SIDE) else GreyFeatures()


class Described(NamedTuple):
    """What features tell of samples.

    Attributes:
        view: features (n, d) in float64.
        predicted: labels (n,); ``None`` where the features know no classes.
        given: labels (n,) that the samples came with; ``None`` without.
    """

    view: Tensor
    predicted: Tensor | None
    given: Tensor | None


def describe_all(batches: Iterable[tuple[Tensor, Tensor | None]], features: Features) -> Described:
    """Return features, predicted and given labels of all batches."""
    found, predicted, given = [], [], []
    for images, labels in batches:
        view, classes = features(images)
        found.append(view.double())
        if classes is not None:
            predicted.append(classes)
        if labels is not None:
            given.append(labels)
    known = torch.cat(predicted) if predicted else None
    return Described(torch.cat(found), known, torch.cat(given) if given else None)
