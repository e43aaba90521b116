"""Losses against values worked out by hand, and sound against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gancompress.errors import ConfigError, DataError
from gancompress.losses.protocol import LOSSES
from gancompress.metrics.distances import EQUAL, distances, psnr, sharpness, ssim, stft_distance
from gancompress.modules.spectra import log_mel, magnitudes, mel_bands

A = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
B = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]]]])


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("l1", 1.5),
        ("l2", 3.5),
        ({"name": "charbonnier", "eps": 1.0}, (1 + 2**0.5 + 5**0.5 + 10**0.5) / 4),
    ],
)
def test_pixel_losses(spec: object, value: float) -> None:
    assert float(LOSSES.bind(spec)(A, B)) == pytest.approx(value)


def test_a_wrong_option_or_shape_is_named() -> None:
    with pytest.raises(ConfigError, match="eps is 0"):
        LOSSES.bind({"name": "charbonnier", "eps": 0.0})
    with pytest.raises(DataError, match=r"\(1, 1, 2, 2\), the wanted one \(1, 1, 2, 1\)"):
        LOSSES.bind("l1")(A, B[..., :1])


def test_a_tone_lies_in_the_band_that_holds_its_pitch() -> None:
    time = torch.arange(8192) / 22050
    for pitch in (440.0, 1000.0, 3000.0):
        mel = log_mel(torch.sin(2 * math.pi * pitch * time)[None, None])
        assert mel.shape == (1, 80, 32)
        band = int(mel.mean(2).argmax())
        edges = mel_bands(22050, 1024, 80, 0.0, 8000.0)[band].nonzero().flatten() * 22050 / 1024
        assert float(edges.min()) - 22 <= pitch <= float(edges.max()) + 22


def test_mel_bands_are_those_of_slaney() -> None:
    # Values of librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000).
    bands = mel_bands(22050, 1024, 80, 0.0, 8000.0)
    assert bands.shape == (80, 513)
    assert float(bands[0, 1]) == pytest.approx(0.015527721, rel=1e-5)
    expected = torch.tensor([0.01096482, 0.02649254, 0.01168657, 0.0])
    torch.testing.assert_close(bands[10, 18:22], expected, rtol=1e-4, atol=1e-8)
    assert float(bands.sum()) == pytest.approx(3.7136884, rel=1e-5)


def test_magnitude_of_a_tone_is_half_the_window() -> None:
    n = 1024
    time = torch.arange(8 * n)
    spectrum = magnitudes(torch.cos(2 * math.pi * 64 / n * time)[None, None], n, 256)
    # A unit cosine on bin 64 under a Hann window of mean 1/2: |X| = n / 4.
    assert float(spectrum[0, 64, 8]) == pytest.approx(n / 4, rel=1e-3)


def test_sound_losses_vanish_for_equal_sound_and_grow_with_noise() -> None:
    torch.manual_seed(0)
    sound = torch.randn(2, 1, 8192) * 0.1
    for name in ("mel", "stft", "multi_mel"):
        loss = LOSSES.bind(name)
        assert float(loss(sound, sound)) == pytest.approx(0.0, abs=1e-6)
        near, far = (float(loss(sound + s * torch.randn_like(sound), sound)) for s in (0.01, 0.1))
        assert 0 < near < far


def test_resolutions_of_sound_losses_are_averaged() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 4096) * 0.1, torch.randn(2, 1, 4096) * 0.1
    one, other = (512, 128, 512), (128, 32, 100)
    parts = [float(LOSSES.bind({"name": "stft", "resolutions": [r]})(a, b)) for r in (one, other)]
    both = float(LOSSES.bind({"name": "stft", "resolutions": [one, other]})(a, b))
    assert both == pytest.approx(sum(parts) / 2, rel=1e-5)
    # Twice as loud: half of the norm is missing, and all logarithms are log 2 apart.
    louder = float(LOSSES.bind({"name": "stft", "resolutions": [one]})(a, 2 * a))
    assert louder == pytest.approx(0.5 + math.log(2), rel=1e-3)
    mel = [
        float(LOSSES.bind({"name": "mel", "n_fft": n, "hop": n // 4, "n_mels": m})(a, b))
        for n, m in ((256, 20), (64, 5))
    ]
    multi = LOSSES.bind({"name": "multi_mel", "sizes": [256, 64], "mels": [20, 5]})
    assert float(multi(a, b)) == pytest.approx(sum(mel) / 2, rel=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "stft", "resolutions": []},
        {"name": "stft", "resolutions": [[256, 512, 256]]},
        {"name": "multi_mel", "sizes": [64], "mels": [5, 10]},
        {"name": "multi_mel", "sizes": [2], "mels": [5]},
    ],
)
def test_resolutions_that_make_no_spectrogram_are_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"loss {spec['name']}"):
        LOSSES.bind(spec)


def test_psnr_and_ssim_of_known_pairs() -> None:
    a = torch.zeros(1, 1, 16, 16)
    assert psnr(a, a + 0.2) == pytest.approx(20.0)  # 10 log10(4 / 0.04)
    assert psnr(a, a + 0.1, span=1.0) == pytest.approx(20.0)
    assert psnr(a, a) == EQUAL  # and not infinite: one sample of many would make all so
    torch.manual_seed(0)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert ssim(x, x) == pytest.approx(1.0)
    # Means 0 and m, no variance: (C1) / (m^2 + C1) with C1 = 0.02^2.
    assert ssim(a, a + 0.2) == pytest.approx(0.0004 / (0.04 + 0.0004))
    # Light and dark exchanged: one mean, opposite variation.
    assert ssim(x / 2 + 0.5, 0.5 - x / 2, span=1.0) < 0


def test_ssim_is_that_of_scikit_image() -> None:
    # structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False, win_size=11), inside.
    rng = np.random.default_rng(0)
    a = rng.random((32, 32))
    b = np.clip(a + 0.1 * rng.standard_normal((32, 32)), 0, 1)
    x, y = (torch.from_numpy(v)[None, None] for v in (a, b))
    assert ssim(x, y, span=1.0) == pytest.approx(0.93705309258927, abs=1e-7)


def test_sharpness_of_a_blurred_picture_is_less() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 32, 32)
    soft = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    assert sharpness(soft) < 0.5 * sharpness(x)
    found = distances(soft, x)
    assert found["sharpness"] == pytest.approx(sharpness(soft) / sharpness(x))


def test_distances_by_kind() -> None:
    torch.manual_seed(0)
    sound = torch.randn(1, 1, 4096) * 0.1
    assert set(distances(sound, sound, rate=16000)) == {"l1", "log_mel", "stft"}
    assert set(distances(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16))) == {
        "l1", "psnr", "ssim", "sharpness",
    }  # fmt: skip
    with pytest.raises(DataError, match="cannot be compared"):
        distances(sound, sound[..., 1:])


def test_psnr_is_that_of_each_sample_before_the_mean() -> None:
    a = torch.zeros(2, 1, 4, 4)
    b = torch.stack([torch.full((1, 4, 4), 0.2), torch.full((1, 4, 4), 0.02)])
    assert psnr(a, b) == pytest.approx((20.0 + 40.0) / 2)


def test_sharpness_counts_edges_of_both_signs() -> None:
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    assert sharpness(dot) == pytest.approx((4 + 4 * 1) / 9)


def test_spectra_are_compared_by_their_logarithms_at_three_resolutions() -> None:
    torch.manual_seed(0)
    loud = torch.randn(2, 1, 8192)
    assert stft_distance(loud, loud / 2) == pytest.approx(math.log(2), rel=1e-3)
    other = torch.nn.functional.avg_pool1d(loud, 5, 1, 2)
    apart = [
        float((magnitudes(loud, n, n // 4).log() - magnitudes(other, n, n // 4).log()).abs().mean())
        for n in (512, 1024, 2048)
    ]
    assert stft_distance(loud, other) == pytest.approx(sum(apart) / 3, rel=1e-5)
    assert max(apart) - min(apart) > 1e-3 * apart[0]
