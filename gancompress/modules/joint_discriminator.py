"""Several discriminators as one: multi-period beside multi-scale, one for each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.modules.discriminator import DiscriminatorCall, call_of, takes_labels

Given = nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module]


class JointDiscriminator(nn.Module):
    """Judges by all of its members; their heads are one list, features likewise (ours).

    Each member is called in its own way (`DiscriminatorCall`), found by a probe or said by
    `use_call`. In a state dict member ``mpd`` is ``members.mpd.``; those of a list are numbered.

    Attributes:
        members: the discriminators, by name.
        calls: how each is called; known once `settle` was asked.
    """

    def __init__(self, members: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleDict(members)
        self.calls: tuple[DiscriminatorCall, ...] = ()

    def settle(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        n_classes: int | None = None,
    ) -> DiscriminatorCall:
        """Ask for the call of each member, and return that of all together; see `call_of`.

        Raises:
            DataError: no way of calling one of them works.
        """
        calls = tuple(
            call_of(member, images, labels, condition, n_classes=n_classes)
            for member in self.members.values()
        )
        if calls != self.calls:
            self.calls = calls
        arguments = ["image"]
        if any(takes_labels(call) for call in calls):
            arguments.append("label")
        if any("condition" in argument for call in calls for argument in call.arguments):
            arguments.append("condition=condition")
        return DiscriminatorCall(tuple(arguments), ("*.0.*",), ("*.1.*",))

    def forward(
        self, image: Tensor, label: Tensor | None = None, condition: Tensor | None = None
    ) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Return (logits of each head, features of layers) of each member.

        Args:
            image: (n, c, *space).
            label: int64 (n,), where a member takes it.
            condition: (n, c, *space), where a member takes it.
        """
        found: list[tuple[list[Tensor], list[Tensor]]] = []
        for member, call in zip(self.members.values(), self.calls, strict=True):
            positional, keywords = call.bind(image=image, label=label, condition=condition)
            output: Any = member(*positional, **keywords)
            found.append((call.read(output), call.read_features(output)))
        return found


def joined(given: Given | None) -> nn.Module | None:
    """Return one discriminator made of those ``given``; a single one stays itself.

    Raises:
        ConfigError: an empty list, one that is there twice, or something that is no module.
    """
    if given is None or isinstance(given, nn.Module):
        return given
    named = (
        {str(k): v for k, v in given.items()}
        if isinstance(given, Mapping)
        else {str(i): v for i, v in enumerate(given)}
    )
    if not named:
        raise ConfigError("an empty list of discriminators: give None for a run without one")
    for name, member in named.items():
        if not isinstance(member, nn.Module):
            raise ConfigError(
                f"discriminator {name} is a {type(member).__name__}, not a torch.nn.Module"
            )
        if not name or "." in name:
            raise ConfigError(f"discriminator {name!r}: a name in a state dict has no dot")
    if len({id(member) for member in named.values()}) < len(named):
        raise ConfigError("a discriminator is in the list twice: its optimiser could not hold it")
    return next(iter(named.values())) if len(named) == 1 else JointDiscriminator(named)
