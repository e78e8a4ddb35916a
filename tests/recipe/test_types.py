"""The recipe file: the keys of a value, and the numbers alone."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mutransfer_cli.recipe.types import ParameterPattern, Recipe, RoleRecipe
from mutransfer_cli.rules.plan import Values


def test_keys_of_a_role_are_written_in_the_order_of_the_file(folded: Recipe) -> None:
    hidden = folded.roles["hidden"]
    written = hidden.model_dump()
    assert list(written) == [
        *("optimizer", "lr", "weight_decay", "eps", "betas"),
        *("multiplier", "init_std_mult", "parameters"),
    ]
    assert RoleRecipe.model_validate(written) == hidden


def test_the_numbers_of_a_pattern_are_the_roles_or_its_own(unfolded: Recipe) -> None:
    readout = unfolded.roles["readout"]
    lr, init = readout.lr.value, readout.parameters[0].init_std
    pattern = ParameterPattern(pattern="^head$", init_std=init, init_mean=1.0)
    expected = Values(
        lr=lr,
        weight_decay=readout.weight_decay.value,
        eps=1e-8,
        betas=(0.9, 0.95),
        multiplier=0.5,
        init_mean=1.0,
        init_std=init.value if init else None,
    )
    assert readout.values(pattern) == expected
    assert readout.values().init_std is None
    twice = readout.lr.model_copy(update={"value": 2 * lr})
    own = readout.model_copy(update={"lr": twice})
    found = readout.values(pattern.model_copy(update={"own": own}))
    assert (found.lr, found.betas, found.init_mean) == (2 * lr, (0.9, 0.95), 1.0)


def test_base_values_know_rate_and_decay_alone(folded: Recipe) -> None:
    lr = folded.base_lr.value
    assert folded.base_values() == Values(lr=lr, weight_decay=0.1)
    assert folded.model_copy(update={"base_weight_decay": None}).base_values() == Values(lr=lr)


def test_an_init_mean_is_written_where_it_is_not_0(folded: Recipe) -> None:
    init = folded.roles["hidden"].parameters[0].init_std
    plain = ParameterPattern(pattern="a", init_std=init)
    assert set(plain.model_dump()) == {"pattern", "init_std"}
    gain = ParameterPattern(pattern="a", init_std=init, init_mean=1.0)
    assert gain.model_dump()["init_mean"] == 1.0


def test_a_draw_that_is_kept_has_no_std_and_an_output_multiplier_is_written_where_there_is_one(
    folded: Recipe,
) -> None:
    with pytest.raises(ValidationError, match="a: init_std is missing; give it, or keeps_draw"):
        ParameterPattern(pattern="a")
    kept = ParameterPattern(pattern="a", keeps_draw=True)
    assert kept.model_dump() == {"pattern": "a", "keeps_draw": True}
    init = folded.roles["hidden"].parameters[0].init_std
    tied = ParameterPattern(pattern="a", init_std=init, output_multiplier=init)
    values = folded.roles["embedding"].values(tied)
    assert (values.output_multiplier, values.keeps_draw) == (tied.std, False)
    assert folded.roles["embedding"].values(kept).keeps_draw
