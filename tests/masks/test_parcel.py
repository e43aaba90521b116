"""What the choice of channels reads travels with what a step asks anyway, unless it is old."""

from __future__ import annotations

import torch
from torch import nn

import gancompress as gc
from gancompress.masks.parcel import Parcel
from gancompress.training.recovery import finite_and, finite_step


def wrapped() -> gc.Masked:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1)
    )
    return gc.wrap(net, torch.randn(2, 2, 8, 8), target="params=3x", schedule="linear")


def scored() -> tuple[gc.Masked, Parcel]:
    masked = wrapped()
    assert masked.parcel() is None, "nothing was learned yet"
    masked.advance(0.01)
    with torch.no_grad():
        for mask in masked.masks.values():
            mask.scores.copy_(torch.rand(mask.size))
    parcel = masked.parcel()
    assert parcel is not None
    return masked, parcel


def test_choosing_by_a_parcel_is_choosing_by_the_scores_of_before_the_update() -> None:
    masked, parcel = scored()
    sound, host = finite_and(parcel.packed, torch.tensor(1.0), [])
    assert sound
    other, _ = scored()
    other.advance(0.7)
    with torch.no_grad():
        for mask in masked.masks.values():
            mask.scores.neg_()  # the update
    parcel.arrived(host, masked.masks)
    masked.advance(0.7, parcel)
    alive = {n: m.living.tolist() for n, m in masked.masks.items()}
    assert alive == {n: m.living.tolist() for n, m in other.masks.items()}
    assert not all(all(a) for a in alive.values()), "some died"


def test_a_parcel_is_old_once_somebody_writes_to_the_masks() -> None:
    masked, parcel = scored()
    parcel.arrived(parcel.packed.cpu(), masked.masks)
    assert parcel.of(masked.masks) is not None
    first = next(iter(masked.masks.values()))
    with torch.no_grad():
        first.sensitivity.add_(1)
    assert parcel.of(masked.masks) is None
    other, new = scored()
    assert new.of(other.masks) is None, "it never arrived"
    new.arrived(new.packed.cpu(), other.masks)
    assert new.of(masked.masks) is None, "they are other masks"


def test_a_parcel_does_not_change_what_is_finite() -> None:
    weight = nn.Parameter(torch.ones(2))
    for gradient in (1.0, float("inf"), float("nan")):
        weight.grad = torch.tensor([1.0, gradient])
        said, host = finite_and(torch.arange(3.0), torch.tensor(1.0), [weight])
        assert said is finite_step(torch.tensor(1.0), [weight])
        assert host.tolist() == [0, 1, 2]
