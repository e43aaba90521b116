"""Published folders load exactly, and every defect of a file is refused by name."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from gancompress.errors import CheckpointError, StorageError
from gancompress.models import (
    BigGANConfig,
    BigGANDiscriminator,
    BigGANGenerator,
    convert_biggan_folder,
    load_biggan_discriminator,
    load_biggan_folder,
    load_biggan_generator,
)

IMAGENET = dataclasses.replace(
    BigGANConfig.imagenet128(), ch=8, n_classes=11, shared_dim=6, dim_z=12, init="N02"
)
CIFAR = dataclasses.replace(BigGANConfig.cifar(), ch=4)
SHARED_FLAT = dataclasses.replace(CIFAR, shared=True, shared_dim=6, dim_z=9)
# What a file cannot show is taken from the published script with the same kind of norms.
SHARED_FLAT_FOUND = dataclasses.replace(SHARED_FLAT, sn_eps=1e-6, init="ortho")


def write(folder: Path, config: BigGANConfig, *, suffix: str = "", legacy: bool = False) -> Path:
    """Write the three files as the public code does, perhaps in torch's format of that time."""
    folder.mkdir(exist_ok=True)
    for name, network in (
        ("G_ema", BigGANGenerator),
        ("G", BigGANGenerator),
        ("D", BigGANDiscriminator),
    ):
        state = network(config).state_dict()
        torch.save(state, folder / f"{name}{suffix}.pth", _use_new_zipfile_serialization=not legacy)
    return folder


def raw(file: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(file, weights_only=True))


def edit(file: Path, **changes: object) -> None:
    """Save ``file`` again with keys replaced, or removed where the change is None."""
    state = {**raw(file), **changes}
    torch.save({k: v for k, v in state.items() if v is not None}, file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "published", CIFAR)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("config", "found"),
    [(IMAGENET, dataclasses.replace(IMAGENET, init="ortho")), (CIFAR, CIFAR)]
    + [(SHARED_FLAT, SHARED_FLAT_FOUND)],
    ids=["imagenet", "cifar", "shared-flat"],
)
def test_loads_with_the_configuration_found_from_shapes(tmp_path, config, found, legacy) -> None:
    published = write(tmp_path / "published", config, legacy=legacy)
    loaded = load_biggan_folder(published)
    for name, module in zip(("G_ema", "G", "D"), loaded, strict=True):
        state = raw(published / f"{name}.pth")
        assert list(module.state_dict()) == list(state)
        for key, value in module.state_dict().items():
            assert torch.equal(value, state[key]), (name, key)
        assert not module.training
        assert all(p.requires_grad for p in module.parameters())
    ema, live, discriminator = loaded
    assert ema.config == live.config == discriminator.config == found
    z, y = ema.sample_inputs(2, torch.Generator().manual_seed(0))
    assert discriminator(ema(z, y), y).shape == (2, 1)


def test_a_given_configuration_is_kept_and_checked(tmp_path) -> None:
    published = write(tmp_path / "published", IMAGENET)
    config = dataclasses.replace(IMAGENET, sn_eps=1e-4)
    for module in load_biggan_folder(published, config=config):
        assert module.config == config
    for change, message in (
        ({"n_classes": 10}, "G_ema.pth does not fit: n_classes is 11, the configuration says 10"),
        ({"ch": 16}, "ch is 8, the configuration says 16"),
        ({"dim_z": 18}, "dim_z is 12, the configuration says 18"),
        ({"g_attn": ()}, r"g_attn is \[64\], the configuration says \[\]"),
        ({"image_channels": 1}, "image_channels is 3, the configuration says 1"),
        ({"hier": False}, "hier is True, the configuration says False"),
        ({"resolution": 64, "dim_z": 10, "g_attn": (), "d_attn": ()}, "resolution is 128"),
        ({"d_attn": (32,)}, r"D.pth does not fit: d_attn is \[64\], the configuration says \[32\]"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_biggan_folder(published, config=dataclasses.replace(IMAGENET, **change))


def test_the_discriminator_may_have_a_width_of_its_own(folder) -> None:
    wide = dataclasses.replace(CIFAR, ch=8)
    torch.save(BigGANDiscriminator(wide).state_dict(), folder / "D.pth")
    generator, _, discriminator = load_biggan_folder(folder)
    assert (generator.config.ch, discriminator.config.ch) == (4, 8)
    with pytest.raises(CheckpointError, match="ch is 8, the configuration says 4"):
        load_biggan_discriminator(folder / "D.pth", CIFAR)


def test_copies_are_chosen_by_suffix(tmp_path, folder) -> None:
    write(folder, dataclasses.replace(CIFAR, n_classes=7), suffix="_best0")
    assert load_biggan_folder(folder, suffix="best0")[0].config.n_classes == 7
    with pytest.raises(CheckpointError, match=r"no file .*G_ema_best1.pth.*holds D.pth"):
        load_biggan_folder(folder, suffix="best1")


def test_parallel_prefix_and_half_precision_are_undone(folder) -> None:
    state = {f"module.{k}": v.half() for k, v in raw(folder / "G.pth").items()}
    torch.save(state, folder / "G.pth")
    generator = load_biggan_generator(folder / "G.pth")
    assert {v.dtype for v in generator.state_dict().values()} == {torch.float32}
    assert torch.equal(generator.linear.weight, state["module.linear.weight"].float())


def test_tensors_that_share_memory_in_the_file_do_not_in_the_network(folder) -> None:
    shared = torch.randn(16)
    names = ("blocks.0.0.conv1.bias", "blocks.0.0.conv2.bias")
    edit(folder / "G.pth", **dict.fromkeys(names, shared))
    generator = load_biggan_generator(folder / "G.pth")
    with torch.no_grad():
        generator.blocks[0][0].conv1.bias.zero_()
    assert torch.equal(generator.blocks[0][0].conv2.bias, shared)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("G", {"linear.weight": None}, "G.pth misses the key linear.weight"),
        ("G", {"blocks.1.0.conv2.u0": None}, r"1 keys missing \(blocks.1.0.conv2.u0\)"),
        ("G", {"extra.weight": torch.ones(2)}, r"1 keys unexpected \(extra.weight\)"),
        (
            "G",
            {"blocks.1.0.conv1.weight": torch.ones(16, 16, 1, 1)},
            r"blocks.1.0.conv1.weight is \(16, 16, 1, 1\), expected \(16, 16, 3, 3\)",
        ),
        ("G", {"linear.weight": torch.ones(1000, 128)}, "1000 rows, not a multiple of 64"),
        ("G", {"linear.weight": torch.ones(256)}, r"has shape \(256,\), expected 2 dimensions"),
        ("G", {"blocks.0.0.conv4.weight": torch.ones(1)}, "is a BigGAN-deep"),
        ("G", {"bn.accumulation_counter": torch.ones(1)}, "standing statistics"),
        ("G", {"linear.weight_orig": torch.ones(1)}, "a network of another code"),
        ("G", {"blocks.4.0.conv1.weight": torch.ones(1)}, "misses every key of blocks.3"),
        ("G", {"blocks.3.0.conv1.weight": torch.ones(1)}, "resolution is 64, G_ema.pth says 32"),
        ("G", {"linear.bias": torch.full((256,), torch.nan)}, "linear.bias holds .* not finite"),
        ("G", {"linear.bias": torch.ones(256, dtype=torch.long)}, "linear.bias has type torch.int"),
        ("G", {"linear.bias": torch.eye(256).to_sparse()}, "not a plain tensor"),
        ("G", {"linear.bias": torch.ones(1).expand(10**9)}, r"claims \(1000000000,\) with 4 bytes"),
        ("G", {"linear.bias": torch.empty(256, device="meta")}, "not a plain tensor"),
        ("G", {"linear.bias": [1.0]}, "holds 'linear.bias' of type list"),
        ("D", {"embed.weight": torch.ones(9, 16)}, "n_classes is 9, the generator's is 10"),
        ("D", {"embed.u0": torch.ones(1, 9)}, r"embed.u0 is \(1, 9\), expected \(1, 10\)"),
        ("D", {"blocks.0.0.conv1.weight": torch.ones(16, 1, 3, 3)}, "image_channels is 1"),
        ("G_ema", {"shared.weight": torch.ones(10, 4)}, "reads 16 numbers, expected 4"),
    ],
)
def test_each_mismatch_is_named(folder, name, changes, message) -> None:
    edit(folder / f"{name}.pth", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_biggan_folder(folder)
    assert str(folder / f"{name}.pth") in str(caught.value)


def test_swapped_files_and_foreign_files_are_named(folder, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="linear.weight has 1 rows"):
        load_biggan_generator(folder / "D.pth")
    with pytest.raises(CheckpointError, match="3 discriminator stages"):
        load_biggan_discriminator(folder / "G.pth", CIFAR)
    torch.save(nn.Linear(2, 2).state_dict(), folder / "G.pth")
    with pytest.raises(CheckpointError, match="it is not a BigGAN"):
        load_biggan_folder(folder)
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    torch.save(optimizer.state_dict(), folder / "G.pth")
    with pytest.raises(CheckpointError, match="holds 'state' of type dict.*not a bare state dict"):
        load_biggan_folder(folder)
    torch.save([torch.ones(2)], folder / "G.pth")
    with pytest.raises(CheckpointError, match="holds a list, not tensors by name"):
        load_biggan_folder(folder)
    with pytest.raises(CheckpointError, match="no folder"):
        load_biggan_folder(tmp_path / "nowhere")
    (folder / "D.pth").unlink()
    torch.save(BigGANGenerator(CIFAR).state_dict(), folder / "G.pth")
    with pytest.raises(CheckpointError, match=r"no file .*D.pth; the folder holds G.pth, G_ema"):
        load_biggan_folder(folder)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [0, 1, 3, 100, 0.2, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, legacy, keep) -> None:
    file = write(tmp_path / "published", CIFAR, legacy=legacy) / "G_ema.pth"
    data = file.read_bytes()
    file.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(CheckpointError, match="G_ema.pth is damaged"):
        load_biggan_folder(file.parent)


def test_one_flipped_bit_anywhere_in_the_tensors_is_noticed(folder) -> None:
    file = folder / "G_ema.pth"
    data = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
    for offset in (200, member.file_size // 2, member.file_size - 1):
        broken = bytearray(data)
        broken[member.header_offset + offset] ^= 16
        file.write_bytes(broken)
        with pytest.raises(CheckpointError, match="damaged"):
            load_biggan_folder(folder)


class Hostile:
    """An object whose unpickling writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle2", "pickle5", "tensor-key", "replaced"])
def test_code_in_a_file_is_refused_and_not_run(folder, tmp_path, form) -> None:
    trace, file = tmp_path / "was-run", folder / "G_ema.pth"
    state = {**raw(file), "linear.extra": Hostile(trace)}
    if form in ("zip", "legacy"):
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    elif form == "tensor-key":
        torch.save({Hostile(trace): torch.ones(1)}, file)
    elif form == "replaced":
        copied = tmp_path / "copied.pth"
        with zipfile.ZipFile(file) as old, zipfile.ZipFile(copied, "w") as new:
            for name in old.namelist():
                hostile = pickle.dumps({"a": Hostile(trace)}, protocol=2)
                new.writestr(name, hostile if name.endswith("data.pkl") else old.read(name))
        copied.replace(file)
    else:
        file.write_bytes(pickle.dumps({"a": Hostile(trace)}, protocol=int(form[-1])))
    with pytest.raises(CheckpointError, match="refused, nothing was run|damaged|not a file of"):
        load_biggan_folder(folder)
    assert not trace.exists()


def test_a_pickled_module_is_refused_with_its_name(folder) -> None:
    torch.save(nn.Linear(2, 2), folder / "G_ema.pth")
    with pytest.raises(CheckpointError, match=r"torch.nn.modules.linear.Linear.*state_dict"):
        load_biggan_folder(folder)


def test_a_compressed_archive_is_refused(folder) -> None:
    file = folder / "G_ema.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"0" * 10**6)
    with pytest.raises(CheckpointError, match="compressed archive"):
        load_biggan_folder(folder)


@pytest.mark.parametrize(
    ("text", "cause"),
    [("<html>404</html>", "HTML page"), ("version https://git-lfs.github.com/spec/v1", "Git LFS")],
)
def test_a_text_file_is_refused(folder, text, cause) -> None:
    (folder / "G_ema.pth").write_text(text)
    with pytest.raises(CheckpointError, match=cause):
        load_biggan_folder(folder)


def test_conversion_round_trip(tmp_path) -> None:
    published = write(tmp_path / "published", IMAGENET)
    target = convert_biggan_folder(published, tmp_path / "converted")
    names = sorted(p.name for p in target.iterdir())
    assert names == ["D.safetensors", "G.safetensors", "G_ema.safetensors", "biggan.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["converted", "published"]
    for one, other in zip(load_biggan_folder(published), load_biggan_folder(target), strict=True):
        assert one.config == other.config
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
    with pytest.raises(StorageError, match="converted exists"):
        convert_biggan_folder(published, target)
    with pytest.raises(CheckpointError, match="n_classes is 11, the configuration says 5"):
        load_biggan_folder(target, config=dataclasses.replace(IMAGENET, n_classes=5))


def test_damage_to_a_converted_folder_is_noticed(folder, tmp_path) -> None:
    target = convert_biggan_folder(folder, tmp_path / "converted")
    file, index = target / "G.safetensors", target / "biggan.json"
    data, text = file.read_bytes(), index.read_text()
    broken = bytearray(data)
    broken[len(data) // 2] ^= 1
    for wrong in (bytes(broken), data[:-4], b""):
        file.write_bytes(wrong)
        with pytest.raises(CheckpointError, match="G.safetensors is damaged: its SHA-256"):
            load_biggan_folder(target)
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot read .*G.safetensors"):
        load_biggan_folder(target)
    file.write_bytes(data)
    for wrong_text, message in (
        (text[:40], "biggan.json is damaged"),
        ("[]", "biggan.json is damaged"),
        (json.dumps({**json.loads(text), "schema": 9}), "has schema 9, this version reads 1"),
        (text.replace('"ch": 4', '"ch": 5', 1), "G_ema.safetensors is not a BigGANGenerator"),
        (text.replace('"dim_z"', '"dimz"', 1), "unknown BigGAN option 'dimz'"),
    ):
        index.write_text(wrong_text)
        with pytest.raises(CheckpointError, match=message):
            load_biggan_folder(target)


def test_a_failed_conversion_leaves_nothing(folder, tmp_path) -> None:
    (folder / "D.pth").write_bytes(b"")
    with pytest.raises(CheckpointError):
        convert_biggan_folder(folder, tmp_path / "converted")
    assert [p.name for p in tmp_path.iterdir()] == ["published"]
