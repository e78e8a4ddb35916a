"""Powers of width of a model's own code in its base plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.comparing import Comparison, Deviation
from mutransfer_cli.proxies.inits import read_inits
from mutransfer_cli.proxies.observations import Place
from mutransfer_cli.proxies.patterns import Patterns
from mutransfer_cli.proxies.reading import Note, read_weights, silent
from mutransfer_cli.proxies.roles import base_plan
from mutransfer_cli.proxies.width_factors import attention_power, with_own_factors
from mutransfer_cli.rules.plan import BaseParameter
from tests.proxies.factored import Small, watched


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
    assert note.startswith(
        "embed.weight: the model's own code multiplies it by width^0.5 (factored"
    )
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
        ({"scale": lambda n: 1 / n}, r"attention scores \(factored.*\) scale as width\^-1"),
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


def test_attention_has_no_power_where_none_was_seen() -> None:
    watch, found = watched(lambda n: Small(n))
    assert attention_power(watch.trace, found) == 0
    watch, found = watched(lambda n: nn.Sequential(nn.Embedding(11, n), nn.Linear(n, 11)))
    assert attention_power(watch.trace, found) is None
