"""Facts that a table of own results lacks: declared with --protocol, or reported as missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mutransfer_cli.spec.yaml_io import dump_yaml, load_yaml
from tests.conftest import Result

Run = Callable[..., Result]

PROTOCOL: dict[str, Any] = {
    "schema": "mutransfer.protocol/1",
    "parameterization": {"name": "mup", "base_width": 64, "decay_convention": "independent"},
    "optimizer": {"name": "adamw", "weight_decay": 1e-3},
    "train": {"batch": 32, "steps": 1000},
}


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Write a table whose best lr is 2^-6 at every width."""
    random = np.random.default_rng(0)
    rows = [
        {"width": w, "lr": 2.0**x, "loss": 3 + 0.02 * (x + 6) ** 2 + random.normal(0, 0.001)}
        for w in (64, 128, 256, 512)
        for x in np.arange(-9.0, -3.0, 0.5)
    ]
    path = tmp_path / "runs.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def declared(csv: Path, protocol: dict[str, Any]) -> Path:
    path = csv.with_name("protocol.yaml")
    path.write_text(yaml.safe_dump(protocol))
    return path


def recipe_of(run: Run, csv: Path, *options: object, width: int = 1024) -> Any:
    fit = run("fit-exponents", csv, *options)
    assert fit.exit_code == 0, fit.stderr
    result = run("transfer", "--width", width, stdin=fit.stdout)
    assert result.exit_code == 0, result.stderr
    return load_yaml(result.stdout, "recipe")


def test_without_a_protocol_the_recipe_is_one_rate_for_all_and_says_so(run: Run, csv: Path) -> None:
    recipe = recipe_of(run, csv)
    assert (recipe["scope"], recipe["roles"], recipe["parameterization"]) == ("global", {}, None)
    assert recipe["base_lr"]["value"] == pytest.approx(2**-6, rel=0.1)
    assert recipe["base_weight_decay"] is None
    assert any("no protocol was declared" in warning for warning in recipe["warnings"])


def test_a_weight_decay_that_all_runs_share_is_kept(run: Run, csv: Path) -> None:
    pd.read_csv(csv).assign(weight_decay=0.1).to_csv(csv, index=False)
    decay = recipe_of(run, csv)["base_weight_decay"]
    assert decay == {"value": 0.1, "status": "assumed", "source": "that of all runs"}


def test_a_declared_protocol_gives_every_role_its_values(run: Run, csv: Path) -> None:
    recipe = recipe_of(run, csv, "--protocol", declared(csv, PROTOCOL))
    base = recipe["base_lr"]["value"]
    assert (recipe["scope"], recipe["base_width"]) == ("per_role", 64)
    hidden, readout = recipe["roles"]["hidden"], recipe["roles"]["readout"]
    assert hidden["lr"]["value"] == pytest.approx(base / 16)
    assert hidden["weight_decay"]["value"] == pytest.approx(1e-3)
    assert hidden["weight_decay"]["convention"] == "independent"
    assert hidden["init_std_mult"]["value"] == pytest.approx(1 / 4)
    assert readout["multiplier"]["value"] == pytest.approx(1 / 4)
    assert hidden["parameters"] == []
    assert set(recipe["roles"]) == {"embedding", "hidden", "readout", "vector", "scalar"}
    assert recipe["holds_for"]["steps"] == 1000
    assert recipe["holds_for"]["tokens"] is None
    assert recipe["attention_scale"] is None


def test_the_rule_is_held_against_the_fit(run: Run, csv: Path) -> None:
    protocol = PROTOCOL | {"parameterization": {"name": "standard", "base_width": 64}}
    protocol["parameterization"]["lr_rule"] = "global"
    recipe = recipe_of(run, csv, "--protocol", declared(csv, protocol))
    assert any("the rule expects exponent -1" in warning for warning in recipe["warnings"])


def test_the_horizon_needs_the_steps(run: Run, csv: Path) -> None:
    table = pd.read_csv(csv)
    decays = [
        table.assign(weight_decay=2.0**y, loss=table["loss"] + 0.02 * (y + 12) ** 2)
        for y in range(-16, -7)
    ]
    pd.concat(decays).to_csv(csv, index=False)
    protocol = PROTOCOL | {"optimizer": {"name": "adamw"}}
    fit = run("fit-exponents", csv, "--protocol", declared(csv, protocol))
    assert fit.exit_code == 0, fit.stderr
    document = load_yaml(fit.stdout, "fit")
    # independent decay 2^-12 over 1,000 steps at a constant rate
    assert document["decay"]["horizon"]["value"] == pytest.approx(1000 * 2**-12, rel=0.05)
    assert document["decay"]["horizon"]["at_most"]
    assert "short_horizon" in document["axes"]["weight_decay"]["warnings"]
    longer = protocol | {"train": {"batch": 32, "steps": 100_000, "schedule": "linear"}}
    fit = run("fit-exponents", csv, "--protocol", declared(csv, longer))
    document = load_yaml(fit.stdout, "fit")
    assert document["decay"]["horizon"]["value"] == pytest.approx(50_000 * 2**-12, rel=0.05)
    assert "short_horizon" not in document["axes"]["weight_decay"]["warnings"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": {"batch": 32}}, "train.steps is missing: "),
        ({"optimizer": {"name": "adm"}}, "unknown optimizer 'adm'; did you mean 'adam'"),
        ({"schema": "mutransfer.sweep/1"}, "is a sweep spec; give a protocol"),
        ({"depth": 3}, "unknown key 'depth'"),
        (
            {"optimizer": {"name": "adamw", "weight_decay": 0.2}},
            "is 0.2 and every row",
        ),
    ],
)
def test_a_wrong_protocol_is_exit_code_2(
    run: Run, csv: Path, changes: dict[str, Any], sentence: str
) -> None:
    pd.read_csv(csv).assign(weight_decay=1e-3).to_csv(csv, index=False)
    result = run("fit-exponents", csv, "--protocol", declared(csv, PROTOCOL | changes))
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_records_have_their_own_protocol(run: Run, csv: Path, tmp_path: Path) -> None:
    records = tmp_path / "trials.jsonl"
    records.write_text('{"schema": "mutransfer.trial/1", "kind": "sweep"}\n')
    result = run("fit-exponents", records, "--protocol", declared(csv, PROTOCOL))
    assert result.exit_code == 2
    assert "--protocol: is for tables of own results" in result.stderr


def test_optima_without_losses(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "optima.csv"
    path.write_text("width,lr\n64,0.03125\n128,0.015625\n256,0.015625\n512,0.0078125\n")
    result = run("fit-exponents", path, "--optima")
    assert result.exit_code == 0, result.stderr
    assert "grid spacing: taken as 1 octaves" in result.stderr
    axis = load_yaml(result.stdout, "fit")["axes"]["lr"]
    assert "grid resolution only" in axis["sentence"]
    # sd of rounding to a cell, 1 / sqrt(12) octave, over the widths' spread of sqrt(5) octaves
    half = axis["measurement_interval"]["high"] - axis["measurement_interval"]["value"]
    assert half == pytest.approx(1.96 / 12**0.5 / 5**0.5, rel=1e-3)
    assert axis["exponent"]["value"] == pytest.approx(-0.6)
    recipe = run("transfer", "--width", 4096, stdin=result.stdout)
    forecast = load_yaml(recipe.stdout, "recipe")["forecast"]["lr"]
    assert forecast["expected_excess_loss"] is None


def test_optima_that_are_all_the_same_show_no_spacing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "optima.csv"
    path.write_text("width,lr\n64,0.01\n128,0.01\n256,0.01\n512,0.01\n")
    result = run("fit-exponents", path, "--optima")
    assert result.exit_code == 2
    assert "give it in octaves (--grid-spacing)" in result.stderr
    result = run("fit-exponents", path, "--optima", "--grid-spacing", 1)
    exponent = load_yaml(result.stdout, "fit")["axes"]["lr"]["exponent"]
    assert exponent["value"] == pytest.approx(0)
    assert exponent["high"] > 0.2, "points that line up by chance are known no better than the grid"


def test_two_optima_are_insufficient(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "optima.csv"
    path.write_text("width,lr\n64,0.01\n128,0.02\n")
    result = run("fit-exponents", path, "--optima")
    assert result.exit_code == 4
    assert load_yaml(result.stdout, "fit")["axes"]["lr"]["exponent"] is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--optima", "--metric", "loss"],
            "--metric: is for losses, and a table of best values has none",
        ),
        (["--grid-spacing", 1], "--grid-spacing: is for a table of best values"),
        (["--optima", "--grid-spacing", 0], "expected a positive number of octaves"),
        (["--scatter-below", -1], "expected a positive number of octaves"),
        (["--optima", "--decay-convention", "lr_coupled"], "an optimal weight_decay of 0 has no"),
    ],
)
def test_options_that_contradict_are_exit_code_2(
    run: Run, csv: Path, options: list[object], sentence: str
) -> None:
    table = pd.read_csv(csv)
    table.assign(weight_decay=np.where(table["width"] > 64, 0.0, 0.1)).to_csv(csv, index=False)
    result = run("fit-exponents", csv, *options)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_convention_given_as_an_option_is_that_of_the_protocol(run: Run, csv: Path) -> None:
    section = {
        "parameterization": {"name": "mup", "base_width": 64},
        "optimizer": {"name": "adamw"},
    }
    path = declared(csv, PROTOCOL | section)
    pd.read_csv(csv).assign(weight_decay=1e-3).to_csv(csv, index=False)
    options = ("--protocol", path, "--decay-convention", "independent")
    recipe = recipe_of(run, csv, *options)
    assert recipe["base_weight_decay"]["convention"] == "independent"
    hidden = recipe["roles"]["hidden"]["weight_decay"]
    assert (hidden["convention"], hidden["value"]) == ("independent", pytest.approx(1e-3))
    result = run(
        "fit-exponents",
        csv,
        "--protocol",
        declared(csv, PROTOCOL),
        "--decay-convention",
        "lr_coupled",
    )
    assert result.exit_code == 2
    assert "says independent; leave the option out" in result.stderr


def test_a_decay_that_varies_without_being_fitted_makes_no_recipe_by_role(
    run: Run, csv: Path
) -> None:
    """Each optimum is at the better of two decays, and nothing says which of them to use."""
    table = pd.read_csv(csv)
    both = [table.assign(weight_decay=d, loss=table["loss"] + d) for d in (0.1, 0.2)]
    pd.concat(both).to_csv(csv, index=False)
    path = declared(csv, PROTOCOL | {"optimizer": {"name": "adamw"}})
    fit = run("fit-exponents", csv, "--protocol", path)
    assert "weight_decay has too few values to be fitted" in fit.stderr
    result = run("transfer", "--width", 1024, stdin=fit.stdout)
    assert result.exit_code == 4
    assert "weight_decay varied over too few values" in result.stderr
    plain = run("fit-exponents", csv, "--decay-convention", "lr_coupled")
    recipe = run("transfer", "--width", 1024, stdin=plain.stdout)
    assert load_yaml(recipe.stdout, "recipe")["base_weight_decay"] is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": {"name": "adam"}}, "adam has no decay, and weight_decay varies"),
        (
            {"optimizer": {"name": "adamw", "weight_decay": 0.1}},
            "is 0.1 and the rows of the table differ",
        ),
        (
            {"parameterization": {"name": "mup", "base_width": 64, "weight_decay": "none"}},
            "parameterization.weight_decay none has no decay",
        ),
    ],
)
def test_a_protocol_that_contradicts_a_decay_that_varies_is_refused(
    run: Run, csv: Path, changes: dict[str, Any], sentence: str
) -> None:
    table = pd.read_csv(csv)
    pd.concat([table.assign(weight_decay=d) for d in (0.1, 0.2)]).to_csv(csv, index=False)
    protocol = PROTOCOL | {"optimizer": {"name": "adamw"}} | changes
    result = run("fit-exponents", csv, "--protocol", declared(csv, protocol))
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_column_that_is_held_is_no_axis_of_optima(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "optima.csv"
    rows = ["64,0.03,0,2", "128,0.015,0,2", "256,0.015,0,4", "512,0.0075,0,4"]
    path.write_text("\n".join(["width,lr,weight_decay,depth", *rows]))
    axes = load_yaml(run("fit-exponents", path, "--optima").stdout, "fit")["axes"]
    assert list(axes) == ["lr"]
    assert "size_moves_with_width" in axes["lr"]["warnings"]


def test_widths_too_close_together_say_nothing_far_away(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "optima.csv"
    path.write_text("width,lr\n1000,0.01\n1010,0.02\n1020,0.01\n")
    fit = run("fit-exponents", path, "--optima")
    result = run("transfer", "--width", 65536, stdin=fit.stdout)
    assert result.exit_code == 4
    assert "the widths are too few or too close together" in result.stderr


def test_records_and_tables_are_not_mixed(run: Run, csv: Path, tmp_path: Path) -> None:
    records = tmp_path / "trials.jsonl"
    records.write_text('{"schema": "mutransfer.trial/1", "kind": "sweep"}\n')
    result = run("fit-exponents", records, csv)
    assert result.exit_code == 2
    assert "give one or the other" in result.stderr


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda axis: axis.update(prediction=None), "where the status is ok and nowhere else"),
        (
            lambda axis: axis.update(status="insufficient"),
            "where the status is ok and nowhere else",
        ),
        (lambda axis: axis["exponent"].update(low=1e3), "expected low <= value <= high"),
        (lambda axis: axis["optimum"][64].update(value=None), "of an optimum that is ok"),
        (lambda axis: axis["optimum"][64].update(curvature=-1), "expected at least 0"),
    ],
)
def test_exponents_changed_by_hand_are_refused_with_the_key(
    run: Run, csv: Path, harm: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    document = load_yaml(run("fit-exponents", csv).stdout, "fit")
    harm(document["axes"]["lr"])
    result = run("transfer", "--width", 1024, stdin=dump_yaml(document))
    assert result.exit_code == 2
    assert "axes.lr" in result.stderr
    assert sentence in result.stderr


def test_a_target_key_that_the_protocol_does_not_say_is_named(run: Run, csv: Path) -> None:
    fit = run("fit-exponents", csv, "--protocol", declared(csv, PROTOCOL))
    result = run("transfer", "--width", 1024, "--target", "depth=12", stdin=fit.stdout)
    assert "depth: not known for the fit, and the target has 12" in result.stderr


def test_a_rule_without_decay_makes_no_recipe_with_some(run: Run, csv: Path) -> None:
    rule = {"name": "mup", "base_width": 64, "weight_decay": "none"}
    pd.read_csv(csv).assign(weight_decay=1e-3).to_csv(csv, index=False)
    recipe = recipe_of(run, csv, "--protocol", declared(csv, PROTOCOL | {"parameterization": rule}))
    decays = [role["weight_decay"]["value"] for role in recipe["roles"].values()]
    assert {recipe["base_weight_decay"]["value"], *decays} == {0.0}


def test_groups_of_optima_have_their_own_axes_and_grids(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "optima.csv"
    lines = ["width,lr,weight_decay,g"]
    for group, decay, factor in (("a", 0.1, 1.0), ("b", 0.2, 1.01)):
        lines += [
            f"{w},{factor * 2.0 ** (-8 - k / 2)},{decay},{group}"
            for k, w in enumerate((64, 128, 256))
        ]
    path.write_text("\n".join(lines))
    together = load_yaml(run("fit-exponents", path, "--optima", "--by", "g").stdout, "fit")
    path.write_text("\n".join(lines[:4]))
    alone = load_yaml(run("fit-exponents", path, "--optima").stdout, "fit")
    assert together["groups"]["a"]["axes"] == alone["axes"]
    assert together["groups"]["b"]["weight_decay"] == 0.2


def test_a_slope_that_no_loss_has_is_named(run: Run, csv: Path) -> None:
    fit = run("fit-exponents", csv)
    result = run("transfer", "--width", 1024, "--loss-per-doubling", 1e-12, stdin=fit.stdout)
    assert result.exit_code == 2
    assert "--loss-per-doubling 1e-12: no compute buys back" in result.stderr
