"""The init of a model, read off its values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutransfer_cli.proxies.reading import read_inits


class Blocks(nn.Module):
    def __init__(self, *means: float, size: tuple[int, ...] = (4096,)) -> None:
        super().__init__()
        self.blocks = nn.ParameterList(mean + 0.02 * torch.randn(size) for mean in means)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_vectors_keep_their_mean_and_blocks_share_one() -> None:
    inits = read_inits(Blocks(1.0, 1.0, 1.0))
    assert len(set(inits.values())) == 1
    (init,) = set(inits.values())
    assert (init.mean, init.std) == pytest.approx((1.0, 0.02), rel=0.05)


def test_a_mean_of_chance_is_none() -> None:
    (init,) = set(read_inits(Blocks(0.0, 0.0)).values())
    assert init.mean == 0
    assert init.std == pytest.approx(0.02, rel=0.05)


def test_blocks_of_other_means_keep_their_own() -> None:
    one, two = read_inits(Blocks(1.0, 2.0)).values()
    assert (one.mean, two.mean) == pytest.approx((1.0, 2.0), rel=0.01)


def test_a_matrix_is_drawn_around_0_with_a_note() -> None:
    notes: list[str] = []
    (init,) = read_inits(Blocks(1.0, size=(64, 64)), notes.append).values()
    assert (init.mean, init.std) == pytest.approx((0.0, 0.02), rel=0.05)
    assert notes == [
        "blocks.0: its own init has mean 1 and std 0.0199; it gets normal values of that std "
        "around 0"
    ]


def test_constants_are_kept() -> None:
    inits = read_inits(nn.LayerNorm(8))
    assert [(i.mean, i.std) for i in inits.values()] == [(1.0, 0.0), (0.0, 0.0)]
