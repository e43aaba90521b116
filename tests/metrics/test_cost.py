"""Parameters, MACs and bytes against hand counts and a second counter."""

import pytest
import safetensors.torch
import torch
import torch_pruning
from torch import nn

from gancompress.errors import DataError
from gancompress.metrics.cost import footprint, state_bytes


def conv_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1, bias=False),
        nn.ConvTranspose2d(32, 8, 4, stride=2, padding=1, bias=False),
        nn.Flatten(),
        nn.Linear(8 * 16 * 16, 10, bias=False),
    )


def test_macs_and_params_equal_the_hand_count():
    found = footprint(conv_net(), (torch.zeros(1, 3, 16, 16),))
    macs = 16 * 16 * 16 * 27 + 8 * 8 * 32 * 256 + 8 * 8 * 32 * 8 * 16 + 2048 * 10
    assert found.macs == macs
    assert found.params == 16 * 27 + 32 * 256 + 32 * 128 + 20480
    assert found.bytes == 4 * found.params


def test_macs_equal_those_of_torch_pruning_on_convolutions():
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, bias=False),
        nn.Conv2d(24, 24, 3, groups=4, bias=False),
        nn.Conv2d(24, 8, 1, stride=2, bias=False),
    )
    example = torch.zeros(1, 3, 20, 20)
    macs, params = torch_pruning.utils.count_ops_and_params(net, example)
    found = footprint(net, (example,))
    assert (found.macs, found.params) == (macs, params)


def test_macs_are_for_one_image_whatever_the_batch():
    net = conv_net()
    one = footprint(net, (torch.zeros(1, 3, 16, 16),))
    assert footprint(net, (torch.zeros(7, 3, 16, 16),)) == one


def test_a_shared_weight_is_counted_once():
    first, second = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)
    second.weight = first.weight
    assert state_bytes(nn.Sequential(first, second)) == 400


def test_bytes_are_those_of_the_weights_file_less_its_header():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).half()
    data = safetensors.torch.save(dict(net.state_dict()))
    header = 8 + int.from_bytes(data[:8], "little")
    assert state_bytes(net) == len(data) - header


def test_the_modes_are_put_back():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    net.train()
    net[0].eval()
    footprint(net, (torch.zeros(2, 3, 4, 4),))
    assert [net.training, net[0].training, net[1].training] == [True, False, True]


def test_an_example_without_batch_is_refused():
    with pytest.raises(DataError, match="batch axis"):
        footprint(conv_net(), (3,))


def test_macs_are_those_of_the_graph_and_of_one_more_image() -> None:
    from gancompress.graph.trace import trace
    from gancompress.models.biggan import BigGANConfig, BigGANGenerator

    net = BigGANGenerator(BigGANConfig.fashion32())
    example = net.sample_inputs(2, torch.Generator().manual_seed(0))
    # Spectral norm multiplies weights with vectors on every call, whatever the batch.
    assert footprint(net, example).macs == trace(net, example).cost().macs
    more = net.sample_inputs(5, torch.Generator().manual_seed(0))
    assert footprint(net, more) == footprint(net, example)


def test_a_network_of_one_batch_size_is_measured_too() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 8)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return self.fc(z).view(2, 8)

    assert footprint(Fixed(), (torch.zeros(2, 4),)).macs == 32
