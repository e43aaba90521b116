"""The demo over HTTP: what it answers, what it refuses, and that nothing comes from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch import Tensor, nn

import gancompress as gc
from gancompress.cli import main
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.models import SRVGGNetCompact
from gancompress.reporting.demo_page import PAGE
from gancompress.reporting.demo_pair import SideBySide
from gancompress.reporting.demo_server import make_server
from gancompress.tasks.protocol import Batch


class Classes(nn.Module):
    """A flat picture: brightness is the class of ten, stripes are the latent."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        flat = (y.float() / 5 - 1 + self.shift)[:, None, None, None].expand(-1, 1, 8, 8)
        return (flat + 1e-3 * z[:, None, :, None]).clamp(-1, 1)


@dataclass
class Heard:
    """A task of four held-out samples."""

    inputs: tuple[Tensor, ...]
    rate: int | None = None
    values: tuple[float, float] = (-1.0, 1.0)

    def held_out(self, n: int, batch: int) -> Iterator[Batch]:
        for i in range(4):
            yield Batch(tuple(x[i : i + 1] for x in self.inputs), wanted=self.inputs[0][i : i + 1])

    def output(self, raw: Any) -> Tensor:
        return raw


class Served:
    def __init__(self, pair: SideBySide) -> None:
        self.server = make_server(pair, "127.0.0.1", 0)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def ask(self, path: str, *, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        link = HTTPConnection("127.0.0.1", self.port, timeout=30)
        link.request("GET" if body is None else "POST", path, body, headers)
        answer = link.getresponse()
        data = answer.read()
        kind = answer.getheader("Content-Type") or ""
        link.close()
        return answer.status, json.loads(data) if "json" in kind else data.decode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def served() -> Iterator[Any]:
    made: list[Served] = []

    def serve(pair: SideBySide) -> Served:
        made.append(Served(pair))
        return made[-1]

    yield serve
    for one in made:
        one.close()


def pixels(media: dict[str, str]) -> np.ndarray:
    assert media["kind"] == "picture"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(media["data"].split(",")[1]))))


def by_class() -> SideBySide:
    sampler = InputSampler.parse(["z=normal(8)", "y=labels(10)"])
    return SideBySide({"teacher": Classes(), "student": Classes(0.2)}, sampler, title="by class")


def test_noise_and_classes(served: Any) -> None:
    demo = served(by_class())
    status, page = demo.ask("/")
    assert (status, page) == (200, PAGE)
    _, about = demo.ask("/about")
    assert about["classes"] == 10
    assert about["networks"] == {"teacher": 1, "student": 1}
    assert about["picture"] is None
    assert about["held_out"] is None
    status, found = demo.ask("/generate?seed=5&class=9&n=3")
    assert status == 200
    assert list(found["outputs"]) == ["teacher", "student"]
    for one, bright in zip(found["outputs"].values(), (229, 255), strict=True):
        assert len(one["media"]) == 3
        assert abs(float(pixels(one["media"][0]).mean()) - bright) < 2
        assert one["ms"] > 0
    assert found["mean_difference"] == pytest.approx(0.2, abs=0.01)
    again = demo.ask("/generate?seed=5&class=9&n=3")[1]
    assert again["outputs"]["teacher"]["media"] == found["outputs"]["teacher"]["media"]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/generate?class=10", 400, "class 10: there are 10"),
        ("/generate?n=17", 400, "n is 17, it must be 1 to 16"),
        ("/generate?n=0", 400, "n is 0"),
        ("/generate?seed=-1", 400, "seed='-1' is no whole number"),
        ("/generate?seed=4294967296", 400, "it must be 0 to"),
        ("/secret", 404, "nothing is at /secret"),
        ("/../etc/passwd", 404, "nothing is at"),
    ],
)
def test_bad_requests(path: str, status: int, text: str, served: Any) -> None:
    code, found = served(by_class()).ask(path)
    assert code == status
    assert text in found["error"]


def test_other_sites_are_refused(served: Any) -> None:
    demo = served(by_class())
    assert demo.ask("/about", Host="evil.example")[0] == 403
    assert demo.ask("/about", Origin="http://evil.example")[0] == 403
    assert demo.ask("/about", Host=f"localhost:{demo.port}")[0] == 200
    assert demo.ask("/picture", body=b"x")[0] == 400
    assert demo.ask("/other", body=b"x")[0] == 404
    assert demo.ask("/picture", body=b"", **{"Content-Length": str(2**30)})[0] == 413


def test_pictures_of_ones_own(served: Any) -> None:
    task: Any = Heard((torch.rand(4, 3, 8, 8) * 2 - 1,))
    sampler = InputSampler.unsaid(nn.Identity())
    demo = served(SideBySide({"student": nn.Identity()}, sampler, task))
    _, about = demo.ask("/about")
    assert (about["held_out"], about["picture"]) == (4, [3, 8, 8])
    one, other = (demo.ask(f"/generate?seed={i}")[1] for i in (1, 2))
    assert list(one["beside"]) == ["input", "wanted"]
    assert one["outputs"]["student"]["media"] == one["beside"]["input"]
    assert one["outputs"] != other["outputs"]
    assert demo.ask("/generate?seed=5")[1]["beside"] == one["beside"]
    out = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 100, 0)).save(out, "PNG")
    status, found = demo.ask("/picture", body=out.getvalue())
    assert status == 200
    shown = pixels(found["outputs"]["student"]["media"][0])
    assert np.abs(shown.reshape(-1, 3).astype(int) - [200, 100, 0]).max() <= 1
    code, found = demo.ask("/picture", body=b"GIF89a no picture")
    assert code == 400
    assert "no picture that can be read" in found["error"]


def test_sound(served: Any) -> None:
    sound = torch.sin(torch.arange(4 * 400).reshape(4, 1, 400) / 5)
    task: Any = Heard((sound,), rate=8000)
    demo = served(SideBySide({"student": nn.Identity()}, InputSampler.unsaid(nn.Identity()), task))
    (media,) = demo.ask("/generate?seed=2")[1]["outputs"]["student"]["media"]
    assert media["kind"] == "sound"
    rate, heard = wavfile.read(io.BytesIO(base64.b64decode(media["data"].split(",")[1])))
    assert rate == 8000
    assert np.abs(heard / 32767 - sound[2, 0].numpy()).max() < 1e-4


def test_nothing_comes_from_elsewhere_and_an_address_in_use_is_named(served: Any) -> None:
    assert not re.search(r"(https?:)?//[a-z]", PAGE)
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=", PAGE)
    demo = served(by_class())
    with pytest.raises(ConfigError, match="Choose another --port"):
        make_server(by_class(), "127.0.0.1", demo.port)


def test_the_verb_serves_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", stopped)
    gc.save(tmp_path / "net", SRVGGNetCompact(num_feat=8, num_conv=2))
    assert main(["demo", str(tmp_path / "net"), "--port", "0", "--json"]) == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"http://127.0.0.1:\d+/", json.loads(said.out)["url"])
    assert "no teacher beside it" in said.err


def test_the_verb_wants_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "nets:build"]) == 2
    assert "demo shows a run folder" in capsys.readouterr().err
    assert main(["demo", "no/such/run"]) == 2
    assert "neither a run folder" in capsys.readouterr().err
