from __future__ import annotations

import pytest

import gancompress.distill
import gancompress.masks.importance
import gancompress.masks.penalty
import gancompress.masks.relax
import gancompress.masks.schedule
import gancompress.training.augment
import gancompress.training.losses
from gancompress.recipes.names import KINDS, known_names

REGISTRIES = {
    "relaxation": gancompress.masks.relax.RELAXATIONS,
    "penalty": gancompress.masks.penalty.PENALTIES,
    "importance": gancompress.masks.importance.IMPORTANCES,
    "schedule": gancompress.masks.schedule.SCHEDULES,
    "distiller": gancompress.distill.DISTILLERS,
    "adversarial loss": gancompress.training.losses.ADVERSARIAL,
    "augmentation": gancompress.training.augment.AUGMENTATIONS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_names_read_from_source_are_those_registered(kind: str) -> None:
    assert known_names(kind) == set(REGISTRIES[kind].names())


def test_a_plug_in_counts_once_it_is_imported() -> None:
    registry = REGISTRIES["augmentation"]
    try:
        registry.register("of-a-plug-in")(lambda images, rng: images)
        assert "of-a-plug-in" in known_names("augmentation")
    finally:
        registry._entries.pop("of-a-plug-in")
