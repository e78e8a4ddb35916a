"""Examples: what a model is run on before it is trained, and whether it takes targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.proxies.example import Example, call_of, draws_of, takes_targets, with_noise
from mutransfer_cli.proxies.noise import Noisy
from tests.proxies.own_models import token_mlp
from tests.proxies.sample_models import net

POINTS = {"x": torch.ones(2, 8), "label": torch.tensor([0, 2])}


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda tokens: 0, False),
        (lambda tokens, targets: 0, True),
        (lambda tokens, anything: 0, True),
        (lambda idx, targets=None: 0, True),
        (lambda input_ids, labels=None: 0, True),
        (lambda input_ids, attention_mask=None, labels=None: 0, False),
    ],
)
def test_targets_are_required_or_named(forward: Callable[..., Any], expected: bool) -> None:
    model = nn.Module()
    model.forward = forward
    assert takes_targets(model) is expected


def test_an_example_of_tokens_has_two_sequences() -> None:
    example = Example.of_tokens(3, 5)
    assert example.batch.tolist() == [[0, 1, 2, 3], [3, 4, 0, 1]]
    assert example.run(token_mlp(8, 5)).shape == (2, 3, 5)


def test_a_run_draws_the_same_numbers_every_time() -> None:
    example, model = Example(POINTS, None), net(8, "Denoiser")
    assert torch.equal(example.run(model), example.run(model))
    assert torch.equal(example.run(model), example.run_for_loss(model))


def test_only_a_model_that_asks_gets_noise() -> None:
    plain, asking = net(8), net(8, "Denoiser")
    assert with_noise(plain, call_of(plain, Example(POINTS, None)), POINTS, "probe") is POINTS
    call = call_of(asking, Example(POINTS, None))
    found = with_noise(asking, call, POINTS, "probe")
    assert isinstance(found, Noisy)
    assert [tuple(x.shape) for x in found.noise] == [(2, 1), (2, 8), (2, 8)]
    assert [draw.args for draw in draws_of(asking, call, POINTS)][:2] == [(2, 1), ((2, 8),)]
    again = with_noise(asking, call, POINTS, "probe")
    other = with_noise(asking, call, POINTS, "another")
    assert torch.equal(found.noise[1], again.noise[1])
    assert not torch.equal(found.noise[1], other.noise[1])
