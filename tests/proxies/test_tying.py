"""The names of tied weights, and the multipliers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.tying import (
    TiedNames,
    other_names,
    output_factor,
    tied_multipliers,
    tied_names,
    with_output,
)
from mutransfer_cli.rules.plan import PlannedParameter
from tests.proxies.tied_gpts import Gpt, LossAlone, OneName
from tests.proxies.tied_plans import WTE


def planned(output: float | None) -> list[PlannedParameter]:
    return [
        PlannedParameter(
            name=WTE,
            role="embedding",
            shape=(20, 16),
            lr=0.1,
            multiplier=2.0,
            output_multiplier=output,
        )
    ]


def test_the_name_of_an_embedding_is_its_embeddings() -> None:
    assert tied_names(Gpt(16, 20), WTE) == TiedNames((WTE,), ("lm_head.weight",))
    assert tied_names(OneName(16, 20), WTE) == TiedNames((WTE,), ())


def test_whichever_comes_first() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 20, bias=False)
            self.embed = nn.Embedding(20, 16)
            self.embed.weight = self.head.weight

    found = tied_names(Reversed(), "head.weight")
    assert found == TiedNames(("embed.weight",), ("head.weight",))


def test_names_of_one_kind_are_refused() -> None:
    model = nn.ModuleDict({"a": nn.Linear(16, 20), "b": nn.Linear(16, 20)})
    model["b"].weight = model["a"].weight
    with pytest.raises(InputError, match=r"a\.weight: is embedding and readout under .* b\.weight"):
        tied_names(model, "a.weight")


def test_every_name_has_its_multiplier_where_the_two_differ() -> None:
    assert tied_multipliers(planned(0.5), Gpt(16, 20)) == {WTE: 2.0, "lm_head.weight": 0.5}
    for output in (None, 2.0):
        assert with_output(planned(output)) == {}
        assert tied_multipliers(planned(output), Gpt(16, 20)) == {}


def test_one_name_is_a_factor_on_the_logits() -> None:
    assert output_factor(planned(0.5), OneName(16, 20), has_loss=False) == 0.25
    assert output_factor(planned(0.5), Gpt(16, 20), has_loss=True) == 1.0
    assert output_factor(planned(2.0), LossAlone(16, 20), has_loss=True) == 1.0
    with pytest.raises(InputError, match=r"forward computes the loss itself.* by 0\.25"):
        output_factor(planned(0.5), LossAlone(16, 20), has_loss=True)


def test_names_beside_the_first() -> None:
    shared, other = torch.ones(2), torch.ones(2)
    named = [("a", shared), ("b", other), ("c.a", shared), ("d", shared)]
    assert other_names(named) == {"c.a": "a", "d": "a"}
