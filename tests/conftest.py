"""Fixed seeds and one thread, so that tests do not disturb each other or depend on their order.

``OMP_NUM_THREADS`` sets another number: no test may depend on it.
"""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Measurements of this machine are kept for the session, and not in the user's cache."""
    os.environ.setdefault("GANCOMPRESS_CACHE", str(tmp_path_factory.mktemp("cache")))
