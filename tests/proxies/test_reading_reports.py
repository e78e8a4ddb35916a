"""Models of public reports about muP, each with its address: their parameters have the right roles.

Where a report shows an effect, the test shows it first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.build import read_model
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, PlannedParameter, plan
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.model import FactoryProtocol
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.coordinates import control_spec, few_steps, measure_coordinates
from tests.sweep.test_coordinates import Slopes, slopes

BASE, VALUES = 16, BaseValues(lr=0.01, weight_decay=0.0, eps=1e-8)


def factory(name: str) -> FactoryProtocol:
    return FactoryProtocol(factory=f"{__name__}:{name}", args={}, roles={}, vocab=32)


def base_plan(name: str) -> dict[str, BaseParameter]:
    return {p.name: p for p in read_model(factory(name), 16, BASE).base_plan}


def planned(name: str, width: int) -> dict[str, PlannedParameter]:
    base = tuple(base_plan(name).values())
    return {p.name: p for p in plan(base, Rule("mup"), BASE, width, VALUES)}


def measured(spec: SweepSpec, folder: Path) -> Slopes:
    """Slopes in width at init and after a few steps."""
    few = few_steps(spec, (16, 32, 64), (0, 1, 2), {"lr": 0.01})
    return slopes(measure_coordinates(few, folder))


class Images(nn.Module):
    """Images of 16 tokens to images of 16 targets, with a given last layer."""

    def __init__(self, width: int, head: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.head = head

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        images, wanted = (x.float().view(-1, 1, 4, 4) / 32 for x in (tokens, targets))
        x = self.head(F.relu(self.body(F.relu(self.stem(images)))))
        return F.mse_loss(x, wanted)


class Last(nn.Module):
    """An nn.Linear over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.movedim(1, -1))
        return out.movedim(-1, 1)


def linear_output(width: int) -> nn.Module:
    return Images(width, Last(width))


def conv_output(width: int) -> nn.Module:
    return Images(width, nn.Conv2d(width, 1, 3, padding=1))


def transposed_output(width: int) -> nn.Module:
    return Images(width, nn.ConvTranspose2d(width, 1, 3, padding=1))


def test_a_convolution_makes_the_output() -> None:
    """https://github.com/microsoft/mup/issues/3, where transposed convolutions are asked for too.

    It is planned as the linear layer in its place would be.
    """

    def of_head(name: str, weight: str) -> tuple[float, float, float]:
        base, wide = base_plan(name)[weight], planned(name, 4 * BASE)[weight]
        assert base.role == "readout"
        return wide.lr, wide.multiplier, (wide.init_std or 0) / base.init_std

    as_linear = of_head("linear_output", "head.linear.weight")
    assert as_linear == pytest.approx((0.01 / 2, 1 / 2, 1 / 2)), "mup's table 3 of the paper"
    assert of_head("conv_output", "head.weight") == pytest.approx(as_linear)
    assert of_head("transposed_output", "head.weight") == pytest.approx(as_linear)
    assert base_plan("conv_output")["head.weight"].fan_in_axis == 1
    assert base_plan("transposed_output")["head.weight"].fan_in_axis == 0


class Shallow(nn.Module):
    """A shallow U-Net over tokens whose last convolution sees three of them."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.down = nn.Conv1d(width, 2 * width, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(2 * width, width, 4, stride=2, padding=1)
        self.head = nn.Conv1d(2 * width, vocab, 3, padding=1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).mT
        up = F.relu(self.up(F.relu(self.down(x))))
        logits: Tensor = self.head(torch.cat([x, up], 1))
        return logits.mT


def shallow(width: int, vocab: int) -> nn.Module:
    return Shallow(width, vocab)


def test_a_last_convolution_does_not_blow_up_in_width(tiny: dict[str, Any], tmp_path: Path) -> None:
    """https://github.com/microsoft/mup/issues/14: it did, with a kernel of more than one."""
    spec = validated(SweepSpec, tiny | {"model": {"factory": f"{__name__}:shallow"}}, "test")
    assert measured(control_spec(spec), tmp_path)["change", "head"] > 0.3
    found = measured(spec, tmp_path)
    assert found["init", "head"] == pytest.approx(-0.5, abs=0.15), "the rule's"
    assert found["change", "head"] == pytest.approx(0, abs=0.2)


class Tower(nn.Module):
    """Convolutions over a sequence, pooled for a plain linear layer."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(vocab, width, 5, padding=2)
        self.tower = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.stem(F.one_hot(tokens, self.stem.in_channels).float().mT)
        for conv, norm in zip(self.tower, self.norms, strict=True):
            x = x + conv(F.gelu(norm(x)))
        return F.binary_cross_entropy_with_logits(
            self.head(x.mean(-1)), (targets[:, :3] % 2).float()
        )


def tower(width: int, vocab: int) -> nn.Module:
    return Tower(width, vocab)


def test_a_plain_readout_after_convolutions_is_scaled_far_up() -> None:
    """https://github.com/microsoft/mup/issues/23: from a model to one 150 times as large, with
    torch's own layer as the readout, whose rate was not scaled."""
    roles = {name: p.role for name, p in base_plan("tower").items()}
    assert roles == {
        "stem.weight": "embedding",
        "stem.bias": "vector",
        **{f"tower.{n}.weight": "hidden" for n in range(2)},
        **{f"tower.{n}.bias": "vector" for n in range(2)},
        **{f"norms.{n}.{leaf}": "vector" for n in range(2) for leaf in ("weight", "bias")},
        "head.weight": "readout",
        "head.bias": "scalar",
    }
    base, wide = planned("tower", BASE), planned("tower", 150 * BASE)
    effective = {n: p.lr * p.multiplier / base[n].lr for n, p in wide.items()}
    assert effective["tower.0.weight"] == pytest.approx(1 / 150)
    assert effective["head.weight"] == pytest.approx(1 / 150)
    assert effective["stem.weight"] == pytest.approx(1)


class Tied(nn.Module):
    """The example of the report: the decoder's weight is the encoder's."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.encoder = nn.Embedding(vocab, width)
        self.block = nn.Linear(width, width)
        self.decoder = nn.Linear(width, vocab, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(tokens)
        logits: Tensor = self.decoder(x + F.relu(self.block(x)))
        return logits


def tied(width: int, vocab: int) -> nn.Module:
    return Tied(width, vocab)


def test_tied_weights_keep_the_embeddings_init(tiny: dict[str, Any], tmp_path: Path) -> None:
    """https://github.com/microsoft/mup/issues/55: both were scaled by sqrt(width), against the
    paper's table 8."""
    base, wide = base_plan("tied")["encoder.weight"], planned("tied", 4 * BASE)["encoder.weight"]
    assert (base.role, base.is_tied_readout) == ("embedding", True)
    assert wide.multiplier * (wide.init_std or 0) == pytest.approx(base.init_std)
    assert wide.multiplier * wide.lr == pytest.approx(VALUES.lr)
    assert wide.output_multiplier == pytest.approx(wide.multiplier / 4), "1 over the width"
    spec = validated(SweepSpec, tiny | {"model": {"factory": f"{__name__}:tied"}}, "test")
    slope = measured(spec, tmp_path)
    assert slope["init", "encoder"] == pytest.approx(0, abs=0.05)
    assert slope["change", "encoder"] == pytest.approx(0, abs=0.1)
    assert slope["init", "decoder"] == pytest.approx(-0.5, abs=0.15)
    assert slope["effective", "encoder.weight"] == pytest.approx(0, abs=0.2)
