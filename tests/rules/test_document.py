"""Rules and plans written as documents."""

from __future__ import annotations

import json
from fractions import Fraction

from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import FULL, Alignment
from mutransfer_cli.rules.document import (
    alignment_name,
    decay_grounds,
    number,
    plan_document,
    rule_document,
)
from mutransfer_cli.rules.plan import BaseParameter, PlannedParameter
from mutransfer_cli.rules.rule import Rule


def test_exponents_are_numbers_and_null_where_there_is_no_quantity() -> None:
    assert (number(Fraction(-1, 2)), number(Fraction(3)), number(None)) == (-0.5, 3, None)
    document = rule_document(Rule("mup"))
    readout, vector = document["roles"]["readout"], document["roles"]["vector"]
    assert (readout["init_std"], readout["multiplier"], readout["lr"]) == (-0.5, -0.5, -0.5)
    assert vector["weight_decay"] is None
    assert document["roles"]["hidden"]["lr"] == -1
    assert json.loads(json.dumps(document)) == document


def test_settings_sources_and_limits_are_those_of_the_rule() -> None:
    assert rule_document(Rule("mup"))["folding_limits"] == []
    muon = rule_document(Rule("mup", OPTIMIZERS["muon"], folded=True, weight_decay="none"))
    assert muon["settings"]["lr_adjustment"] == "original"
    assert "an orthogonal update" in muon["sources"]["lr"]
    assert muon["sources"]["weight_decay"] == "no weight decay"
    assert muon["folding_limits"]
    assert "lr_adjustment" not in rule_document(Rule("mup"))["settings"]
    assert alignment_name(Rule("mup")) == "full"
    custom = Alignment(FULL.hidden, FULL.readout.__class__(Fraction(1), Fraction(1), Fraction(1)))
    assert alignment_name(Rule("mup", alignment=custom)) == "custom"


def test_who_decays_besides_hidden_matrices_is_said_with_its_grounds() -> None:
    plain = rule_document(Rule("mup"))
    asked = rule_document(Rule("mup", embedding_decay="as_hidden", readout_decay="none"))
    assert plain["settings"]["embedding_decay"] == "none"
    assert asked["settings"]["embedding_decay"] == "as_hidden"
    assert "the readout decays as hidden does is assumed" in plain["sources"]["weight_decay"]
    assert "embeddings" not in plain["sources"]["weight_decay"]
    assert "embeddings decay too, as in the code of muP" in asked["sources"]["weight_decay"]
    assert "readout" not in asked["sources"]["weight_decay"]
    off = rule_document(Rule("mup", weight_decay="none", embedding_decay="as_hidden"))
    assert off["sources"]["weight_decay"] == "no weight decay"


def test_a_plan_has_weight_decay_in_both_conventions() -> None:
    planned = PlannedParameter(
        name="norm.gain", role="vector", shape=(8,), lr=0.01, weight_decay=0.1, init_mean=1.0
    )
    (found,) = plan_document([planned], {}, 32, 64, {"lr": 0.01})["parameters"]
    assert found["weight_decay"] == {"lr_coupled": 0.1, "independent": 0.001}
    assert (found["init_mean"], found["init_std"], found["eps"]) == (1.0, None, None)


def test_a_plan_says_output_multipliers_and_draws_that_are_kept() -> None:
    tied = PlannedParameter(
        name="wte", role="embedding", shape=(8, 8), lr=0.1, multiplier=2.0, output_multiplier=0.5
    )
    kept = PlannedParameter(name="bias", role="vector", shape=(8,), lr=0.1, keeps_draw=True)
    rows = plan_document([tied, kept], {}, 32, 64, {"lr": 0.1})["parameters"]
    assert (rows[0]["multiplier"], rows[0]["output_multiplier"]) == (2.0, 0.5)
    assert rows[1]["keeps_draw"]
    assert "keeps_draw" not in rows[0]
    assert "output_multiplier" not in rows[1]


def test_the_decay_of_a_matrix_inside_a_model_has_grounds_of_its_own() -> None:
    inside = BaseParameter("lift", "embedding", (8, 4), (0,), 1.0, in_block=True)
    plain = decay_grounds(Rule("mup"), inside)
    assert plain.startswith("lr * wd the same at all widths")
    assert "a matrix of fixed fan-in inside the model decays as hidden does is assumed" in plain
    fan = decay_grounds(Rule("mup", weight_decay="sqrt_width"), inside)
    assert "Kosson" in fan
    assert "in place of sqrt_width, which says nothing of a fixed fan-in" in fan
    asked = decay_grounds(Rule("mup", embedding_decay="as_hidden"), inside)
    assert "embeddings decay too" in asked
