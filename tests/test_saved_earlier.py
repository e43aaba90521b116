"""What version 0.1.0 wrote still loads, and its run goes on to the same network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

import gancompress as gc
from gancompress.commands.verify import check_integrity
from tests.saved_earlier.nets import OPTIONS, early

HERE = Path(__file__).parent / "saved_earlier"
ROOT = Path(__file__).resolve().parent.parent


def images(net: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return net(torch.randn(4, 5, generator=torch.Generator().manual_seed(9))).flatten()


def expected() -> Tensor:
    return torch.tensor(json.loads((HERE / "after.json").read_text())["images"])


def test_the_model() -> None:
    back = gc.load(early, HERE / "model")
    assert sum(p.numel() for p in back.parameters()) == 180
    torch.testing.assert_close(images(back), expected(), atol=1e-5, rtol=0)
    assert not back.training


def test_the_run_goes_on(tmp_path: Path) -> None:
    shutil.copytree(HERE / "run", tmp_path / "run")
    check_integrity(tmp_path / "run", json=True)
    recipe = gc.load_recipe(tmp_path / "run" / "config.yaml")
    today = gc.load_recipe(ROOT / "benchmarks" / "earlier" / "ppcd.yaml", OPTIONS)
    assert recipe == today.model_copy(update={"paper": recipe.paper})
    done = gc.train(recipe, generator=early(), out=tmp_path / "run", resume="auto")
    assert done.history[0]["step"] == 4 or done.history[-1]["step"] == 10
    # Six steps of Adam make more of another CPU's rounding than one forward pass does.
    torch.testing.assert_close(images(done.generator), expected(), atol=2e-3, rtol=0)
    check_integrity(tmp_path / "run", json=True)
