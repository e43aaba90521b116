from __future__ import annotations

import pytest

from gancompress.plugins.kinds import AUGMENTATIONS
from gancompress.plugins.kinds import KINDS as REGISTRIES
from gancompress.recipes.names import KINDS, known_names


@pytest.mark.parametrize("kind", KINDS)
def test_names_read_from_source_are_those_registered(kind: str) -> None:
    assert known_names(kind) == set(REGISTRIES[kind].names())


def test_a_plug_in_counts_once_it_is_imported() -> None:
    try:
        AUGMENTATIONS.register("of-a-plug-in")(lambda images, rng: images)
        assert "of-a-plug-in" in known_names("augmentation")
    finally:
        AUGMENTATIONS._entries.pop("of-a-plug-in")
