"""What has no deterministic kernel is found by trying, and the mode of the process stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gancompress.modules.determinism import without_deterministic_kernel

CPU = torch.device("cpu")


def refused(x: Tensor) -> Tensor:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError("refused_backward_cuda does not have a deterministic implementation")
    return x


def test_every_operator_of_the_list_is_deterministic_on_a_cpu() -> None:
    assert without_deterministic_kernel(CPU) == []


@pytest.mark.parametrize("before", [False, True])
def test_a_refusal_is_named_and_the_mode_stays(before: bool) -> None:
    torch.use_deterministic_algorithms(before)
    try:
        found = without_deterministic_kernel(CPU, {"odd": refused, "plain": lambda x: x * 2})
        assert found == ["odd"]
        assert torch.are_deterministic_algorithms_enabled() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_another_failure_is_no_refusal() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        without_deterministic_kernel(CPU, {"wrong": lambda x: x.view(3)})
