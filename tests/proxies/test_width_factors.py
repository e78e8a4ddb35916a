"""Powers of width in a model's own code, on models with a factor in one place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.inits import read_inits
from mutransfer_cli.proxies.patterns import Patterns
from mutransfer_cli.proxies.reading import Note, read_weights, silent
from mutransfer_cli.proxies.roles import base_plan
from mutransfer_cli.proxies.tracing import Place
from mutransfer_cli.proxies.width_factors import (
    Comparison,
    Deviation,
    Watch,
    attention_power,
    resolved,
    with_own_factors,
)
from mutransfer_cli.rules.plan import BaseParameter

VOCAB = 11
Factor = Callable[[int], float]


def one(width: int) -> float:
    return 1.0


class Small(nn.Module):
    """Embedding, attention with heads of fixed size or number, an MLP, a head; factors by place."""

    def __init__(self, width: int, heads: int | None = None, /, **factors: Any) -> None:
        super().__init__()
        self.heads = heads or width // 8
        self.factors = {place: factor(width) for place, factor in factors.items()}
        self.embed, self.norm = nn.Embedding(VOCAB, width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, VOCAB, bias=False)

    def by(self, x: Tensor, place: str) -> Tensor:
        return x * self.factors[place] if place in self.factors else x

    def forward(self, tokens: Tensor) -> Tensor:
        B, S = tokens.shape
        x = self.by(self.embed(tokens), "embed")
        qkv = self.qkv(self.norm(x)).view(B, S, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scale = self.factors.get("scale", q.shape[-1] ** -0.5)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        x = x + self.by(self.out(mixed.transpose(1, 2).flatten(2)), "out")
        x = x + self.down(self.by(F.gelu(self.up(self.norm(x))), "inner"))
        x = self.by(x, "stream")
        logits: Tensor = self.by(self.head(self.by(self.norm(x), "normed")), "logits")
        return logits


def watched(build: Callable[[int], nn.Module]) -> tuple[Watch, Comparison]:
    watch = Watch.of(build(16), build(32), Example.of_tokens(8, VOCAB))
    return watch, watch.compared(2)


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
    assert line.startswith("test_width_factors.py:")
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

    watch, found = watched(build)
    assert (found.factors, found.unresolved) == ({}, ())
    assert attention_power(watch.trace, found) == 0


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
    watch, found = watched(lambda n: Small(n, heads, **({"scale": scale} if scale else {})))
    assert found.factors == {}
    assert (max(found.attention, default=0.0)) == power
    assert attention_power(watch.trace, found) == power


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


def plan_of(build: Callable[[int], nn.Module], note: Note = silent) -> list[BaseParameter]:
    watch, found = watched(build)
    weights = read_weights(watch.base, watch.wide)
    plan = base_plan(weights, watch.trace, None, read_inits(watch.base), {})
    return list(with_own_factors(plan, found, watch.patterns, {}, (16, 32), note))


def test_powers_are_divided_out_and_said() -> None:
    notes: list[str] = []
    plan = plan_of(lambda n: Small(n, embed=math.sqrt), notes.append)
    assert {p.name: p.own_multiplier for p in plan if p.own_multiplier} == {"embed.weight": 0.5}
    (note,) = notes
    assert note.startswith("embed.weight: the model's own code multiplies it by width^0.5 (test_w")
    assert note.endswith(" by 4 and by 5.657), which the plan divides out")


def test_a_tied_weight_has_a_power_for_each_use() -> None:
    class Tied(Small):
        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embed(tokens) * self.factors["embed"]
            x = x + self.down(F.gelu(self.up(self.norm(x))))
            logits: Tensor = self.norm(x) @ self.embed.weight.T * self.factors["logits"]
            return logits

    plan = plan_of(lambda n: Tied(n, embed=math.sqrt, logits=lambda n: 16 / n))
    tied = next(p for p in plan if p.is_tied_readout)
    assert (tied.own_multiplier, tied.own_output_multiplier) == (0.5, -1.0)


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ({"stream": lambda n: n / 16}, r"width\^1\.00 at widths 16 and 32 .* by 1 and by 2"),
        ({"embed": lambda n: math.log(n)}, r"beside embed\.weight scale as width\^0\.32"),
        ({"scale": lambda n: 1 / n}, r"attention scores \(test_w.*\) scale as width\^-1"),
    ],
)
def test_what_no_matrix_takes_is_refused_with_line_and_values(
    factors: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        plan_of(lambda n: Small(n, **factors))
    assert "model.own_multipliers {name: exponent}" in str(raised.value)


def test_declared_powers_replace_those_measured() -> None:
    deviation = Deviation(Place("stream", 1.0, frozenset(), frozenset(), "m.py:3"), 0.3, ())
    found = Comparison({("a", "product"): 0.5}, {}, (deviation,), {})
    plan = [BaseParameter(name, "hidden", (2, 2), (0, 1), 1.0) for name in ("a", "b")]
    declared = with_own_factors(plan, found, Patterns({}, {}, {}), {"b": -1.0}, (16, 32))
    assert [p.own_multiplier for p in declared] == [0.5, -1.0]
    with pytest.raises(InputError, match=r"model\.own_multipliers: no parameter's .* 'c'"):
        with_own_factors(plan, found, Patterns({}, {}, {}), {"c": 1.0}, (16, 32))


def test_a_matrix_with_two_factors_stays_unresolved() -> None:
    place = Place("stream", 1.0, frozenset({("a", "product")}), frozenset(), "m.py:3")
    found = resolved([Deviation(place, x, ()) for x in (0.5, 0.5, -1.0)])
    assert found.factors == {("a", "product"): 0.5}
    assert [d.exponent for d in found.unresolved] == [-1.0]
