"""The before/after report: right figures, honest words."""

import json

import pytest
import torch
from torch import nn

from gancompress.errors import DataError
from gancompress.reporting.summary import output_difference, report
from tests.reporting.fakes import TinyGenerator, TinySampler


def example(n: int = 3) -> tuple[torch.Tensor, ...]:
    return TinySampler()(n, torch.Generator().manual_seed(0))


def test_the_report_states_sizes_costs_and_conditions():
    teacher, small = TinyGenerator(width=12), TinyGenerator(width=6)
    found = report(teacher, small, example=example(), seconds=0.02, threads=1)
    params = [sum(p.numel() for p in g.parameters()) for g in (teacher, small)]
    assert [found.teacher.params, found.small.params] == params
    assert found.compression == pytest.approx(params[0] / params[1])
    # 8 z-values to width x 64, then a 3x3 convolution to one channel on 8 x 8 pixels.
    assert found.teacher.macs == 8 * 12 * 64 + 64 * 12 * 9
    text = " ".join(str(found).split())
    for part in ("parameters", "MACs = FLOPs / 2", "batch 3", "float32", "1 thread", "fewer"):
        assert part in text
    assert json.loads(json.dumps(found.to_dict()))["small"]["params"] == params[1]


def test_the_difference_is_that_of_the_outputs():
    teacher, small = TinyGenerator(), TinyGenerator()
    small.load_state_dict(teacher.state_dict())
    assert output_difference(teacher, small, example()) == (0.0, 0.0)
    gaps = (teacher.eval()(*example()) - TinyGenerator.forward(_shift(small), *example())).abs()
    largest, mean = output_difference(teacher, small, example())
    assert largest == pytest.approx(float(gaps.detach().max()))
    assert mean == pytest.approx(float(gaps.detach().mean()))


def _shift(generator: TinyGenerator) -> TinyGenerator:
    with torch.no_grad():
        generator.last.bias += 0.25
    return generator.eval()


def test_outputs_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match="differ in shape"):
        report(TinyGenerator(1), TinyGenerator(3), example=example())

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, z: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return z, y

    with pytest.raises(DataError, match="returned 2 tensors .*--output 0"):
        report(TinyGenerator(), Pair(), example=example())
