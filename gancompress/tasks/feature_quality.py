"""Frechet distance and PRDC of any task, on features of the user's choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.errors import DataError
from gancompress.metrics.evaluate import NEIGHBOURS, evaluate, standard_figures
from gancompress.metrics.features import Features
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance
from gancompress.metrics.prdc import prdc
from gancompress.modules.undisturbed import evaluating
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Draw, Task

BATCH = 16


def feature_quality(
    task: Task,
    network: nn.Module,
    features: Features,
    *,
    teacher: nn.Module | None = None,
    n: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how far the outputs of ``network``, as a set, are from real ones (ours).

    Real are what the task calls real: the data, the wanted outputs that training reads, or, without
    data, what the teacher makes of other inputs. Of finite data the outputs are made of held-out
    inputs.

    Args:
        task: where inputs and real outputs come from.
        network: the generator to measure, in eval mode.
        features: the view that both sets are compared through.
        teacher: the original; needed only where there are no real outputs.
        n: outputs, and real ones, at most.
        seed: of drawn inputs.

    Returns:
        ``frechet`` (lower is better, on the scale of ``features``), ``frechet_floor`` (what as many
        other real outputs score in its place; ``None`` where there are too few), ``precision recall
        density coverage`` (``None`` of fewer than six), ``n n_reference reference features prdc_k``
        and what the features know to say beside (FID, KID). Only ``too_few``, in words, where there
        is nothing to compare.

    Raises:
        DataError: the features cannot look at these outputs, or they are not finite.
    """
    if isinstance(task, Noise):
        return _of_noise(task, network, features, teacher, n, seed)
    made = [features(output)[0] for output in _outputs(task, network, n)]
    fake = torch.cat(made).double() if made else torch.zeros(0, 1)
    count = getattr(task, "real_count", None)
    most = len(fake) if count is None else min(n, count)
    # The rest of the real outputs, as many as were made, say what a perfect generator would score.
    floor = None
    if count is not None and count >= 2 * len(fake):
        most = min(n, count - len(fake))
        floor = _real(task, features, len(fake), start=most)
    real = _real(task, features, most, start=0)
    return _compared(fake, real, floor, features) | {"reference": f"real outputs of {task.name}"}


def unit(x: Tensor, values: tuple[float, float]) -> Tensor:
    """Return outputs with black and white ``values`` on the scale [-1, 1]."""
    low, high = values
    return x if values == (-1.0, 1.0) else (x.float() - low) * (2 / (high - low)) - 1


def _of_noise(
    task: Noise,
    network: nn.Module,
    features: Features,
    teacher: nn.Module | None,
    n: int,
    seed: int,
) -> dict[str, Any]:
    """Return the same of a generator of noise, asked for the classes of the reference."""
    reference: Any = teacher if task.dataset is None else task.dataset
    if reference is None:
        return {"too_few": "there is neither data nor a teacher to compare with"}
    if task.dataset is not None:
        n = min(n, len(task.dataset) // 2)
    if n <= NEIGHBOURS:
        return {
            "too_few": f"{n} real images, and as many for the floor; {NEIGHBOURS + 1} are needed"
        }
    home = next(network.parameters()).device
    found = evaluate(
        network, task.sampler, reference=reference, n=n, seed=seed, device=home, features=features
    )
    more = {k: v for k, v in found.items() if k.startswith(("fid", "kid"))}
    kept = ("precision", "recall", "density", "coverage", "conditional_accuracy", "real", "seed")
    return {
        "frechet": found["frechet_classifier"],
        "frechet_floor": found["frechet_floor"],
        **{name: found[name] for name in kept},
        **{name: found[name] for name in ("n", "reference", "features", "prdc_k")},
        "n_reference": n,
        **more,
    }


def _outputs(task: Task, network: nn.Module, n: int) -> Iterator[Tensor]:
    home = next(network.parameters()).device
    for batch in task.held_out(n, BATCH):
        with evaluating(network), torch.no_grad():
            made = task.output(batch.to(home).run(network))
        yield unit(made, task.values)


def _real(task: Task, features: Features, n: int, *, start: int) -> Tensor:
    """Return features of the real outputs ``start`` to ``start + n`` in the order of training."""
    found: list[Tensor] = []
    for numbers in torch.arange(start, start + n).split(BATCH):
        draws = (Draw(1, i, stream("measured", i)) for i in numbers.tolist())
        real = torch.cat([task.real(draw).output for draw in draws])
        found.append(features(unit(real, task.values))[0])
    return torch.cat(found) if found else torch.zeros(0, 1)


def _compared(
    fake: Tensor, real: Tensor, floor: Tensor | None, features: Features
) -> dict[str, Any]:
    if min(len(fake), len(real)) < 2:
        return {
            "too_few": f"{len(fake)} outputs and {len(real)} real ones; two at least are needed"
        }
    real, base = real.double(), FeatureStatistics.of(real.double())
    few = min(len(fake), len(real)) <= NEIGHBOURS
    names = ("precision", "recall", "density", "coverage")
    shape = None if few else prdc(real, fake, k=NEIGHBOURS)
    spread = None if floor is None else frechet_distance(base, FeatureStatistics.of(floor))
    try:
        distance = frechet_distance(base, FeatureStatistics.of(fake))
    except DataError as error:
        raise DataError(f"features {features.name}: {error}") from error
    return {
        "frechet": distance,
        "frechet_floor": spread,
        **{name: None if shape is None else getattr(shape, name) for name in names},
        "n": len(fake),
        "n_reference": len(real),
        "features": features.name,
        "prdc_k": NEIGHBOURS,
        **standard_figures(features, fake, real),
    }
