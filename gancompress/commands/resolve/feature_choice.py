"""From ``--features`` to a view of outputs, tried on some of them before any work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancompress.commands.console import note
from gancompress.commands.resolve.builders import load_builder, where
from gancompress.errors import ConfigError, DataError
from gancompress.metrics.features import Features, OwnFeatures, embedded_view
from gancompress.metrics.fidelity import InceptionFeatures
from gancompress.modules.undisturbed import look
from gancompress.tasks.feature_quality import unit
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Task
from gancompress.tasks.unpaired import Unpaired

EMBEDDED = "embedded"
INCEPTION = "inception"


def features_for(
    spec: str | None, task: Task, generator: nn.Module, device: str | torch.device = "cpu"
) -> Features | None:
    """Return the view that ``spec`` names, tried on two outputs of ``task`` and two real ones.

    Nothing typed: the embedded features where a distance to the data is all there is to measure
    (pictures of noise beside data, pictures of another domain), else ``None``.

    Raises:
        ConfigError: no such features, or code of them that fails when it is made.
        DataError: they cannot look at these outputs; weights that are missing.
        CheckpointError: weights that are another file.
    """
    batch = next(iter(task.held_out(2, 2)))
    home = next((p.device for p in generator.parameters()), torch.device("cpu"))
    here = batch.to(home)
    made = unit(task.output(look(generator, here.inputs, here.kwargs)).float(), task.values).cpu()
    if spec is None:
        if made.ndim != 4 or not measured_by_features(task):
            return None
        spec = EMBEDDED
    features = features_of(spec, tuple(made.shape[1:]), device)
    try:
        features(made)
    except DataError as error:
        raise DataError(f"--features {spec}: {error}") from error
    return features


def measured_by_features(task: Task) -> bool:
    """Return whether a distance of sets is the task's own measure: nothing is wanted one by one."""
    return (isinstance(task, Noise) and task.dataset is not None) or isinstance(task, Unpaired)


def features_of(spec: str, shape: tuple[int, ...], device: str | torch.device = "cpu") -> Features:
    """Return the view called ``spec``, for outputs of ``shape`` (c, *space).

    ``embedded``, ``inception:FILE`` (``inception`` alone: where torch hub keeps it), or
    ``package.module:fn``, which returns a network or a function when it is called.

    Raises:
        ConfigError: none of these, or the code fails.
        DataError: weights that are missing.
        CheckpointError: weights that are another file.
    """
    if spec == EMBEDDED:
        return embedded_view(shape)
    kind, colon, rest = spec.partition(":")
    if kind == INCEPTION:
        if colon and not rest:
            raise ConfigError("--features inception: names no file; inception:WEIGHTS.pth")
        return InceptionFeatures(rest or None, device)
    if not colon:
        raise ConfigError(
            f"--features {spec!r}: embedded, inception:WEIGHTS.pth, or package.module:fn of your "
            "own, a function that returns a network or a function of outputs (n, c, h, w)"
        )
    builder = load_builder(spec)
    try:
        view = builder()
    except Exception as error:
        raise ConfigError(f"--features {spec}: {spec}() failed: {where(error)}") from error
    if not callable(view) or isinstance(view, Tensor):
        raise ConfigError(
            f"--features {spec}: {spec}() returned a {type(view).__name__}; it must return a "
            "network, or a function of outputs"
        )
    return OwnFeatures(view, spec, device)


def say_features(features: Features | None, spec: str | None) -> None:
    """Say on stderr what was chosen where nobody said it."""
    if features is not None and spec is None:
        note(
            f"Frechet distance and PRDC on {features.name}, for want of other features "
            "(--features inception:FILE or package.module:fn)"
        )
