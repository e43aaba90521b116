"""Find out how a discriminator wants to be called, by calling it; read signs, never guess."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import DataError
from gancompress.modules.discriminator import DiscriminatorCall
from gancompress.modules.nested import items_of
from gancompress.modules.undisturbed import undisturbed

LABEL_NAMES = ("y", "c", "label", "labels", "class_label", "class_labels", "classes")
"""Optional arguments (default ``None``) that labels are handed to; any other keeps its default."""

LOGIT_NAMES = ("logits", "logit", "score", "scores", "prediction", "pred", "validity")
"""Entries of a dictionary or fields of an output that are taken for the logits."""

ROWS = 2


def find_call(
    discriminator: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
    *,
    n_classes: int | None = None,
) -> DiscriminatorCall:
    """Return the first call that ``discriminator`` takes and whose output can be read (ours).

    Which calls are tried follows from its signature: what ``forward`` requires gets a value; an
    optional argument gets labels only when its default is ``None`` and its name is that of labels.
    It runs on two samples in eval mode, without gradient, and is left as it was.

    Args:
        discriminator: any module.
        images: (n, channels, *space).
        labels: int64 (n,), or none.
        condition: what the generator read, (n, channels, *space), or none.
        n_classes: how many classes there are: labels are tried as one-hot rows, too.

    Raises:
        DataError: no call works, or what comes back has no plain logits.
    """
    home = next((p.device for p in discriminator.parameters()), images.device)
    values = {"image": images, "label": labels, "condition": condition}
    values = {k: None if v is None else v[:ROWS].to(home) for k, v in values.items()}
    name = type(discriminator).__name__
    first: Exception | None = None
    tried: list[str] = []
    for arguments in _candidates(discriminator, values, n_classes):
        call = DiscriminatorCall(arguments)
        tried.append(f"D({call})")
        try:
            with undisturbed(discriminator):
                positional, keywords = call.bind(**values)
                output = discriminator(*positional, **keywords)
        except Exception as error:
            first = first or error
            continue
        paths = logit_paths(output)
        if paths is None:
            raise DataError(
                f"{name} returned {_shown(output)}; which of it are logits cannot be told. Say it, "
                f"for example --discriminator-call '{call} -> 0'"
            )
        remark = _remark(discriminator, call)
        return DiscriminatorCall(arguments, paths, remark=remark)
    if first is None:
        raise DataError(_needs(discriminator, values))
    if len(tried) == 1:
        # The user's own error and its place in the user's code say more than we could.
        raise first
    raise DataError(
        f"{name} cannot be called as {' or '.join(tried)}: {type(first).__name__}: {first}"
    ) from first


def _signature(discriminator: nn.Module) -> list[inspect.Parameter]:
    wrapped = isinstance(discriminator, nn.DataParallel | torch.nn.parallel.DistributedDataParallel)
    network: Any = discriminator.module if wrapped else discriminator
    return list(inspect.signature(network.forward).parameters.values())


def _required(parameters: Sequence[inspect.Parameter]) -> tuple[list[str], list[str]]:
    """Return the names of positional and of keyword-only arguments without a default."""
    bare = [p for p in parameters if p.default is p.empty]
    positional = [p.name for p in bare if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return positional, [p.name for p in bare if p.kind is p.KEYWORD_ONLY]


def _candidates(
    discriminator: nn.Module, values: dict[str, Tensor | None], n_classes: int | None
) -> Iterator[tuple[str, ...]]:
    """Yield the calls that the signature allows with these values, the likeliest first."""
    parameters = _signature(discriminator)
    positional, keywords = _required(parameters)
    label, condition = values["label"], values["condition"]
    labels = [] if label is None else ["label"]
    labels += [f"onehot(label, {n_classes})"] if labels and n_classes else []
    if keywords:
        if len(keywords) == 1 and len(positional) <= 1:
            yield from (("image", f"{keywords[0]}={given}") for given in labels)
        return
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(positional) <= 1:
        yield from (("image", where + given) for where in _optional(parameters) for given in labels)
        yield ("image",)
        if condition is not None:
            yield ("cat(condition, image)",)
    if len(positional) == 2 or several:
        yield from (("image", given) for given in labels)
        if condition is not None:
            yield from (("condition", "image"), ("image", "condition"))
            yield from (("cat(condition, image)", given) for given in labels)
        yield from ((given, "image") for given in labels)
    if (len(positional) == 3 or several) and condition is not None:
        yield from (("condition", "image", given) for given in labels)
        yield from (("image", "condition", given) for given in labels)
        yield from (("image", given, "condition") for given in labels)


def _optional(parameters: Sequence[inspect.Parameter]) -> Iterator[str]:
    """Yield how to hand over an optional argument for labels: "" in second place, else "y="."""
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for p in parameters:
        if p.name in LABEL_NAMES and p.default is None:
            yield "" if len(plain) > 1 and plain[1] is p else f"{p.name}="
            return


def logit_paths(output: Any) -> tuple[str, ...] | None:
    """Return where ``output`` holds logits (see `DiscriminatorCall`), ``None`` if none is plain.

    A tensor is one. Of several tensors those with one channel are; beside them, tensors of many
    channels are features, and so is whatever is nested deeper than the logits.
    """
    if isinstance(output, Tensor):
        return ("",) if output.is_floating_point() else None
    items = items_of(output)
    named = [k for k in items if k in LOGIT_NAMES]
    if len(named) == 1:
        items = {named[0]: items[named[0]]}
    shallow = min((_depth(v) for v in items.values()), default=0)
    items = {k: v for k, v in items.items() if _depth(v) == shallow}
    if not items:
        return None
    if shallow == 0:
        return _among(items, named, output)
    deeper = {key: logit_paths(value) for key, value in items.items()}
    found = [f"{k}.{path}".rstrip(".") for k, paths in deeper.items() for path in paths or ()]
    return tuple(found) if all(deeper.values()) else None


def _among(items: dict[str, Any], named: Sequence[str], output: Any) -> tuple[str, ...] | None:
    keys = list(items)
    if len(keys) == 1:
        return (keys[0],) if isinstance(items[keys[0]], Tensor) else None
    plain = [k for k in keys if _one_channel(items[k])]
    if plain and (len(plain) == len(keys) or plain == keys[:1] or plain == keys[-1:]):
        return tuple(plain)
    flat = all(isinstance(v, Tensor) and v.ndim == 2 for v in items.values())
    return tuple(keys) if flat and isinstance(output, list) else None


def _depth(value: Any) -> int:
    items = items_of(value)
    return 1 + max(map(_depth, items.values())) if items else 0


def _one_channel(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and (value.ndim == 1 or (value.ndim > 1 and value.shape[1] == 1))
    )


def _shown(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)} of {str(output.dtype).removeprefix('torch.')}"
    items = items_of(output)
    if not items:
        return f"a {type(output).__name__}"
    return f"{type(output).__name__}({', '.join(f'{k}: {_shown(v)}' for k, v in items.items())})"


def _remark(discriminator: nn.Module, call: DiscriminatorCall) -> str:
    parameters = _signature(discriminator)
    remarks: list[str] = []
    if call.arguments[:2] in (("condition", "image"), ("image", "condition")):
        remarks.append("which of the two comes first cannot be told from outside")
    elif "cat(condition, image)" in call.arguments:
        remarks.append("the condition is taken to come first")
    given = sum("=" not in a for a in call.arguments)
    names = [a.partition("=")[0] for a in call.arguments if "=" in a]
    plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    left = [p.name for p in plain[given:] if p.name not in names]
    if left:
        keep = "keeps its" if len(left) == 1 else "keep their"
        remarks.append(f"{', '.join(left)} {keep} default")
    return "; ".join(remarks)


def _needs(discriminator: nn.Module, values: dict[str, Tensor | None]) -> str:
    positional, keywords = _required(_signature(discriminator))
    wanted = [*positional[1:], *keywords]
    name = type(discriminator).__name__
    missing = "labels, and the images carry none" if values["label"] is None else "more than labels"
    return (
        f"{name} asks for {', '.join(map(repr, wanted))} beside the images: it needs {missing}. "
        "Use data with a folder per class, or an unconditional discriminator. One that judges a "
        "real and a made output at once, D(y, y_hat), is called with one of them twice: "
        "--discriminator-call 'image, image -> 1.*'"
    )


_PASSING = (
    "View", "Reshape", "Squeeze", "Unsqueeze", "Mean", "AsStrided", "ToCopy", "Select", "Slice",
    "Permute", "Transpose", "Clone", "Flatten", "Alias", "TBackward", "Cat", "AvgPool",
    "AdaptiveAvgPool", "MkldnnAdaptiveAvgPool", "Clamp", "Stack", "Expand", "Index", "Split",
    "Unbind", "Diagonal",
)  # fmt: skip
"""Names that begin so are of operators that make no logits of probabilities."""
_PROBABILITIES = ("Sigmoid", "Hardsigmoid", "Softmax")


def ends_in_sigmoid(
    discriminator: nn.Module, call: DiscriminatorCall, **values: Tensor | None
) -> bool:
    """Return whether the last thing that makes the output is a sigmoid: probabilities, no logits.

    A hard one and a softmax count. Read from autograd's graph of one forward pass, through
    reshaping, means, pooling and clamping.
    """
    image = values.get("image")
    assert image is not None
    rows = {k: None if v is None else v[:ROWS] for k, v in values.items()}
    with undisturbed(discriminator), torch.enable_grad():
        rows["image"] = image[:ROWS].detach().clone().requires_grad_()
        heads = call(discriminator, **rows)
    return bool(heads) and all(_last_operation(h.grad_fn).startswith(_PROBABILITIES) for h in heads)


def _last_operation(node: Any) -> str:
    while node is not None and type(node).__name__.startswith((*_PASSING, "Unsafe")):
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return "" if node is None else type(node).__name__
