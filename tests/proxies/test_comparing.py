"""Passes at two widths, of models whose code depends on width in one place."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.comparing import Comparison, Deviation, confirmed, resolved
from mutransfer_cli.proxies.observations import Maker, Place
from tests.proxies.factored import Factor, Small, watched


@pytest.mark.parametrize(
    ("place", "factor", "owner", "power"),
    [
        ("embed", math.sqrt, ("embed.weight", "lookup"), 0.5),
        ("out", lambda n: n**-0.5, ("out.weight", "product"), -0.5),
        ("inner", lambda n: 16 / n, ("down.weight", "product"), -1.0),
        ("normed", lambda n: 16 / n, ("head.weight", "product"), -1.0),
        ("logits", lambda n: n**-0.25, ("head.weight", "product"), -0.25),
    ],
)
def test_a_factor_belongs_to_the_matrix_that_makes_or_reads_it(
    place: str, factor: Factor, owner: tuple[str, str], power: float
) -> None:
    _, found = watched(lambda width: Small(width, **{place: factor}))
    assert found.factors == {owner: power}
    assert not found.unresolved
    (line,) = found.lines[owner]  # type: ignore[index]
    values = f"by {factor(16):.4g} and by {factor(32):.4g}"
    assert line.startswith("factored.py:")
    assert line.endswith(values)


def test_several_factors_are_told_apart() -> None:
    def build(width: int) -> nn.Module:
        return Small(width, embed=math.sqrt, out=lambda n: 1 / n, logits=lambda n: 16 / n)

    _, found = watched(build)
    assert set(found.factors.values()) == {0.5, -1.0}
    assert len(found.factors) == 3


def test_a_model_without_factors_has_none_whatever_starts_at_zero() -> None:
    def build(width: int) -> nn.Module:
        model = Small(width)
        for parameter in (model.out.weight, model.down.weight, model.head.weight, model.up.bias):
            nn.init.zeros_(parameter)
        return model

    _, found = watched(build)
    assert (found.factors, found.unresolved) == ({}, ())
    assert found.attention == {}


@pytest.mark.parametrize(
    ("heads", "scale", "power"),
    [
        (None, None, 0.0),
        (2, None, 0.5),
        (2, lambda n: 2 / n, 0.0),
        (None, lambda n: n**-0.5, -0.5),
    ],
)
def test_attention_has_a_power_of_its_own(
    heads: int | None, scale: Factor | None, power: float
) -> None:
    _, found = watched(lambda n: Small(n, heads, **({"scale": scale} if scale else {})))
    assert found.factors == {}
    assert (max(found.attention, default=0.0)) == power


class Normalised(Small):
    """Matrices whose size their own code sets, and one that is scaled by a number."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + F.linear(F.gelu(self.up(x)), F.normalize(self.down.weight, dim=-1))
        logits: Tensor = F.linear(x, self.head.weight * self.factors["head"])
        return logits


def test_a_weight_that_is_normalised_has_no_power_and_one_that_is_scaled_has() -> None:
    _, found = watched(lambda n: Normalised(n, head=lambda n: 16 / n))
    assert (found.factors, found.unresolved) == ({("head.weight", "product"): -1.0}, ())


class Written(Small):
    """The same attention with products and a softmax of its own, masked by -inf."""

    def forward(self, tokens: Tensor) -> Tensor:
        B, S = tokens.shape
        x = self.embed(tokens)
        q, k, v = self.qkv(self.norm(x)).view(B, S, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.mT) / math.sqrt(q.shape[-1])
        mask = torch.ones(S, S).tril().bool()
        mixed = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        logits: Tensor = self.head(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return logits


def test_written_attention_is_seen_as_well() -> None:
    assert watched(lambda n: Written(n, 2))[1].attention.keys() == {0.5}
    assert watched(lambda n: Written(n))[1].attention == {}


def test_a_matrix_with_two_factors_stays_unresolved() -> None:
    place = Place("stream", 1.0, frozenset({("a", "product")}), frozenset(), "m.py:3")
    found = resolved([Deviation(place, x, ()) for x in (0.5, 0.5, -1.0)])
    assert found.factors == {("a", "product"): 0.5}
    assert [d.exponent for d in found.unresolved] == [-1.0]


def test_only_what_a_third_width_shows_too_is_confirmed() -> None:
    place = Place("stream", 1.0, frozenset(), frozenset({"a"}), "m.py:3")
    a: Maker = ("a", "product")
    b: Maker = ("b", "product")
    lines = {0.5: "m.py:1", -1.0: "m.py:2"}
    two = Comparison({a: 0.5, b: 0.25}, lines, (Deviation(place, 0.3, ()),), {})
    four = Comparison({a: 0.5}, {0.5: "m.py:1"}, (Deviation(place, 0.33, ()),), {})
    found = confirmed(two, four)
    assert (found.factors, found.attention) == ({a: 0.5}, {0.5: "m.py:1"})
    assert len(found.unresolved) == 1
    assert not confirmed(two, Comparison({}, {}, (), {})).deviates
