"""What a latency states; no test asks how fast this machine is."""

import pytest
import torch
from torch import nn

from gancompress.errors import DataError
from gancompress.metrics.latency import latency


def test_the_conditions_are_stated_and_the_mode_is_restored():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)).train()
    threads = torch.get_num_threads()
    found = latency(net, (torch.zeros(2, 3, 16, 16),), seconds=0.02, threads=1)
    assert found.median_ms > 0
    assert found.iqr_ms >= 0
    assert found.runs >= 1
    assert (found.batch, found.dtype, found.device, found.threads) == (2, "float32", "cpu", 1)
    assert found.layout == "contiguous"
    assert net.training
    assert torch.get_num_threads() == threads


def test_the_layout_is_read_from_the_weights():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    net.to(memory_format=torch.channels_last)
    example = (torch.zeros(1, 3, 16, 16),)
    assert latency(net, example, seconds=0.01).layout == "channels_last"
    net[0].to(memory_format=torch.contiguous_format)
    assert latency(net, example, seconds=0.01).layout == "mixed"


def test_a_module_that_cannot_be_timed_is_refused():
    with pytest.raises(DataError, match="parameters"):
        latency(nn.ReLU(), (torch.zeros(1),))
