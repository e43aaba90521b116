"""What the real runs are made of: tiles of photographs, sentences; that they repeat themselves."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.tasks import photos, speech


def photograph(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_tiles_of_a_photograph_repeat_themselves_and_are_never_enlarged() -> None:
    picture = photograph(1000, 400)  # wider than 800 only
    found = [photos.tiles(picture, np.random.default_rng(3), pieces=2) for _ in range(2)]
    assert found[0].shape == (2, 3, photos.TILE, photos.TILE)
    assert np.array_equal(found[0], found[1])
    assert found[0].std() > 20


def test_photographs_that_are_missing_are_named_with_their_packages(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"33 photographs are missing.*mate-backgrounds"):
        photos.photographs(tmp_path)


def test_no_photograph_is_both_trained_on_and_measured_on() -> None:
    every = (*photos.BACKGROUNDS, *photos.NATURE, *photos.PLASMA)
    assert len(set(every)) == len(every)
    assert set(photos.HELD_OUT) < set(every)


def test_sentences_repeat_themselves_and_no_sentence_comes_twice() -> None:
    first, again = (list(islice(speech.sentences(0), 300)) for _ in range(2))
    assert first == again
    assert len(set(first)) == 300
    parts = speech.parts()
    assert {part: len(said) for part, said in parts.items()} == speech.PARTS
    assert not set(parts["train"]) & set(parts["test"])
