"""The teacher's discriminator as a frozen observer of images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.distill.maths import widen
from gancompress.distill.protocol import Context
from gancompress.distill.tap_pairs import find_taps
from gancompress.distill.taps import Taps, tap_path
from gancompress.errors import ConfigError, GancompressError
from gancompress.modules.discriminator import call_of
from gancompress.modules.nested import pick
from gancompress.modules.undisturbed import look


class FrozenDiscriminator:
    """A frozen copy, in eval mode, of the teacher's discriminator with its taps (ours).

    ``sizes`` maps each tap to its spatial size. Not an ``nn.Module``: it must stay out of the
    distiller's parameters and checkpoints. Without ``taps`` they are found, one a spatial size, in
    the order of the forward; where no module runs just once (several heads share them, both sounds
    pass them), the features that it returns are looked at instead, called ``features 0`` and so on.

    Raises:
        ConfigError: no discriminator, an unknown tap, or no map to tap.
        DataError: a conditional discriminator, and no labels or no condition to show it; or a
            teacher of several outputs, and nobody says which is the image.
    """

    def __init__(self, context: Context, who: str, taps: Sequence[str] | None) -> None:
        if context.discriminator is None:
            raise ConfigError(
                f"{who} looks at images with the teacher's discriminator, and there is none; "
                "give one (--discriminator) or choose distiller 'attention'"
            )
        self.who = who
        images = context.image
        if images is None:
            images = pick(look(context.teacher, context.example))
        try:
            self.call = call_of(context.discriminator, images, context.labels(), context.condition)
        except GancompressError as error:
            raise type(error)(f"{who}: {error}") from error
        # Copied after it was asked: several in one remember how each of them is called.
        self.network = copy.deepcopy(context.discriminator).requires_grad_(False).eval()
        arguments, named = self._arguments(images, context.labels(), context.condition)
        self.returned = False
        if taps is None:
            found = self._found(arguments, named)
        else:
            if not taps:
                raise ConfigError(f"{who}: the list of discriminator taps is empty")
            for tap in taps:
                tap_path(self.network, tap)
            with Taps(self.network, taps) as recorder:
                look(self.network, arguments, named)
                shapes = {tap: tuple(x.shape) for tap, x in recorder.take().items()}
            found = {tap: shape[2:] for tap, shape in shapes.items()}
        self.sizes: Mapping[str, tuple[int, ...]] = found

    def _found(
        self, arguments: tuple[Tensor, ...], named: Mapping[str, Tensor]
    ) -> dict[str, tuple[int, ...]]:
        try:
            sizes = find_taps(self.network, arguments, named, results=self.call.read)
        except ConfigError:
            features = self.call.read_features(look(self.network, arguments, named))
            maps = {f"features {i}": tuple(x.shape[2:]) for i, x in enumerate(features)}
            self.returned = any(maps.values())
            if not self.returned:
                raise
            return {name: shape for name, shape in maps.items() if shape}
        return {tap: size for size, tap in sizes.items()}

    def keep(self, taps: Sequence[str]) -> None:
        """Look only at ``taps`` from now on."""
        self.sizes = {tap: self.sizes[tap] for tap in taps}

    def features(
        self, images: Tensor, labels: Tensor | None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the activations by tap, in the run's precision, with gradient to ``images``."""
        arguments, named = self._arguments(images, labels, condition)
        if self.returned:
            return self._returned(self.network(*arguments, **named))
        with Taps(self.network, list(self.sizes)) as taps:
            self.network(*arguments, **named)
            return dict(taps.take())

    def _returned(self, output: Any) -> dict[str, Tensor]:
        found = {f"features {i}": x for i, x in enumerate(self.call.read_features(output))}
        return {name: found[name] for name in self.sizes}

    def class_maps(
        self, images: Tensor, labels: Tensor | None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return sum_c (d score / d F_c) F_c by tap, (n, *space): what a place adds to the score.

        The derivative is taken element by element and held constant; gradient flows to ``images``
        through F. At a last feature map that the head reads through relu, sum pooling and a
        projection, this is the score's exact decomposition over space (up to the bias): sum_c
        w_c(y) relu(F_c).
        """
        if self.returned and not images.requires_grad:
            images = images.detach().requires_grad_()  # no layer of its own starts the graph
        leaves = _Leaves()
        handles = [
            self.network.get_submodule(tap_path(self.network, tap)).register_forward_hook(
                leaves.open
            )
            for tap in ([] if self.returned else self.sizes)
        ]
        try:
            tapped = [] if self.returned else list(self.sizes)
            with torch.enable_grad(), Taps(self.network, tapped) as taps:
                arguments, named = self._arguments(images, labels, condition)
                output = self.network(*arguments, **named)
                heads = self.call.read(output)
                features = self._returned(output) if self.returned else taps.take()
                means = [widen(head).reshape(head.shape[0], -1).mean(1) for head in heads]
                total = torch.stack(means).mean(0).sum()
                # Only the part behind the first tap is differentiated here.
                slopes = torch.autograd.grad(
                    total, list(features.values()), retain_graph=images.requires_grad
                )
        finally:
            for handle in handles:
                handle.remove()
        return {
            tap: (widen(slope) * widen(feature)).sum(1)
            for (tap, feature), slope in zip(features.items(), slopes, strict=True)
        }

    def _arguments(
        self, images: Tensor, labels: Tensor | None, condition: Tensor | None
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        return self.call.bind(image=images, label=labels, condition=condition)


class _Leaves:
    """Starts the graph at a tap when nothing before it asks for gradient."""

    def open(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor) and not output.requires_grad:
            # A clone, not the leaf itself: an in-place relu may follow.
            return output.detach().requires_grad_().clone()
        return None
