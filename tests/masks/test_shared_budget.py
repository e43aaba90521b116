"""Ranks go by what rank 0 has measured, whatever they have found themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.wrapping import state


def budget(target: str) -> Any:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))
    found = gc.wrap(net, torch.randn(2, 3, 9, 9), target=target).budget
    assert found is not None
    return found


@pytest.mark.parametrize("own", [{}, {"0": 4}])
@pytest.mark.parametrize("first", [{}, {"0": 2}])
def test_what_rank_0_found_counts(
    own: dict[str, int], first: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = json.dumps({"units": first, "times": []}).encode()
    monkeypatch.setattr(state, "world", lambda: 2)
    monkeypatch.setattr(state, "bytes_of_first", lambda data, about: sent)
    mine = replace(budget("macs=2x"), units=own)
    assert state.shared(mine, "auto").units == first, "asked even where this rank found nothing"


@pytest.mark.parametrize(("target", "round_to"), [("params=2x", "auto"), ("macs=2x", 1)])
def test_nothing_is_sent_where_nothing_is_measured(
    target: str, round_to: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "world", lambda: 2)
    monkeypatch.delattr(state, "bytes_of_first")
    mine = budget(target)
    assert state.shared(mine, round_to) is mine
