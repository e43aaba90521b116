"""Standard FID, KID and Inception Score through torch-fidelity, with weights the user provides."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from gancompress.errors import CheckpointError, DataError
from gancompress.metrics.extras import require
from gancompress.metrics.reference import TEACHER_SEED, Images, set_name
from gancompress.metrics.sampling import Sampler, draw

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_TAG = "6726825d"  # first 8 hex digits of the file's SHA-256, the torch hub convention
KID_SUBSET = 1000


class _Bytes(TorchDataset[Tensor]):
    """Images (n, 3, h, w) uint8, the form in which torch-fidelity reads a data set."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def inception_weights(file: str | Path | None = None) -> Path:
    """Return the Inception weights of torch-fidelity after checking them; nothing is downloaded.

    ``None`` looks where torch hub would have put them.

    Raises:
        DataError: the file is missing; the message names it, its hash tag and its place.
        CheckpointError: the content is not that file, or holds more than tensors.
    """
    usual = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE
    path = usual if file is None else Path(file)
    if not path.is_file():
        raise DataError(
            f"no Inception weights at {path}. FID, KID and IS need the file {WEIGHTS_FILE} "
            f"(SHA-256 starts with {WEIGHTS_TAG}) from the releases of the torch-fidelity project: "
            f"put it at {usual} or name its path. Offline, use frechet_classifier instead"
        )
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(WEIGHTS_TAG):
        raise CheckpointError(
            f"{path} is not {WEIGHTS_FILE}: its SHA-256 starts with {digest.hexdigest()[:8]}, "
            f"{WEIGHTS_TAG} was expected. Fetch it again"
        )
    # torch-fidelity unpickles the file in full; what passes here names nothing but tensors.
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or holds more than tensors: {error}") from error
    return path


def count_name(n: int) -> str:
    """Return the count as it stands in a metric's name: 50000 is ``"50k"``, 1234 ``"1234"``."""
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)


def to_rgb_bytes(images: Tensor) -> Tensor:
    """Return uint8 (n, 3, h, w) of images (n, 1 or 3, h, w) in [-1, 1]; grey is repeated.

    Raises:
        DataError: another number of channels.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(f"FID reads grey or RGB images, got {tuple(images.shape)}")
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.expand(-1, 3, -1, -1).contiguous()


def _reference_bytes(
    reference: Images | nn.Module, sampler: Sampler, n: int, seed: int, device: Any
) -> tuple[Tensor, str]:
    if isinstance(reference, nn.Module):
        drawn = draw(reference, sampler, n, seed=seed + TEACHER_SEED, device=device)
        name = f"samples of {type(reference).__name__}"
        return torch.cat([to_rgb_bytes(images) for images, _ in drawn]), name
    parts = torch.arange(len(reference)).split(500)
    return torch.cat([to_rgb_bytes(reference.batch(part)[0]) for part in parts]), set_name(
        reference
    )


def fidelity(
    generator: nn.Module,
    sampler: Sampler,
    *,
    reference: Images | nn.Module,
    weights: str | Path | None = None,
    n: int = 50_000,
    seed: int = 0,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Return FID, KID and Inception Score of ``n`` samples, the count in each name (``fid50k``).

    ``reference`` is used whole (a teacher: ``n`` samples). Holds all images as bytes in memory.
    Heusel et al. 2017, Binkowski et al. 2018, Salimans et al. 2016, as in torch-fidelity.

    Raises:
        ConfigError: torch-fidelity is not installed (extra ``metrics``).
        DataError: the weights are missing, or the images cannot be read.
        CheckpointError: the weights are another or a damaged file.
    """
    torch_fidelity = require("torch_fidelity", "metrics")
    path = inception_weights(weights)
    drawn = draw(generator, sampler, n, seed=seed, batch=batch, device=device)
    fake = torch.cat([to_rgb_bytes(images) for images, _ in drawn])
    real, name = _reference_bytes(reference, sampler, n, seed, device)
    subset = min(KID_SUBSET, n, len(real))
    found = torch_fidelity.calculate_metrics(
        input1=_Bytes(fake),
        input2=_Bytes(real),
        isc=True,
        fid=True,
        kid=True,
        kid_subset_size=subset,
        feature_extractor_weights_path=str(path),
        batch_size=batch,
        cuda=torch.device(device).type == "cuda",
        rng_seed=seed,
        cache=False,
        verbose=False,
    )
    count = count_name(n)
    return {
        f"fid{count}": found[torch_fidelity.KEY_METRIC_FID],
        f"kid{count}_mean": found[torch_fidelity.KEY_METRIC_KID_MEAN],
        f"kid{count}_std": found[torch_fidelity.KEY_METRIC_KID_STD],
        f"is{count}_mean": found[torch_fidelity.KEY_METRIC_ISC_MEAN],
        f"is{count}_std": found[torch_fidelity.KEY_METRIC_ISC_STD],
        "n": n,
        "n_reference": len(real),
        "seed": seed,
        "reference": name,
        "features": f"inception-v3-compat-{WEIGHTS_TAG}",
        "kid_subset_size": subset,
        "torch_fidelity": torch_fidelity.__version__,
    }
