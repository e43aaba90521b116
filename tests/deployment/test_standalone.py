"""A generator as one file that runs where gancompress cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.deployment.standalone import _of_classes, load_standalone
from gancompress.errors import ConfigError
from tests.deployment.reference_networks import SMALL
from tests.tiny import Tiny, inputs

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("gancompress", "safetensors", "torchvision", "scipy"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
import torch
for name in ("shipped", "own"):
    module = __import__(name)
    case = torch.load(name + ".pt")
    with torch.no_grad():
        gap = (module.load()(*case["inputs"]) - case["wanted"]).abs().max()
    assert float(gap) <= 1e-5, (name, float(gap))
shipped = __import__("shipped").load().train()
shipped(*torch.load("shipped.pt")["inputs"]).sum().backward()
assert all(p.grad is not None for p in shipped.parameters())
assert not any(m.startswith("gancompress") for m in sys.modules)
print("ran")
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_classes_of_every_reference_network_stand_alone(name: str, tmp_path: Path) -> None:
    net = SMALL[name]().eval()
    source = _of_classes(net)
    assert "gancompress" not in source.replace("gancompress.models", "")
    space: dict[str, object] = {
        "torch": torch,
        "os": None,
        "json": None,
        "__name__": f"alone_{name}",
    }
    module = type(sys)(f"alone_{name}")
    vars(module).update(space)
    sys.modules[module.__name__] = module  # where dataclasses look their annotations up
    exec("from __future__ import annotations\n" + source, vars(module))
    other = module.build()
    other.load_state_dict(net.state_dict())
    x = net.sample_inputs(1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(other.eval()(*x), net(*x))
    del sys.modules[module.__name__]


def test_it_runs_without_gancompress(tmp_path: Path) -> None:
    net = SMALL["srvgg"]().eval()
    x = (torch.rand(2, 3, 8, 8),)
    graph = gc.trace(net, x)
    small = gc.cut(net, gc.random_plan(graph, keep=0.5, seed=0), graph=graph)
    own = Tiny().eval()
    gc.export(small, x, "shipped.py", to="standalone")
    gc.export(own, inputs("plain", 2), "own.py", to="standalone")
    assert {"shipped_weights.safetensors", "own_weights.safetensors"} < {
        p.name for p in tmp_path.iterdir()
    }
    with torch.no_grad():
        for name, module, example in (("shipped", small, x), ("own", own, (inputs("plain", 5),))):
            torch.save({"inputs": example, "wanted": module(*example)}, f"{name}.pt")
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.stdout.strip() == "ran", done.stderr[-2000:]
    count = sum(p.numel() for p in load_standalone(Path("shipped.py")).parameters())
    assert count == sum(p.numel() for p in small.parameters())
    assert count < sum(p.numel() for p in net.parameters())


def test_names_of_modules(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a standalone file is a Python module"):
        gc.export(nn.Conv2d(3, 3, 1), torch.randn(2, 3, 4, 4), "my-net.py", to="standalone")
    (tmp_path / "net_weights.safetensors").touch()
    with pytest.raises(ConfigError, match="net_weights.safetensors exists"):
        gc.export(nn.Conv2d(3, 3, 1), torch.randn(2, 3, 4, 4), "net.py", to="standalone")
    assert len(list(tmp_path.iterdir())) == 1
