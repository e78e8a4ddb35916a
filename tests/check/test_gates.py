"""Gates of results: records, exponents and recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mutransfer_cli.check.gates import (
    Asked,
    Runs,
    gates_of_exponents,
    gates_of_recipe,
    gates_of_records,
    gates_of_table,
    trials_like_best,
)
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.records import Records

Make = Callable[..., Records]
SMALL, LARGE = (16, 24, 32, 48), (96,)


def verdicts(gates: list) -> dict[str, str]:  # type: ignore[type-arg]
    return {gate.gate: gate.verdict for gate in gates}


def recipe_of(records: Records, width: int) -> Recipe:
    return build_recipe(exponents_of_records(records)[0], Target(width, {}))


# gates of records


def test_what_transfers_passes(made: Make) -> None:
    gates = gates_of_records(made(), [], Asked())
    assert verdicts(gates) == {"exponent": "pass", "transfer": "pass"}


def test_an_exponent_off_the_rule_fails_though_the_forecast_follows_it(made: Make) -> None:
    gates = gates_of_records(made(exponent=-0.5), [], Asked())
    assert verdicts(gates) == {"exponent": "fail", "transfer": "pass"}
    assert "outside" in gates[0].measures[0].sentence


def test_a_width_whose_optimum_is_elsewhere_fails(made: Make) -> None:
    (gate,) = gates_of_records(made(astray=-1.5), [], Asked(frozenset({"transfer"})))
    assert gate.verdict == "fail"
    (found,) = gate.measures
    assert found.value == pytest.approx(0.0225, abs=0.003)
    assert found.tolerance == pytest.approx(0.0025 * 2.5, abs=1e-5)
    assert gate.evidence["fitted_widths"] == "16, 24, 32, 48"


def test_noise_leaves_it_open_and_says_what_would_decide(made: Make) -> None:
    (gate,) = gates_of_records(made(noise=0.01), [], Asked(frozenset({"exponent"})))
    assert gate.verdict == "inconclusive"
    assert "would decide it" in gate.measures[0].sentence


def test_identical_minima_at_the_edge_are_no_pass(made: Make) -> None:
    records = made(rates=[2.0**x for x in range(-14, -8)])
    gates = gates_of_records(records, [], Asked())
    assert set(verdicts(gates).values()) == {"inconclusive"}
    assert "the optimum lies at the high end, add higher values" in gates[0].measures[0].sentence


def test_the_forecast_does_not_know_the_held_out_width(made: Make) -> None:
    asked = Asked(frozenset({"transfer"}))
    hashes = {
        gates_of_records(made(astray=astray), [], asked)[0].evidence["forecast_sha256"]
        for astray in (0.0, -2.0)
    }
    assert len(hashes) == 1


def test_tolerances_are_asked_for(made: Make) -> None:
    asked = Asked(frozenset({"exponent"}), {"exponent": 0.7})
    (gate,) = gates_of_records(made(exponent=-0.5), [], asked)
    assert (gate.verdict, gate.measures[0].tolerance) == ("pass", 0.7)


def test_singular_values_at_the_end_of_trials_like_the_best(made: Make) -> None:
    records = made()
    names = [p.name for p in records.header.base_plan if p.role == "hidden"]
    alike = trials_like_best(records.trials)
    assert {trial.width for trial in alike} == {16, 24, 32, 48, 64}
    assert len({trial.lr for trial in alike}) == 1

    def measured(power: float) -> list[DiagnosticsRecord]:
        return [
            DiagnosticsRecord(
                trial=trial.trial,
                step=step,
                top_singular_value=dict.fromkeys(names, trial.width ** (power * (step > 0))),
            )
            for trial in alike
            for step in (0, 10)
        ]

    asked = Asked(frozenset({"spectrum"}))
    for power, verdict in [(0.0, "pass"), (0.25, "fail")]:
        (gate,) = gates_of_records(records, measured(power), asked)
        assert gate.verdict == verdict
        assert gate.measures[0].value == pytest.approx(power, abs=1e-12)
    (none,) = gates_of_records(records, [], asked)
    assert none.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Asked(held_out=32), "inside the fitted widths, up to 64"),
        (Asked(held_out=128), r"held_out 128: the records have widths \[16, 24, 32, 48, 64\]"),
        (Asked(frozenset({"static"})), "gates static: not a question for a sweep's records"),
    ],
)
def test_what_records_cannot_be_asked(made: Make, asked: Asked, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        gates_of_records(made(), [], asked)


def test_no_trials_at_all_are_refused(made: Make) -> None:
    with pytest.raises(InputError, match="hold no trials"):
        gates_of_records(replace(made(), trials=()), [], Asked())


# gates of a table


def judged(records: Records, asked: Asked, protocol: bool = True) -> tuple[dict[str, str], str]:
    """Judge records as if they were a table: verdicts by gate, and what is left unjudged."""
    document, trials = exponents_of_records(records)
    if not protocol:
        axis = document.axes["lr"].model_copy(update={"expected_exponent": None})
        document = document.model_copy(update={"axes": {"lr": axis}, "protocol": None})
    gates, left = gates_of_table(document, Runs(trials, None, "nats"), asked)
    return verdicts(gates), "; ".join(left)


def test_a_table_is_judged_as_far_as_it_goes(made: Make) -> None:
    found, left = judged(made(exponent=-0.5), Asked())
    assert found == {"exponent": "fail", "transfer": "pass"}
    assert left == (
        "static, coordinates and spectrum: not judged, as a table holds no recipe, model or "
        "measurements"
    )
    found, left = judged(made(), Asked(), protocol=False)
    assert found == {"transfer": "pass"}
    assert left.startswith("exponent: not judged, as no protocol says what the rule expects")
    found, left = judged(made(widths=(16, 32, 64)), Asked())
    assert found == {"exponent": "pass"}
    assert left.startswith("transfer: not judged, as it takes 4 widths or more")


def test_gates_that_are_asked_for_leave_nothing_to_say(made: Make) -> None:
    assert judged(made(), Asked(frozenset({"transfer"}))) == ({"transfer": "pass"}, "")


def test_a_table_without_other_hyperparameters_has_fewer_columns(made: Make) -> None:
    document, trials = exponents_of_records(made(astray=-1.5))
    rows = trials[["width", "seed", "lr", "eval_loss"]]
    asked = Asked(frozenset({"transfer"}))
    gates, _ = gates_of_table(document, Runs(rows, None, "nats"), asked)
    assert verdicts(gates) == {"transfer": "fail"}


def test_what_a_table_cannot_be_asked(made: Make) -> None:
    for gates in ("static", "spectrum", "coordinates"):
        with pytest.raises(InputError, match=f"gates {gates}: not a question for a table of own"):
            judged(made(), Asked(frozenset({gates})))
    with pytest.raises(InputError, match=r"no protocol .*; transfer: not judged, as it takes 4"):
        judged(made(widths=(16, 32, 64)), Asked(), protocol=False)
    with pytest.raises(InputError, match="no rule says what the exponents should be"):
        judged(made(), Asked(frozenset({"exponent"})), protocol=False)


def test_best_values_alone_cannot_show_transfer(made: Make) -> None:
    document, trials = exponents_of_records(made())
    runs = Runs(trials[["width", "lr"]], document.protocol_hash, "nats")
    gates, left = gates_of_table(document, runs, Asked())
    assert verdicts(gates) == {"exponent": "pass"}
    assert left[0] == "transfer: not judged, as it takes losses"
    with pytest.raises(InputError, match="the table holds best values and no losses"):
        gates_of_table(document, runs, Asked(frozenset({"transfer"})))
    smaller, _ = exponents_of_records(made(widths=SMALL))
    with pytest.raises(InputError, match="records: hold best values and no losses to compare"):
        gates_of_exponents(smaller, None, runs, Asked())


# gates of exponents and recipes, with a held-out sweep


def test_exponents_forecast_a_larger_width(made: Make) -> None:
    exponents, _ = exponents_of_records(made(widths=SMALL))
    gates = gates_of_exponents(exponents, None, Runs.of(made(widths=LARGE)), Asked())
    assert verdicts(gates) == {"exponent": "pass", "transfer": "pass"}
    astray = Runs.of(made(widths=LARGE, astray=1.5))
    assert verdicts(gates_of_exponents(exponents, None, astray, Asked()))["transfer"] == "fail"
    assert verdicts(gates_of_exponents(exponents, None, None, Asked())) == {"exponent": "pass"}


def test_a_recipe_is_held_to_its_own_value(made: Make) -> None:
    recipe = recipe_of(made(widths=SMALL), 96)
    (gate,) = gates_of_recipe(recipe, Runs.of(made(widths=LARGE)), None, Asked())
    assert (gate.gate, gate.verdict) == ("transfer", "pass")
    doubled = recipe.base_lr.model_copy(update={"value": 4 * recipe.base_lr.value})
    wrong = recipe.model_copy(update={"base_lr": doubled})
    assert gates_of_recipe(wrong, Runs.of(made(widths=LARGE)), None, Asked())[0].verdict == "fail"


def test_records_of_another_protocol_or_width_are_refused(made: Make) -> None:
    records = made(widths=SMALL)
    exponents, _ = exponents_of_records(records)
    other = exponents.model_copy(update={"protocol_hash": "0" * 16})
    with pytest.raises(
        InputError, match=r"records: their protocol is .*, and that of the source is 0000"
    ):
        gates_of_exponents(other, None, Runs.of(made(widths=LARGE)), Asked())
    with pytest.raises(InputError, match="inside the fitted widths, up to 48"):
        gates_of_exponents(exponents, None, Runs.of(made(widths=(32,))), Asked())
    with pytest.raises(InputError, match="width is 96, and the recipe is for 128"):
        gates_of_recipe(recipe_of(records, 128), Runs.of(made(widths=LARGE)), None, Asked())


def test_without_a_rule_no_exponent_is_expected(made: Make) -> None:
    exponents, _ = exponents_of_records(made())
    axis = exponents.axes["lr"].model_copy(update={"expected_exponent": None})
    unruled = exponents.model_copy(update={"axes": {"lr": axis}})
    with pytest.raises(InputError, match="no rule says what the exponents should be"):
        gates_of_exponents(unruled, None, None, Asked())
