"""How discriminators are called: found by a probe, never guessed, read and written as text."""

from __future__ import annotations

import copy
from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError
from gancompress.modules.discriminator import (
    DiscriminatorCall,
    call_arguments_of,
    call_of,
    logits_of,
    takes_labels,
    use_call,
)
from gancompress.modules.discriminator_probe import ends_in_sigmoid, find_call, logit_paths

IMAGES, CONDITION = torch.rand(4, 3, 8, 8) * 2 - 1, torch.rand(4, 1, 8, 8)
LABELS = torch.tensor([0, 4, 2, 1])


class Base(nn.Module):
    """Counts what it was called with."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.body, self.name = nn.Conv2d(channels, 6, 3, 2, 1), nn.Embedding(5, 6)
        self.codes, self.other = nn.Linear(5, 6), nn.Conv2d(1, 6, 3, 2, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[tuple[str, ...]] = []

    def score(self, x: Tensor, extra: Any = 0.0) -> Tensor:
        self.calls += 1
        return (self.body(x).mean((2, 3)) + extra).sum(1, keepdim=True)


class Plain(Base):
    def forward(self, x):
        return self.score(x)


class Slope(Base):
    """The second argument is an option."""

    def forward(self, x, slope=0.2):
        assert isinstance(slope, float)
        return self.score(F.leaky_relu(x, slope))


class Features(Base):
    def forward(self, x, return_features=False, alpha=None):
        assert return_features is False
        assert alpha is None
        return self.score(x)


class NamedY(Base):
    """Named as labels are, but a number by default: an option."""

    def forward(self, x, y=1.0):
        assert y == 1.0
        return self.score(x) * y


class Labels(Base):
    def forward(self, x, klass):
        return self.score(x, self.name(klass))


class OptionalLabels(Base):
    def forward(self, x, y=None):
        return self.score(x, 0.0 if y is None else self.name(y))


class LateLabels(Base):
    def forward(self, x, alpha=1.0, labels=None):
        return self.score(x * alpha, 0.0 if labels is None else self.name(labels))


class KeywordLabels(Base):
    def forward(self, x, *, y):
        return self.score(x, self.name(y))


class Codes(Base):
    def forward(self, x, c):
        return self.score(x, self.codes(c))


class LabelsFirst(Base):
    def forward(self, y, x):
        return self.score(x, self.name(y))


class Joined(Base):
    def __init__(self) -> None:
        super().__init__(4)

    def forward(self, pair):
        return self.score(pair)


class ConditionFirst(Base):
    def forward(self, condition, x):
        return self.score(x, self.other(condition).mean((2, 3)))


class ConditionLast(Base):
    def forward(self, x, condition):
        return self.score(x, self.other(condition).mean((2, 3)))


class Both(Base):
    def forward(self, condition, x, y):
        return self.score(x, self.other(condition).mean((2, 3)) + self.name(y))


class Packed(Base):
    def forward(self, *given):
        x, y = given
        return self.score(x, self.name(y))


@pytest.mark.parametrize(
    ("kind", "with_labels", "with_condition", "call"),
    [
        (Plain, True, False, "image"),
        (Plain, True, True, "image"),
        (Slope, True, False, "image"),
        (Features, True, True, "image"),
        (NamedY, True, False, "image"),
        (Labels, True, False, "image, label"),
        (OptionalLabels, True, False, "image, label"),
        (OptionalLabels, False, False, "image"),
        (LateLabels, True, False, "image, labels=label"),
        (KeywordLabels, True, False, "image, y=label"),
        (Codes, True, False, "image, onehot(label, 5)"),
        (LabelsFirst, True, False, "label, image"),
        (Joined, False, True, "cat(condition, image)"),
        (Joined, True, True, "cat(condition, image)"),
        (ConditionFirst, False, True, "condition, image"),
        (ConditionLast, True, True, "image, condition"),
        (Both, True, True, "condition, image, label"),
        (Packed, True, False, "image, label"),
    ],
)
def test_the_call_that_works_is_found(
    kind: type[Base], with_labels: bool, with_condition: bool, call: str
) -> None:
    discriminator = kind().train()
    before = copy.deepcopy(discriminator.state_dict())
    found = find_call(
        discriminator,
        IMAGES,
        LABELS if with_labels else None,
        CONDITION if with_condition else None,
        n_classes=5,
    )
    assert str(found) == call
    assert DiscriminatorCall.parse(str(found)) == found
    assert takes_labels(found) == ("label" in call.replace("labels=", ""))
    assert discriminator.training
    assert all(torch.equal(v, before[k]) for k, v in discriminator.state_dict().items())
    heads = found(discriminator, image=IMAGES, label=LABELS, condition=CONDITION)
    assert [tuple(h.shape) for h in heads] == [(4, 1)]


def test_options_that_keep_their_default_are_named() -> None:
    assert find_call(Slope(), IMAGES, LABELS).remark == "slope keeps its default"
    assert "return_features, alpha keep" in find_call(Features(), IMAGES, LABELS).remark
    assert "come first" in find_call(Joined(), IMAGES, None, CONDITION).remark


def test_one_answer_for_all_that_ask() -> None:
    discriminator = OptionalLabels()
    logits = logits_of(discriminator, IMAGES, LABELS)
    assert torch.equal(logits, discriminator(IMAGES, LABELS))
    positional, keywords = call_arguments_of(discriminator, IMAGES, LABELS)
    assert len(positional) == 2
    assert keywords == {}
    assert call_of(discriminator, IMAGES, LABELS) is call_of(discriminator, IMAGES, LABELS)
    # Without labels it is another question, with an answer of its own.
    assert torch.equal(logits_of(discriminator, IMAGES, None), discriminator(IMAGES))
    use_call(discriminator, DiscriminatorCall.parse("image"))
    assert torch.equal(logits_of(discriminator, IMAGES, LABELS), discriminator(IMAGES))


def test_the_probe_runs_once() -> None:
    discriminator = Plain()
    for _ in range(3):
        logits_of(discriminator, IMAGES, None)
    assert int(discriminator.calls) == 3  # the probe has put its own count back


def test_labels_that_are_not_there() -> None:
    with pytest.raises(DataError, match=r"asks for 'klass' .* it needs labels"):
        logits_of(Labels(), IMAGES, None)
    call = DiscriminatorCall.parse("image, label")
    with pytest.raises(DataError, match="called with 'label', and there is none"):
        call(Labels(), image=IMAGES, label=None)


def test_the_users_own_error_is_told() -> None:
    class Faulty(Base):
        def forward(self, x):
            raise LookupError("no such layer")

    with pytest.raises(LookupError, match="no such layer"):
        find_call(Faulty(), IMAGES)

    class FaultyLabels(Base):
        def forward(self, x, y):
            raise LookupError("no such row")

    with pytest.raises(DataError, match=r"cannot be called as D\(image, label\) or .*no such row"):
        find_call(FaultyLabels(), IMAGES, LABELS)


def test_a_condition_of_another_size_cannot_be_joined() -> None:
    call = DiscriminatorCall.parse("cat(condition, image)")
    with pytest.raises(DataError, match=r"condition \(4, 1, 4, 4\) and image \(4, 3, 8, 8\)"):
        call.bind(image=IMAGES, condition=CONDITION[..., :4, :4])


def logits(*shape: int) -> Tensor:
    return torch.zeros(2, *shape)


Pair = namedtuple("Pair", "score features")


@pytest.mark.parametrize(
    ("output", "paths"),
    [
        (logits(1), ("",)),
        (logits(1, 4, 4), ("",)),
        ([logits(1, 4, 4), logits(1, 2, 2)], ("0", "1")),
        ((logits(1), [logits(8, 4, 4), logits(16, 2, 2)]), ("0",)),
        ((logits(1, 4, 4), logits(8, 4, 4)), ("0",)),
        ([logits(8, 4, 4), logits(8, 2, 2), logits(1, 2, 2)], ("2",)),
        ([(logits(1), [logits(8, 4)]), (logits(1), [logits(8, 2)])], ("0.0", "1.0")),
        ([[logits(8, 4, 4), logits(1, 4, 4)], [logits(8, 2, 2), logits(1, 2, 2)]], ("0.1", "1.1")),
        (([logits(7), logits(5)], [[logits(8, 7)], [logits(8, 5)]]), ("0.0", "0.1")),
        ({"logits": logits(1), "features": logits(8, 4, 4)}, ("logits",)),
        (Pair(logits(1), logits(8, 4, 4)), ("score",)),
        ((logits(1),), ("0",)),
    ],
)
def test_logits_are_found_in_what_comes_back(output: Any, paths: tuple[str, ...]) -> None:
    assert logit_paths(output) == paths
    heads = DiscriminatorCall(("image",), paths).read(output)
    assert len(heads) == len(paths)


@pytest.mark.parametrize(
    "output",
    [
        (logits(4), logits(8)),
        [logits(8, 4, 4), logits(16, 2, 2)],
        {},
        None,
        torch.zeros(2, dtype=torch.int64),
        {"real": logits(1), "class": logits(8), "style": logits(1)},
    ],
)
def test_what_cannot_be_told_is_not_guessed(output: Any) -> None:
    class Odd(Base):
        def forward(self, x):
            return output

    assert logit_paths(output) is None
    with pytest.raises(DataError, match=r"which of it are logits cannot be told.*-> 0"):
        find_call(Odd(), IMAGES)


def test_several_heads_come_back_as_one_tensor() -> None:
    class Scales(Base):
        def forward(self, x):
            return [self.body(x)[:, :1], self.body(x)[:, :1, ::2, ::2]]

    assert logits_of(Scales(), IMAGES, None).shape == (4, 16 + 4)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("image", "image"),
        (" cat( condition ,image ),label->0,  1", "cat(condition, image), label -> 0, 1"),
        ("x, image -> *.-1", "x, image -> *.-1"),
        ("image, y=onehot(label,10) -> score", "image, y=onehot(label, 10) -> score"),
    ],
)
def test_a_call_is_text(text: str, shown: str) -> None:
    call = DiscriminatorCall.parse(text)
    assert str(call) == shown
    assert DiscriminatorCall.parse(shown) == call


@pytest.mark.parametrize(
    "text", ["", "image -> ", "cat(image)", "__import__('os')", "image, -> 0", "image -> a b"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not understood"):
        DiscriminatorCall.parse(text)


def test_a_star_reads_every_item() -> None:
    output = [[logits(8, 4, 4), logits(1, 4, 4)], [logits(8, 2, 2), logits(1, 2, 2)]]
    heads = DiscriminatorCall.parse("image -> *.-1").read(output)
    assert [tuple(h.shape) for h in heads] == [(2, 1, 4, 4), (2, 1, 2, 2)]
    with pytest.raises(DataError, match="nothing at '3'"):
        DiscriminatorCall.parse("image -> 3").read(output)
    with pytest.raises(DataError, match="holds list at 0"):
        DiscriminatorCall.parse("image -> 0").read(output)


class Clamped(nn.Module):
    """Keeps logarithms finite, as hand-written losses ask for."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(1e-6, 1 - 1e-6)


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        ([nn.Sigmoid()], True),
        ([nn.Sigmoid(), nn.Flatten()], True),
        ([nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten()], True),
        ([nn.Hardsigmoid(), nn.AvgPool2d(2)], True),
        ([nn.Sigmoid(), Clamped()], True),
        ([], False),
        ([Clamped()], False),
        ([nn.Sigmoid(), nn.Conv2d(1, 1, 1)], False),
        ([nn.Tanh()], False),
    ],
)
def test_a_sigmoid_at_the_end(tail: list[nn.Module], found: bool) -> None:
    discriminator = nn.Sequential(nn.Conv2d(3, 1, 3, 2), *tail).requires_grad_(False)
    call = find_call(discriminator, IMAGES)
    assert ends_in_sigmoid(discriminator, call, image=IMAGES) == found
