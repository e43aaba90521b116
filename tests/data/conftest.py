from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indexes go into a folder of the test's own, never into the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(folder))
    return folder
