from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from gancompress.data import streams
from gancompress.data.adapters import adapt
from gancompress.data.arrays import class_names_of
from gancompress.data.embedded import embedded
from gancompress.errors import ConfigError, DataError


class Map(torch.utils.data.Dataset):
    def __init__(self, make: Callable[[int], Any], n: int = 6) -> None:
        self.make, self.n = make, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Stream(IterableDataset):
    def __init__(self, make: Callable[[int], Any], n: int = 6, said: int | None = None) -> None:
        self.make, self.n, self.said = make, n, said

    def __iter__(self) -> Iterator[Any]:
        return (self.make(i) for i in range(self.n))


class LongStream(Stream):
    def __len__(self) -> int:
        return self.said or self.n


def plane(i: int, *shape: int) -> torch.Tensor:
    return torch.full(shape or (3, 4, 6), i, dtype=torch.uint8)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: plane(i),
        lambda i: (plane(i), i % 3),
        lambda i: {"image": plane(i), "label": i % 3},
        lambda i: {"img": plane(i).permute(1, 2, 0).numpy(), "fine_label": np.int64(i % 3)},
        lambda i: (Image.new("RGB", (6, 4), (i, i, i)), torch.tensor(i % 3)),
        lambda i: {"pixel_values": plane(i).numpy()},
    ],
)
@pytest.mark.parametrize("kind", [Map, Stream, "loader"])
def test_samples_in_many_forms(make: Callable, kind: Any) -> None:
    source = DataLoader(Map(make), batch_size=4, shuffle=True) if kind == "loader" else kind(make)
    data = adapt(source)
    assert (len(data), data.channels, data.size) == (6, 3, (4, 6))
    images, labels = data.batch(torch.tensor([5, 0, 5]))
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([5.0, 0, 5]) / 127.5 - 1)
    if labels is None:
        assert data.n_classes is None
    else:
        assert labels.tolist() == [2, 0, 2]
        assert data.n_classes == 3
    assert data.notes


def test_ours_stay_as_they_are() -> None:
    data = embedded()
    assert adapt(data) is data


def test_floats_need_their_range() -> None:
    source = Map(lambda i: torch.full((1, 4, 4), i / 5))
    with pytest.raises(DataError, match=r"values=\(0, 1\).*found float32"):
        adapt(source)
    images, _ = adapt(source, values=(0, 1)).batch(torch.tensor([0, 5]))
    assert images[:, 0, 0, 0].tolist() == [-1, 1]
    with pytest.raises(DataError, match="outside"):
        adapt(source, values=(0, 0.5)).batch(torch.tensor([5]))


def test_names_come_along() -> None:
    source = Map(lambda i: (plane(i), i % 2))
    source.classes = ["cat", "dog"]  # as torchvision has them
    assert class_names_of(adapt(source)) == ("cat", "dog")

    class Label:
        names = ["left", "right"]

    source = Map(lambda i: {"image": plane(i), "label": i % 2})
    source.features = {"image": object(), "label": Label()}  # as Hugging Face has them
    assert class_names_of(adapt(source)) == ("left", "right")


def test_places_that_are_named() -> None:
    make = lambda i: {"a": plane(i), "b": plane(9), "k": i}  # noqa: E731
    data = adapt(Map(make), image="a", label="k")
    assert data.batch([4])[1].tolist() == [4]
    data = adapt(Map(lambda i: (i, "text", plane(i))), image=2, label=0)
    assert data.batch([4])[1].tolist() == [4]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda i: "text", "no image; found str"),
        (lambda i: {"text": 1}, "no image; found the keys text"),
        (lambda i: (plane(i), "cat"), "no class number; found str"),
        (lambda i: (plane(i), 0.5), "no class number; found float"),
        (lambda i: (plane(i), torch.zeros(4)), "no class number; found"),
        (lambda i: plane(i, 4), "no image"),
        (lambda i: plane(i, 40, 4, 4), "no image"),
        (lambda i: plane(i, 3, 4, 4 + i), "3, 4, (5|9)"),
        (lambda i: (plane(i), i) if i < 3 else (plane(i), None), "only .*samples have labels"),
        (lambda i: None, "found NoneType"),
    ],
)
@pytest.mark.parametrize("kind", [Map, Stream])
def test_samples_of_other_kinds(make: Callable, word: str, kind: type) -> None:
    with pytest.raises(DataError, match=word):
        adapt(kind(make)).batch(torch.arange(6))


def test_a_stream_that_ends_early() -> None:
    with pytest.raises(DataError, match="holds 9 items and ended after 6"):
        adapt(LongStream(plane, 6, said=9))
    loader = DataLoader(LongStream(plane, 6, said=9), batch_size=3)
    with pytest.raises(DataError, match="3 items and ended after 2"):
        adapt(loader)
    with pytest.raises(DataError, match="ended after 6 samples; limit=7"):
        adapt(Stream(plane), limit=7)
    with pytest.raises(DataError, match="no sample"):
        adapt(Stream(plane, 0))
    assert len(adapt(Stream(plane, 10**9), limit=5)) == 5


def test_a_stream_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MEMORY", 1000)
    with pytest.raises(DataError, match=r"goes on.*limit="):
        adapt(Stream(plane, 10**9))


def test_loaders_that_choose_are_iterated() -> None:
    chosen = DataLoader(Map(plane), batch_size=2, sampler=SubsetRandomSampler([1, 3]))
    data = adapt(chosen)
    assert len(data) == 2
    values = ((data.batch([0, 1])[0][:, 0, 0, 0] + 1) * 127.5).round().tolist()
    assert sorted(values) == [1, 3]
    brighter = DataLoader(
        Map(plane), batch_size=2, collate_fn=lambda samples: torch.stack(samples) + 100
    )
    images, _ = adapt(brighter).batch([0])
    torch.testing.assert_close(images[0, 0, 0, 0], torch.tensor(100 / 127.5 - 1))
    assert len(adapt(DataLoader(Stream(plane), batch_size=None))) == 6


@pytest.mark.parametrize(
    ("collate", "word"),
    [
        (lambda samples: {"text": 1}, "no image; found the keys text"),
        (lambda samples: samples, r"batch of images \(n, c, h, w\)"),
        (lambda samples: (torch.stack(samples), torch.zeros(9, dtype=torch.long)), "9 labels"),
    ],
)
def test_loaders_that_yield_something_else(collate: Callable, word: str) -> None:
    with pytest.raises(DataError, match=word):
        adapt(DataLoader(Map(plane), batch_size=2, collate_fn=collate))


def test_what_is_no_data_set() -> None:
    for source in (3, "folder", iter([plane(0)]), object()):
        with pytest.raises((ConfigError, DataError)):
            adapt(source)
    with pytest.raises(DataError, match="no sample"):
        adapt(Map(plane, 0))
    with pytest.raises(ConfigError, match="Subset"):
        adapt(Map(plane), limit=3)
    assert len(adapt(Subset(Map(plane), [4, 5]))) == 2
    assert adapt(TensorDataset(torch.stack([plane(0), plane(1)]), torch.arange(2))).n_classes == 2
