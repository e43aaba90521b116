"""Grids: equal bytes for equal seeds, teacher above student, a class per column."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.errors import DataError, StorageError
from gancompress.reporting.pictures import (
    PAD,
    before_after_grid,
    grid,
    inputs_by_class,
    png,
    render,
    sample_grid,
    save_png,
    to_pixels,
    value_range,
)
from gancompress.training.samples import save_grid
from tests.reporting.fakes import TinyGenerator, TinySampler

SCALE = 8  # 64 // 8


def cell(image: Image.Image, row: int, column: int, left: int = 0, top: int = 0) -> np.ndarray:
    """The 8x8 pixels of one picture of a grid, read back from the enlarged sheet."""
    sheet = np.asarray(image)[top:, left:]
    y, x = ((PAD + i * (8 + PAD)) * SCALE for i in (row, column))
    return sheet[y : y + 8 * SCALE : SCALE, x : x + 8 * SCALE : SCALE]


def test_pixels_span_the_whole_range():
    images = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    assert to_pixels(images)[0, 0, :, 0].tolist() == [0, 128, 255]


def test_each_image_lands_in_its_cell_unsmoothed():
    images = torch.rand(6, 3, 8, 8) * 2 - 1
    sheet = grid(images, 3)
    pixels = to_pixels(images)
    for i in range(6):
        np.testing.assert_array_equal(cell(sheet, i // 3, i % 3), pixels[i])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    generator = TinyGenerator()
    first, again, other = (
        png(sample_grid(generator, TinySampler(), n_classes=4, rows=2, columns=4, seed=seed))
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_png_holds_no_metadata():
    image = grid(torch.zeros(1, 1, 8, 8), 1)
    image.info["comment"] = "made at noon"
    data = png(image)
    assert b"noon" not in data
    assert Image.open(io.BytesIO(data)).info == {}


def test_columns_are_classes():
    inputs = inputs_by_class(TinySampler(), 4, columns=4, rows=3, seed=0)
    assert inputs[1].tolist() == [0, 1, 2, 3] * 3
    drawn = TinySampler()(12, torch.Generator().manual_seed(0))
    torch.testing.assert_close(inputs[0], drawn[0])
    with pytest.raises(DataError, match="draws no labels"):
        inputs_by_class(TinySampler(labelled=False), 4, columns=4, rows=1, seed=0)


def test_teacher_stands_above_the_student_of_the_same_latents():
    teacher, student = TinyGenerator(), TinyGenerator()
    sheet = before_after_grid(
        teacher, student, TinySampler(), n_classes=4, rows=2, columns=4, seed=1, difference=True
    )
    inputs = inputs_by_class(TinySampler(), 4, columns=4, rows=2, seed=1)
    left = sheet.width - (4 * (8 + PAD) + PAD) * SCALE
    images = render(teacher, inputs), render(student, inputs)
    gap = (images[0] - images[1]).abs() - 1
    for row in range(2):
        for column in range(4):
            for kind, expected in enumerate((*images, gap)):
                np.testing.assert_array_equal(
                    cell(sheet, 3 * row + kind, column, left),
                    to_pixels(expected)[4 * row + column],
                )


def test_rendering_uses_eval_mode_and_restores_training():
    generator = TinyGenerator().train()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    inputs = TinySampler()(9, torch.Generator().manual_seed(0))
    whole, parts = render(generator, inputs), render(generator, inputs, batch=2)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)
    assert generator.training
    assert generator.norm.training
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_titles_do_not_move_the_images():
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    plain = np.asarray(grid(images, 2))
    titled = grid(images, 2, row_titles=["one", "two"], column_titles=["a", "b"], caption="seed 0")
    body = np.asarray(titled)[-plain.shape[0] :, -plain.shape[1] :]
    if titled.width > plain.shape[1] + 8 + 60:  # a caption wider than the grid adds a right margin
        pytest.fail("the caption is short, it must not widen the sheet")
    np.testing.assert_array_equal(body, plain)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((4, 1, 8, 8), float("nan")), "NaN"),
        (torch.zeros(4, 1, 8), r"\(4, 1, 8\) is sound"),
        (torch.zeros(4, 1, 8, 8, 8), "is a volume"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "float images"),
        (torch.zeros(3, 1, 8, 8), "rows of 2"),
    ],
)
def test_what_cannot_be_shown_is_refused(images: torch.Tensor, message: str):
    with pytest.raises(DataError, match=message):
        grid(images, 2)


def test_shapes_that_differ_are_named():
    with pytest.raises(DataError, match="different shapes"):
        before_after_grid(TinyGenerator(1), TinyGenerator(3), TinySampler(), n_classes=4, columns=4)


def test_saving_is_whole_or_not_at_all(tmp_path: Path):
    image = grid(torch.zeros(1, 1, 8, 8), 1)
    file = save_png(image, tmp_path / "new" / "a.png")
    assert file.read_bytes() == png(image)
    assert [p.name for p in file.parent.iterdir()] == ["a.png"]
    with pytest.raises(StorageError, match="cannot write"):
        save_png(image, file / "below-a-file.png")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([-1.0, 0.3, 1.0], (-1.0, 1.0)),
        ([-0.4, 0.3, 0.2], (-1.0, 1.0)),
        ([-1.05, 0.0, 1.08], (-1.0, 1.0)),
        ([0.0, 0.4, 1.0], (0.0, 1.0)),
        ([-0.06, 0.5, 1.07], (0.0, 1.0)),
        ([0.0, 90.0, 255.0], (0.0, 255.0)),
        ([-5.0, 0.0, 3.0], (-5.0, 3.0)),
        ([0.0, 1.0, 7.0], (0.0, 7.0)),
        ([4.0, 4.0, 4.0], (4.0, 4.0)),
    ],
)
def test_the_range_is_found(values: list[float], shown: tuple[float, float]):
    images = torch.tensor(values).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    assert value_range(images) == pytest.approx(shown)
    assert to_pixels(images, value_range(images)).shape == (3, 8, 8, 3)


def test_any_range_is_shown_alike():
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    images[0, 0, 0, 0], images[0, 0, 0, 1] = -1, 1
    wanted = np.asarray(grid(images, 2))
    for scale, shift in ((0.5, 0.5), (127.5, 127.5), (9.0, 4.0)):
        other = images * scale + shift
        shown = np.asarray(grid(other, 2, shown=value_range(other)))
        assert np.abs(shown.astype(int) - wanted).max() <= 1


def test_other_numbers_of_channels():
    images = torch.rand(4, 5, 8, 8) * 2 - 1
    np.testing.assert_array_equal(to_pixels(images), to_pixels(images[:, :3]))
    two = to_pixels(images[:, :2])
    for i in (0, 1):  # red and green
        np.testing.assert_array_equal(two[..., i], to_pixels(images[:, i : i + 1])[..., 0])


def test_grids_while_training_show_what_the_closing_picture_shows(tmp_path: Path):
    images = torch.rand(20, 3, 8, 8) * 200
    save_grid(images, tmp_path / "a.png", columns=10, shown=value_range(images))
    found = np.asarray(Image.open(tmp_path / "a.png"))
    assert found.shape == (16, 80, 3)
    np.testing.assert_array_equal(found[8:, 8:16], to_pixels(images, (0.0, 255.0))[11])
    save_grid(torch.zeros(4, 1, 16), tmp_path / "sound.png", columns=2)
    assert not (tmp_path / "sound.png").exists()
