"""Published files load: wrapped or bare, old statistics, both spellings of the norms, folded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gancompress.errors import CheckpointError
from gancompress.models.normed_layers import (
    SpectralNormConv1d,
    SpectralNormConv2d,
    WeightNormConv1d,
    WeightNormConv2d,
    WeightNormConvTranspose1d,
)
from gancompress.models.published import published_state
from tests.models.reference import DISCRIMINATORS, GENERATORS, rng

LAYERS: list[tuple[type[nn.Module], type[nn.Module], tuple[int, ...]]] = [
    (WeightNormConv1d, nn.Conv1d, (2, 4, 9)),
    (WeightNormConv2d, nn.Conv2d, (2, 4, 9, 9)),
    (WeightNormConvTranspose1d, nn.ConvTranspose1d, (2, 4, 9)),
    (SpectralNormConv1d, nn.Conv1d, (2, 4, 9)),
    (SpectralNormConv2d, nn.Conv2d, (2, 4, 9, 9)),
]


def parametrized(plain: type[nn.Module], spectral: bool) -> nn.Module:
    torch.manual_seed(5)
    layer = plain(4, 6, 3, stride=2)
    return (parametrizations.spectral_norm if spectral else parametrizations.weight_norm)(layer)


@pytest.mark.parametrize(("own", "plain", "shape"), LAYERS)
def test_layers_load_torchs_parametrizations_and_agree(own, plain, shape) -> None:
    theirs = parametrized(plain, own.__name__.startswith("Spectral")).double()
    ours = own(4, 6, 3, stride=2).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(shape, generator=rng(), dtype=torch.float64)
    # In training the two spellings of spectral norm iterate in another order.
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert ours.weight.shape == theirs.weight.shape


@pytest.mark.filterwarnings("ignore:.*_norm.*:FutureWarning")
@pytest.mark.parametrize(("own", "plain", "shape"), LAYERS)
def test_layers_have_the_names_of_torchs_hooks_in_order(own, plain, shape) -> None:
    spectral = own.__name__.startswith("Spectral")
    hook = nn.utils.spectral_norm if spectral else nn.utils.weight_norm
    theirs, ours = hook(plain(4, 6, 3)), own(4, 6, 3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(shape, generator=rng())
    for training in (False, True, True, False):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))


@pytest.mark.parametrize("autocast", [False, True])
def test_spectral_norm_stays_precise_under_autocast(autocast: bool) -> None:
    torch.manual_seed(0)
    layer = SpectralNormConv2d(4, 6, 3).eval()
    exact = layer.weight
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(layer.weight, exact)


def test_a_folded_vocoder_loads_into_a_normed_one_and_back() -> None:
    normed = GENERATORS["hifigan"]().eval()
    folded = GENERATORS["hifigan"]().eval()
    folded.remove_weight_norm()
    folded.load_state_dict(normed.state_dict())
    mel = normed.sample_inputs(2, rng())
    torch.testing.assert_close(folded(*mel), normed(*mel))
    with torch.no_grad():
        folded.conv_pre.weight[1] = 0  # a dead channel has no direction
    other = GENERATORS["hifigan"]().eval()
    other.load_state_dict(folded.state_dict())
    torch.testing.assert_close(other(*mel), folded(*mel))
    folded.remove_weight_norm()  # nothing left to fold


def respelt(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as torch's parametrizations write it."""
    endings = {
        "weight_g": "parametrizations.weight.original0",
        "weight_orig": "parametrizations.weight.original",
        "weight_u": "parametrizations.weight.0._u",
    }
    found = {}
    for key, value in state.items():
        stem, _, last = key.rpartition(".")
        if last == "weight_v":
            hook = "0._v" if f"{stem}.weight_orig" in state else "original1"
            last = f"parametrizations.weight.{hook}"
        found[f"{stem}.{endings.get(last, last)}"] = value
    return found


WRAPPED: list[tuple[str, Callable[[dict[str, Tensor]], dict[str, object]]]] = [
    ("hifigan", lambda s: {"generator": s}),
    ("hifigan", lambda s: {"generator": respelt(s)}),
    ("hifigan", lambda s: {f"module.{k}": v for k, v in s.items()}),
    ("rrdb-x4", lambda s: {"params_ema": s}),
    ("rrdb-x4", lambda s: {"params": {k: v + 1 for k, v in s.items()}, "params_ema": s}),
    ("srvgg", lambda s: {"params": s}),
    ("srvgg", lambda s: s),
    ("unet-sn", lambda s: {"params": respelt(s)}),
    ("spade", lambda s: s),
    ("spade-d", respelt),
    ("unet-batch", lambda s: s),
]


@pytest.mark.parametrize(("name", "wrap"), WRAPPED)
def test_published_layouts_are_unwrapped(name: str, wrap) -> None:
    make = GENERATORS[name] if name in GENERATORS else DISCRIMINATORS[name][0]
    source, target = make(), make()
    content = wrap(source.state_dict())
    before = {key: id(value) for key, value in content.items()}
    target.load_state_dict(published_state(content, target))
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    assert {key: id(value) for key, value in content.items()} == before, "the content was changed"


def test_statistics_of_old_instance_norms_are_passed_over() -> None:
    source, target = GENERATORS["resnet-instance"](), GENERATORS["resnet-instance"]()
    old = dict(source.state_dict())
    for path, layer in source.named_modules():
        if isinstance(layer, nn.InstanceNorm2d):
            old[f"{path}.running_mean"] = torch.zeros(layer.num_features)
            old[f"{path}.running_var"] = torch.ones(layer.num_features)
            old[f"{path}.num_batches_tracked"] = torch.tensor(1)
    assert list(published_state(old, target)) == list(source.state_dict())
    target.load_state_dict(old)
    assert torch.equal(target.model[1].weight, source.model[1].weight)


def test_statistics_of_batch_norms_are_not() -> None:
    source = GENERATORS["resnet-batch-dropout"]()
    state = published_state(source.state_dict(), source)
    assert any(key.endswith("running_mean") for key in state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generator": {"a": torch.ones(1)}}, "holds 'generator'; weights of RRDBNet are an entry"),
        ({}, "the file holds nothing"),
        ({"params": {}}, "entry 'params' of the file holds nothing"),
        ({"params": {"a": 3}}, "entry 'params' of the file holds 'a' of type int"),
        ({"conv_first.weight": torch.ones(1), "step": 3}, "'conv_first.weight', 'step'"),
    ],
)
def test_a_file_without_the_weights_is_refused(content, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        published_state(content, GENERATORS["rrdb-x4"]())
