"""How a discriminator is called and read: found once by a probe, or said; then plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError
from gancompress.modules.nested import items_of, tensors_of

_NAME = r"[A-Za-z_]\w*"
_ARGUMENT = re.compile(
    rf"^(?:(?P<keyword>{_NAME})=)?"
    rf"(?:(?P<name>{_NAME})|cat\((?P<parts>{_NAME}(?:, {_NAME})+)\)"
    rf"|onehot\((?P<label>{_NAME}), (?P<classes>[1-9]\d*)\))$"
)
_PATH = re.compile(r"^(?:\*|-?\d+|[A-Za-z_]\w*)(?:\.(?:\*|-?\d+|[A-Za-z_]\w*))*$")
_FEATURES = re.compile(r"\s+features\s+")
_COMMA = re.compile(r",(?![^(]*\))")  # not those inside of parentheses


@dataclass(frozen=True)
class DiscriminatorCall:
    """The arguments of a discriminator, and where its output holds the logits (ours).

    Plain data: ``str(call)`` can be written into a run and typed by a user, and
    ``DiscriminatorCall.parse`` reads it back.

    Attributes:
        arguments: in order, each ``image``, ``label``, ``condition`` (or another name that the
            caller gives a value for), ``cat(condition, image)`` (joined along the channels) or
            ``onehot(label, 10)`` (floats (n, 10)); ``y=label`` hands it over as keyword ``y``.
        logits: paths into the output: ``""`` is all of it, ``0`` its first item, ``1.-1`` the last
            item of its second, ``*.0`` the first item of each, ``score`` an entry or field.
        features: paths likewise to the features of its layers; empty: all other tensors.
        remark: what the probe could not decide, for people.
    """

    arguments: tuple[str, ...] = ("image",)
    logits: tuple[str, ...] = ("",)
    features: tuple[str, ...] = ()
    remark: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> DiscriminatorCall:
        """Read ``"image, label"``, ``"image -> 0, 1"`` or ``"image, image -> 1.* features 3.*.*"``.

        The last is HiFi-GAN's form D(y, y_hat), which returns logits and features of both.

        Raises:
            ConfigError: another form; the part is named.
        """
        left, arrow, right = text.partition("->")
        arguments = tuple(re.sub(r"\s+", "", a).replace(",", ", ") for a in _COMMA.split(left))
        heads, *more = _FEATURES.split(right, maxsplit=1)
        logits = tuple(p.strip() for p in heads.split(",")) if arrow else ("",)
        features = tuple(p.strip() for p in more[0].split(",")) if more else ()
        for kind, parts, form in (
            ("argument", arguments, _ARGUMENT),
            ("output", (*logits, *features), _PATH),
        ):
            for part in parts:
                if not form.match(part) and not (kind == "output" and not arrow):
                    raise ConfigError(
                        f"discriminator call {text!r}: {kind} {part!r} is not understood. For "
                        "example: image | image, label | cat(condition, image) | "
                        "condition, image -> 0"
                    )
        return cls(arguments, logits, features)

    def __str__(self) -> str:
        read = "" if self.logits == ("",) else f" -> {', '.join(self.logits)}"
        read += f" features {', '.join(self.features)}" if self.features else ""
        return f"{', '.join(self.arguments)}{read}"

    def bind(self, **values: Tensor | None) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return positional and keyword arguments made of ``values`` (``None``: not there).

        Raises:
            DataError: a value that the call needs is not there, or parts of a cat do not fit.
        """
        positional: list[Tensor] = []
        keywords: dict[str, Tensor] = {}
        for argument in self.arguments:
            found = _ARGUMENT.match(argument)
            assert found is not None, argument
            value = _value(found, values)
            if found["keyword"]:
                keywords[found["keyword"]] = value
            else:
                positional.append(value)
        return tuple(positional), keywords

    def read(self, output: Any) -> list[Tensor]:
        """Return the logits in ``output``, one tensor a head; half precision becomes float32.

        Raises:
            DataError: there is no tensor at a path.
        """
        return [_wide(head) for head in _all_at(output, self.logits)]

    def read_features(self, output: Any) -> list[Tensor]:
        """Return the features of layers that ``output`` holds beside the logits; may be empty.

        Raises:
            DataError: there is no tensor at a path.
        """
        if self.features:
            return [_wide(x) for x in _all_at(output, self.features)]
        heads = {id(head) for head in _all_at(output, self.logits)}
        others = [x for x in tensors_of(output) if id(x) not in heads]
        return [_wide(x) for x in others if x.is_floating_point() and x.ndim > 1]

    def __call__(self, discriminator: nn.Module, **values: Tensor | None) -> list[Tensor]:
        """Return the logits of ``discriminator`` on ``values``, one tensor a head."""
        positional, keywords = self.bind(**values)
        return self.read(discriminator(*positional, **keywords))


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _all_at(output: Any, paths: Sequence[str]) -> list[Tensor]:
    return [found for path in paths for found in _at(output, path.split("."), path)]


def _value(argument: re.Match[str], values: Mapping[str, Tensor | None]) -> Tensor:
    names = (argument["parts"] or argument["name"] or argument["label"]).split(", ")
    parts: list[Tensor] = []
    for name in names:
        part = values.get(name)
        if part is None:
            known = ", ".join(k for k, v in values.items() if v is not None)
            raise DataError(
                f"the discriminator is called with {name!r}, and there is none here (there is: "
                f"{known}; condition: the inputs beside the output, of task paired those that "
                "task.condition names). Give data that has it, or another --discriminator-call"
            )
        parts.append(part)
    image = values.get("image")
    if argument["label"]:
        kind = torch.float32 if image is None else image.dtype
        return F.one_hot(parts[0], int(argument["classes"])).to(kind)
    if len(parts) == 1:
        return parts[0]
    if len({(len(p), *p.shape[2:]) for p in parts}) > 1:
        shapes = " and ".join(f"{n} {tuple(p.shape)}" for n, p in zip(names, parts, strict=True))
        raise DataError(f"{shapes} cannot be joined along the channels: their sizes differ")
    return torch.cat(parts, 1)


def _at(output: Any, path: Sequence[str], whole: str) -> Iterator[Tensor]:
    if not path or path == [""]:
        if not isinstance(output, Tensor):
            place = whole or "its top"
            raise DataError(
                f"the discriminator's output holds {type(output).__name__} at {place}, "
                "not a tensor of logits. Say where they are, for example "
                "--discriminator-call 'image -> 0'"
            )
        yield output
        return
    key, rest = path[0], path[1:]
    entries = items_of(output)
    if key == "*":
        for entry in entries.values():
            yield from _at(entry, rest, whole)
        return
    number = key.removeprefix("-").isdecimal()
    if number and -len(entries) <= int(key) < len(entries):
        yield from _at(list(entries.values())[int(key)], rest, whole)
    elif key in entries:
        yield from _at(entries[key], rest, whole)
    else:
        known = f"it has {', '.join(entries)}" if entries else f"it is a {type(output).__name__}"
        raise DataError(f"the discriminator's output has nothing at {whole!r}: {known}")


_CALLS: WeakKeyDictionary[nn.Module, dict[tuple[bool, bool] | None, DiscriminatorCall]] = (
    WeakKeyDictionary()
)


def use_call(discriminator: nn.Module, call: DiscriminatorCall) -> None:
    """Call ``discriminator`` by ``call`` from now on, without any probe.

    Of several in one (`JointDiscriminator`) each is called so.
    """
    for part in members_of(discriminator) or (discriminator,):
        _CALLS.setdefault(part, {})[None] = call


def same_call(copy: nn.Module, discriminator: nn.Module) -> nn.Module:
    """Call ``copy`` as ``discriminator`` is called, and return it."""
    for one, other in zip(members_of(copy), members_of(discriminator), strict=True):
        same_call(one, other)
    if discriminator in _CALLS:
        _CALLS[copy] = dict(_CALLS[discriminator])
    return copy


def call_of(
    discriminator: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
    *,
    n_classes: int | None = None,
) -> DiscriminatorCall:
    """Return how ``discriminator`` is called: as said by `use_call`, else found by one probe.

    The probe runs once for each module; training, distillation, narrowing and the check before
    step 0 all ask here.

    Raises:
        DataError: no way of calling it works; why is in the message.
    """
    from gancompress.modules.discriminator_probe import find_call
    from gancompress.modules.joint_discriminator import JointDiscriminator

    if isinstance(discriminator, JointDiscriminator):
        return discriminator.settle(images, labels, condition, n_classes=n_classes)
    known = _CALLS.setdefault(discriminator, {})
    if None in known:
        return known[None]
    key = labels is not None, condition is not None
    if key not in known:
        known[key] = find_call(discriminator, images, labels, condition, n_classes=n_classes)
    return known[key]


def members_of(discriminator: nn.Module) -> tuple[nn.Module, ...]:
    """Return the discriminators that a `JointDiscriminator` holds; none of any other module."""
    from gancompress.modules.joint_discriminator import JointDiscriminator

    joint = isinstance(discriminator, JointDiscriminator)
    return tuple(discriminator.members.values()) if joint else ()


def describe_call(
    discriminator: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
) -> str:
    """Return in one line how ``discriminator``, or each of several in one, is called."""
    members = members_of(discriminator)
    parts: list[str] = []
    for part in members or (discriminator,):
        call = call_of(part, images, labels, condition)
        name = type(part).__name__ if members else "D"
        remark = f" ({call.remark}; else say --discriminator-call)" if call.remark else ""
        parts.append(f"{name}({call}){remark}")
    return "; ".join(parts)


def takes_labels(call: DiscriminatorCall) -> bool:
    """Return whether ``call`` hands labels over."""
    return any(re.search(r"\blabel\b", a.rpartition("=")[2]) for a in call.arguments)


def takes_condition(call: DiscriminatorCall) -> bool:
    """Return whether ``call`` hands the condition over."""
    return any(re.search(r"\bcondition\b", a.rpartition("=")[2]) for a in call.arguments)


def logits_of(
    discriminator: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    condition: Tensor | None = None,
) -> Tensor:
    """Return the logits of ``images`` (n, c, *space), with ``labels`` (n,) where it takes them.

    Several heads come back as one tensor (n, all of them); `call_of` gives them apart.

    Raises:
        DataError: it needs labels and there are none, or no call of it works.
    """
    call = call_of(discriminator, images, labels, condition)
    heads = call(discriminator, **_values(images, labels, condition))
    return heads[0] if len(heads) == 1 else torch.cat([h.flatten(1) for h in heads], 1)


def call_arguments_of(
    discriminator: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    condition: Tensor | None = None,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return positional and keyword arguments of a call on ``images``.

    Raises:
        DataError: it needs labels and there are none, or no call of it works.
    """
    call = call_of(discriminator, images, labels, condition)
    return call.bind(**_values(images, labels, condition))


def _values(
    images: Tensor, labels: Tensor | None, condition: Tensor | None
) -> dict[str, Tensor | None]:
    label = None if labels is None else labels.to(images.device)
    return {"image": images, "label": label, "condition": condition}
