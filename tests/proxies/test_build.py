from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import read_base_plan
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.spec.decoder import Architecture
from mutransfer_cli.sweep.prepare import Sweep

Prepare = Callable[[dict[str, Any]], Sweep]


SMALL = Architecture(depth=1, head_size=8)


def small(width: int) -> Transformer:
    return Transformer(width, 32, 16, 1 / 8, SMALL)


def test_roles_shapes_and_growing_axes() -> None:
    plan = read_base_plan(small, base_width=16)
    assert {p.name: (p.role, p.shape, p.growing_axes) for p in plan} == {
        "embedding.weight": ("embedding", (32, 16), (1,)),
        "blocks.0.attention.qkv.weight": ("hidden", (48, 16), (0, 1)),
        "blocks.0.attention.out.weight": ("hidden", (16, 16), (0, 1)),
        "blocks.0.up.weight": ("hidden", (64, 16), (0, 1)),
        "blocks.0.down.weight": ("hidden", (16, 64), (0, 1)),
        "readout.weight": ("readout", (32, 16), (1,)),
    }


def test_init_stds_keep_activations_at_unit_size() -> None:
    stds = {p.name: p.init_std for p in read_base_plan(small, base_width=16)}
    assert stds["embedding.weight"] == 1.0
    assert stds["blocks.0.up.weight"] == 1 / 4
    assert stds["blocks.0.down.weight"] == 1 / 8


def test_every_parameter_is_planned_once(tiny: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepare(tiny)
    names = [p.name for p in sweep.base_plan]
    assert names == [name for name, _ in sweep.model(24).named_parameters()]


def test_a_matrix_of_unknown_orientation_is_named() -> None:
    class Odd(Transformer):
        def __init__(self, width: int) -> None:
            super().__init__(width, 32, 16, 1 / 8, SMALL)
            self.mix = nn.Bilinear(width, width, width, bias=False)

    with pytest.raises(InputError, match=r"mix\.weight: 16 x 16 x 16 .* Bilinear has no known"):
        read_base_plan(Odd, base_width=16)


def test_a_tied_parameter_is_named_with_both_names() -> None:
    """It would be an embedding and a readout at once."""

    def tied(width: int) -> Transformer:
        model = small(width)
        model.readout.weight = model.embedding.weight
        return model

    with pytest.raises(InputError, match=r"readout\.weight and embedding\.weight are one tied"):
        read_base_plan(tied, base_width=16)


def test_a_frozen_parameter_has_no_place_in_the_plan() -> None:
    def frozen(width: int) -> Transformer:
        model = small(width)
        model.embedding.weight.requires_grad_(False)
        return model

    names = [p.name for p in read_base_plan(frozen, base_width=16)]
    assert "embedding.weight" not in names
    assert len(names) == 5


def test_a_later_token_never_changes_an_earlier_logit() -> None:
    torch.manual_seed(0)
    model = small(16)
    tokens = torch.randint(32, (2, 16))
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 32
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


def test_positions_matter() -> None:
    torch.manual_seed(0)
    model = small(16)
    first, second = model(torch.tensor([[1, 2, 3]])), model(torch.tensor([[2, 1, 3]]))
    assert not torch.allclose(first[:, -1], second[:, -1], atol=1e-4)
