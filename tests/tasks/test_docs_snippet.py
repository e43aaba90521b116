"""The Python of docs/tasks.md runs as it stands, on a small vocoder and short sound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile

import gancompress as gc
from gancompress.models.hifigan import HiFiGANConfig, HiFiGANGenerator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
SHORT = ["steps=2", "finetune_steps=1", "batch=2", "target=macs=1.5x", "shrink.events=[0.5]"]


@pytest.mark.slow
def test_the_vocoder_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soundfile")
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "speech").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        tone = np.sin(0.02 * (i + 1) * np.arange(17_000)) + 0.1 * rng.standard_normal(17_000)
        wavfile.write(tmp_path / f"speech/{i}.wav", 22050, (tone * 12000).astype(np.int16))
    monkeypatch.chdir(tmp_path)
    load: Any = gc.load_recipe
    monkeypatch.setattr(gc, "load_recipe", lambda name, words=(): load(name, [*words, *SHORT]))
    small = HiFiGANConfig(upsample_initial_channel=64)
    exec(snippet, {"generator": HiFiGANGenerator(small)})
    assert (tmp_path / "runs/vocoder/model/model.safetensors").is_file()
