"""Pairs out of data sets of other libraries, as task ``paired`` reads them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from gancompress.data.pair_adapters import adapt_pairs
from gancompress.errors import ConfigError, DataError
from gancompress.tasks.paired import paired
from gancompress.tasks.protocol import Sources


class Rows:
    """Samples made by ``make`` of an input and its negative, uint8 or floats in [-1, 1]."""

    def __init__(self, make: Any, n: int = 8, floats: bool = False) -> None:
        self.make, self.n, self.floats = make, n, floats

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        x = torch.full((3, 4, 6), 10 * index, dtype=torch.uint8)
        y = 255 - x
        if self.floats:
            x, y = x / 127.5 - 1, y / 127.5 - 1
        return self.make(x, y, index)


FORMS: dict[str, Any] = {
    "tuple": lambda x, y, i: (x, y),
    "with a path": lambda x, y, i: (x, y, f"{i}.png"),
    "path first": lambda x, y, i: (i, x, y),
    "CycleGAN's": lambda x, y, i: {"A": x, "B": y, "A_paths": "a", "B_paths": "b"},
    "names": lambda x, y, i: {"target": y, "input": x},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loader", [False, True])
def test_pairs_are_read_in_the_right_order(form: str, loader: bool) -> None:
    rows: Any = Rows(FORMS[form])
    task = paired(Sources(dataset=DataLoader(rows, batch_size=4, shuffle=True) if loader else rows))
    batch = task.preview(1)
    assert batch.wanted is not None
    assert torch.allclose(batch.inputs[0], -batch.wanted, atol=1e-6)
    assert float(batch.inputs[0].mean()) < 0
    assert batch.condition is not None


def test_floats_say_their_range_and_keys_can_be_named() -> None:
    rows = Rows(lambda x, y, i: {"edges": x, "photo": y}, floats=True)
    with pytest.raises(DataError, match=r"keys edges, photo. Say inputs= and targets="):
        adapt_pairs(rows, values=(-1, 1))
    found = adapt_pairs(rows, values=(-1, 1), inputs="edges", targets="photo")
    x, y, labels = found.pairs([1])
    assert labels is None
    assert torch.allclose(x, rows[1]["edges"][None])
    assert torch.allclose(found.batch([1])[0], y)
    assert (found.size, found.channels) == ((4, 6), 3)
    with pytest.raises(DataError, match="values="):
        adapt_pairs(rows, inputs="edges", targets="photo")


@pytest.mark.parametrize(
    ("source", "error", "word"),
    [
        (
            Rows(lambda x, y, i: (x, y[:, : 4 - (i > 3)])),
            DataError,
            r"sample 7 holds .*\(3, 3, 6\)",
        ),
        (Rows(lambda x, y, i: (x, y) if i < 7 else (x,)), DataError, "sample 7 has no"),
        (Rows(lambda x, y, i: (x, y) if i < 7 else 1 / 0), DataError, "ZeroDivisionError"),
        (Rows(FORMS["tuple"], n=0), DataError, "holds no sample"),
        ((x for x in ()), ConfigError, "cannot be read by index"),
    ],
)
def test_what_is_no_set_of_pairs(source: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        adapt_pairs(source)


def test_pictures_with_labels_are_no_pairs() -> None:
    with pytest.raises(ConfigError, match="what belongs to the data"):
        paired(Sources(dataset=Rows(lambda x, y, i: (x, i))))
