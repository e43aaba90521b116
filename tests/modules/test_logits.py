"""Logits as losses read them."""

from __future__ import annotations

import pytest
import torch

from gancompress.modules.discriminator import DiscriminatorCall


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_widened_and_nothing_else(dtype: torch.dtype) -> None:
    call = DiscriminatorCall.parse("image -> 0, 1")
    heads = call.read([torch.ones(2, 1, dtype=dtype), torch.zeros(2, 3, dtype=dtype)])
    wanted = torch.float32 if dtype.itemsize == 2 else dtype
    assert [h.dtype for h in heads] == [wanted, wanted]
