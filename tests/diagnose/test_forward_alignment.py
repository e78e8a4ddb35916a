from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.diagnose.forward import Product, log_alignment_ratio, multiplies

FAN_IN, FAN_OUT, TOKENS = 400, 300, 50


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def ratio(weight: Tensor, z: Tensor) -> float:
    return float(log_alignment_ratio([Product(weight, z, z @ weight.mT)]))


def test_it_is_its_definition() -> None:
    weight, z = draw(FAN_OUT, FAN_IN), draw(TOKENS, FAN_IN, seed=1).cumsum(0)

    def rms(x: Tensor) -> float:
        return math.sqrt(float(x.square().mean()))

    defined = math.log(rms(z @ weight.mT) / (rms(weight) * rms(z)), FAN_IN)
    assert ratio(weight, z) == pytest.approx(defined, abs=1e-12)
    single = ratio(weight.float(), z.float())
    assert single == pytest.approx(defined, abs=1e-6)


def test_a_half_without_alignment_and_one_with_all_of_it() -> None:
    weight, z = draw(FAN_OUT, FAN_IN), draw(TOKENS, FAN_IN, seed=1)
    assert ratio(weight, z) == pytest.approx(0.5, abs=0.005)
    along = z[:1].expand(FAN_OUT, FAN_IN)
    assert ratio(along, z[:1]) == pytest.approx(1.0, abs=1e-12)


def test_it_does_not_depend_on_the_scale_of_either() -> None:
    weight, z = draw(FAN_OUT, FAN_IN), draw(TOKENS, FAN_IN, seed=1)
    assert ratio(1e-3 * weight, 1e5 * z) == pytest.approx(ratio(weight, z), abs=1e-12)


def test_the_calls_of_a_layer_that_is_used_twice_count_together() -> None:
    weight, z = draw(FAN_OUT, FAN_IN), draw(TOKENS, FAN_IN, seed=1).cumsum(0)
    parts = [Product(weight, part, part @ weight.mT) for part in (z[:10], z[10:])]
    assert float(log_alignment_ratio(parts)) == pytest.approx(ratio(weight, z), abs=1e-12)


def test_of_a_layer_the_bias_is_no_part_of_it() -> None:
    layer = nn.Linear(8, 4, dtype=torch.float64)
    z = draw(5, 8)
    product = Product.of(layer, z, layer(z))
    torch.testing.assert_close(product.output, z @ layer.weight.mT)


def test_there_is_none_of_a_single_input() -> None:
    assert math.isnan(ratio(draw(3, 1), draw(2, 1)))


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Renamed(nn.Linear):
    pass


def test_only_modules_that_multiply_are_products() -> None:
    assert multiplies(nn.Linear(2, 2))
    assert multiplies(Renamed(2, 2))
    assert not multiplies(Doubled(2, 2)), "its output is not W z"
    assert not multiplies(nn.Embedding(2, 2))
    assert not multiplies(nn.Conv1d(2, 2, 1))
