"""Standard FID, KID and Inception Score through torch-fidelity, with weights the user provides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError, DataError
from gancompress.extras import require
from gancompress.metrics.reference import TEACHER_SEED, Images, set_name
from gancompress.metrics.sampling import Sampler, draw
from gancompress.weights.reading import read_weight_file

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_TAG = "6726825d"  # first 8 hex digits of the file's SHA-256, the torch hub convention
KID_SUBSET = 1000


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
    read_weight_file(path)
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


def load_extractor(weights: str | Path | None, device: str | torch.device = "cpu") -> Any:
    """Return torch-fidelity's Inception, called with uint8 (n, 3, h, w), of the checked weights.

    It returns pooled features (n, 2048) and logits without bias (n, 1008).

    Raises:
        ConfigError: torch-fidelity is not installed (extra ``metrics``).
        DataError: the weights are missing.
        CheckpointError: they are another or a damaged file.
    """
    torch_fidelity = require("torch_fidelity", "metrics")
    return torch_fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(inception_weights(weights)),
    ).to(device)


def fid_and_kid(fake: Tensor, real: Tensor) -> dict[str, float]:
    """Return FID and KID of features (n, 2048) and (m, 2048), ``n`` in their names.

    Heusel et al. 2017 and Binkowski et al. 2018, by torch-fidelity's own functions; KID over
    subsets of at most 1,000.

    Raises:
        ConfigError: torch-fidelity is not installed (extra ``metrics``).
    """
    torch_fidelity = require("torch_fidelity", "metrics")
    fid, kid = (require(f"torch_fidelity.metric_{m}", "metrics") for m in ("fid", "kid"))
    subset = min(KID_SUBSET, len(fake), len(real))
    statistics = [fid.fid_features_to_statistics(features) for features in (fake, real)]
    found = {
        **fid.fid_statistics_to_metric(*statistics, verbose=False),
        **kid.kid_features_to_metric(fake, real, kid_subset_size=subset, verbose=False),
    }
    count = count_name(len(fake))
    return {
        f"fid{count}": float(found[torch_fidelity.KEY_METRIC_FID]),
        f"kid{count}_mean": float(found[torch_fidelity.KEY_METRIC_KID_MEAN]),
        f"kid{count}_std": float(found[torch_fidelity.KEY_METRIC_KID_STD]),
    }


class InceptionFeatures:
    """The Inception of FID, through torch-fidelity, of weights that the user has (ours).

    Raises:
        ConfigError: torch-fidelity is not installed (extra ``metrics``).
        DataError: the weights are missing; when called: no grey or RGB images.
        CheckpointError: the weights are another or a damaged file.
    """

    n_classes = 0

    def __init__(
        self, weights: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.name = f"inception-v3-compat-{WEIGHTS_TAG}"
        self.device = torch.device(device)
        self.extractor = load_extractor(weights, device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        """Return pooled features (n, 2048) of images (n, 1 or 3, h, w) in [-1, 1]."""
        return self.extractor(to_rgb_bytes(images).to(self.device))[0].cpu(), None

    def standard(self, fake: Tensor, real: Tensor) -> dict[str, float]:
        """Return FID and KID of two sets of features, see `fid_and_kid`."""
        return fid_and_kid(fake, real)


def _inception_features(
    extractor: Any, batches: Iterable[Tensor], device: str | torch.device
) -> tuple[Tensor, Tensor]:
    pools, logits = [], []
    with torch.no_grad():
        for images in batches:
            pool, logit = extractor(to_rgb_bytes(images).to(device))
            pools.append(pool.cpu())
            logits.append(logit.cpu())
    return torch.cat(pools), torch.cat(logits)


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

    ``reference`` is used whole (a teacher: ``n`` samples). Images pass batch by batch, their 2048-d
    features stay in memory. Heusel et al. 2017, Binkowski et al. 2018, Salimans et al. 2016, with
    the extractor, formulas and subset seeds of torch-fidelity.

    Raises:
        ConfigError: torch-fidelity is not installed (extra ``metrics``).
        DataError: the weights are missing, or the images cannot be read.
        CheckpointError: the weights are another or a damaged file.
    """
    torch_fidelity = require("torch_fidelity", "metrics")
    isc = require("torch_fidelity.metric_isc", "metrics")
    extractor = load_extractor(weights, device)
    if isinstance(reference, nn.Module):
        name = f"samples of {type(reference).__name__}"
        drawn = draw(reference, sampler, n, seed=seed + TEACHER_SEED, batch=batch, device=device)
        real_images = (images for images, _ in drawn)
    else:
        name = set_name(reference)
        parts = torch.arange(len(reference)).split(batch)
        real_images = (reference.batch(part)[0] for part in parts)
    real, _ = _inception_features(extractor, real_images, device)
    drawn = draw(generator, sampler, n, seed=seed, batch=batch, device=device)
    fake, logits = _inception_features(extractor, (images for images, _ in drawn), device)
    found = isc.isc_features_to_metric(logits)
    count = count_name(n)
    return {
        **fid_and_kid(fake, real),
        f"is{count}_mean": found[torch_fidelity.KEY_METRIC_ISC_MEAN],
        f"is{count}_std": found[torch_fidelity.KEY_METRIC_ISC_STD],
        "n": n,
        "n_reference": len(real),
        "seed": seed,
        "reference": name,
        "features": f"inception-v3-compat-{WEIGHTS_TAG}",
        "kid_subset_size": min(KID_SUBSET, len(fake), len(real)),
        "torch_fidelity": torch_fidelity.__version__,
    }
