"""Standard metrics: never without the true weights, never by surprise."""

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics import fidelity as module
from gancompress.metrics.fidelity import count_name, fidelity, inception_weights, to_rgb_bytes
from gancompress.metrics.sampling import draw
from tests.metrics.fakes import HELD_OUT, Replay, ReplaySampler, Set, load


class Shell:
    """Runs a command when unpickled by a careless reader."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


def tagged(monkeypatch: pytest.MonkeyPatch, file: Path) -> Path:
    """Pretend that ``file`` is the published one, to reach what is checked after the hash."""
    tag = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(module, "WEIGHTS_TAG", tag)
    return file


def test_missing_weights_are_named_with_hash_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    place = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(DataError) as caught:
        inception_weights()
    for part in (str(place), "weights-inception-2015-12-05-6726825d.pth", "6726825d"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "hub").exists()
    with pytest.raises(DataError, match="no Inception weights at .*mine.pth"):
        inception_weights(tmp_path / "mine.pth")


def test_another_file_of_that_name_is_refused(tmp_path: Path):
    file = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    torch.save({"fc.weight": torch.randn(3)}, file)
    with pytest.raises(CheckpointError, match="6726825d was expected"):
        inception_weights(file)


def test_a_file_that_holds_code_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trace, file = tmp_path / "ran", tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps(Shell(trace)))
    with pytest.raises(CheckpointError, match="refused, nothing was run"):
        inception_weights(tagged(monkeypatch, file))
    assert not trace.exists()


def test_a_truncated_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "w.pth"
    torch.save({"a": torch.randn(1000)}, file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="damaged"):
        inception_weights(tagged(monkeypatch, file))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    reference = Set(*load(HELD_OUT))
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[metrics\]'"):
        fidelity(Replay(), ReplaySampler(), reference=reference, n=10)


def test_bytes_are_rgb_and_rounded():
    images = torch.tensor([-1.0, -0.5, 0.0, 1.0]).view(1, 1, 2, 2)
    found = to_rgb_bytes(images)
    assert found.shape == (1, 3, 2, 2)
    assert found[0, 1].flatten().tolist() == [0, 64, 128, 255]
    with pytest.raises(DataError, match="grey or RGB"):
        to_rgb_bytes(torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize(("n", "name"), [(50_000, "50k"), (1000, "1k"), (1234, "1234")])
def test_the_count_is_in_the_name(n: int, name: str):
    assert count_name(n) == name


@pytest.fixture
def random_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights that pass for the published ones: they test the plumbing, not the numbers."""
    pytest.importorskip("torch_fidelity")
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    file = tmp_path / "weights.pth"
    with monkeypatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        net = inception.FeatureExtractorInceptionV3("random", ["2048"])
    torch.save(net.state_dict(), file)
    return tagged(monkeypatch, file)


class Bytes(torch.utils.data.Dataset[torch.Tensor]):
    """Images as torch-fidelity reads them."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = to_rgb_bytes(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_equals_torch_fidelity_run_by_itself(random_inception: Path):
    torch_fidelity = pytest.importorskip("torch_fidelity")
    images, labels = load(HELD_OUT)
    reference = Set(images[::8], labels[::8])
    found = fidelity(
        Replay("noise"), ReplaySampler(), reference=reference, n=24, weights=random_inception
    )
    drawn = torch.cat([x for x, _ in draw(Replay("noise"), ReplaySampler(), 24, seed=0, batch=64)])
    expected = torch_fidelity.calculate_metrics(
        input1=Bytes(drawn), input2=Bytes(reference.images), isc=True, fid=True, kid=True,
        kid_subset_size=24, feature_extractor_weights_path=str(random_inception), cuda=False,
        cache=False, verbose=False,
    )  # fmt: skip
    for ours, theirs in (
        ("fid24", torch_fidelity.KEY_METRIC_FID),
        ("kid24_mean", torch_fidelity.KEY_METRIC_KID_MEAN),
        ("kid24_std", torch_fidelity.KEY_METRIC_KID_STD),
        ("is24_mean", torch_fidelity.KEY_METRIC_ISC_MEAN),
        ("is24_std", torch_fidelity.KEY_METRIC_ISC_STD),
    ):
        assert found[ours] == pytest.approx(expected[theirs], rel=1e-6, abs=1e-9)
    assert (found["n"], found["n_reference"], found["kid_subset_size"]) == (24, 25, 24)


@pytest.mark.parity
def test_a_teacher_stands_for_n_real_images(random_inception: Path):
    found = fidelity(Replay(), ReplaySampler(), reference=Replay(), n=8, weights=random_inception)
    assert found["n_reference"] == 8
    assert found["fid8"] > 0
    # The same through the features of any task.
    view = module.InceptionFeatures(random_inception)
    sets = [
        torch.cat([view(x)[0] for x, _ in draw(Replay(), ReplaySampler(), 8, seed=seed)])
        for seed in (0, module.TEACHER_SEED)
    ]
    assert view.standard(*sets)["fid8"] == pytest.approx(found["fid8"], rel=1e-6)
