"""Random numbers are recorded once, drawn ahead, and given back in their order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.noise import drawn, recorded, replayed, size_asked, stream_generator

Generator = torch.Generator


def function(x: Tensor, generator: Generator) -> Tensor:
    order = torch.randperm(len(x), generator=generator)
    return x[order] + torch.randn(x.shape, generator=generator) * torch.rand(1, generator=generator)


def test_recorded_and_replayed_numbers_are_those_of_the_generator() -> None:
    x = torch.arange(6.0).view(3, 2)
    draws = recorded(lambda generator: function(x, generator))
    assert [draw.function for draw in draws] == [torch.randperm, torch.randn, torch.rand]
    numbers = stream_generator(3, "test")
    noise = [draw.numbers(numbers) for draw in draws]
    with replayed(noise) as generator:
        found = function(x, generator)
    assert torch.equal(found, function(x, stream_generator(3, "test")))
    with drawn(stream_generator(3, "test")) as generator:
        assert torch.equal(found, function(x, generator))


def test_under_vmap_each_trial_has_its_own() -> None:
    x = torch.arange(6.0).view(3, 2)
    draws = recorded(lambda generator: function(x, generator))
    generators = [stream_generator(seed, "test") for seed in (1, 2)]
    each = [[draw.numbers(generator) for draw in draws] for generator in generators]
    stacks = tuple(torch.stack(numbers) for numbers in zip(*each, strict=True))

    def of_trial(noise: tuple[Tensor, ...]) -> Tensor:
        with replayed(noise) as generator:
            return function(x, generator)

    for found, seed in zip(vmap(of_trial)(stacks), (1, 2), strict=True):
        assert torch.equal(found, function(x, stream_generator(seed, "test")))


def test_another_generator_is_left_alone() -> None:
    own = torch.Generator().manual_seed(5)
    with replayed([]):
        found = torch.rand(2, generator=own)
    assert torch.equal(found, torch.rand(2, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: torch.rand(2, 3, generator=generator),
        lambda generator: torch.randn((2, 3), generator=generator),
        lambda generator: torch.randn(torch.Size([2, 3]), generator=generator),
        lambda generator: torch.rand(size=(2, 3), generator=generator),
        lambda generator: torch.randint(7, (2, 3), generator=generator),
        lambda generator: torch.randint(1, 7, (2, 3), generator=generator),
        lambda generator: torch.randint(high=7, size=(2, 3), generator=generator),
        lambda generator: torch.normal(0.0, 1.0, (2, 3), generator=generator),
    ],
)
def test_every_form_of_a_size_is_understood(draw: Callable[[Generator], Tensor]) -> None:
    (found,) = recorded(draw)
    assert size_asked(found.function, found.args, found.kwargs) == (2, 3)
    noise = found.numbers(torch.Generator())
    with replayed([noise]) as generator:
        assert draw(generator) is noise


def test_a_permutation_has_one_axis() -> None:
    assert size_asked(torch.randperm, (5,), {}) == (5,)


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda g: torch.rand(3, generator=g), r"shape \[3\] where .* those of shape \[2\]"),
        (
            lambda g: torch.rand(2, generator=g) + torch.rand(2, generator=g),
            r"shape \[2\] where its first run asked for none",
        ),
        (lambda g: torch.bernoulli(torch.ones(2), generator=g), "bernoulli cannot be drawn"),
        (lambda g: torch.zeros(2).normal_(generator=g), "normal_ cannot be drawn"),
        (lambda g: torch.normal(torch.zeros(2), 1.0, generator=g), "normal cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_ahead_is_refused(
    draw: Callable[[Generator], Tensor], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence), replayed([torch.rand(2)]) as generator:
        draw(generator)
