"""Learning rate and weight decay together, from a table of own results to the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.joint_coverage import World, simulate
from mutransfer_cli.spec.yaml_io import load_yaml
from tests.conftest import Result

Run = Callable[..., Result]
COUPLED = ("--decay-convention", "lr_coupled")


def table_of(world: World, without_decay: bool = False) -> pd.DataFrame:
    """One sweep with best lr 2^-8 and best weight decay 2^-3 in the middle of the widths."""
    planes = simulate(world, 1, np.random.default_rng(0))
    width = np.broadcast_to(2 ** np.arange(7, 7 + world.widths)[:, None], planes.x[0].shape)
    columns = {
        "width": width.ravel(),
        "lr": 2.0 ** (planes.x[0] - 8).ravel(),
        "weight_decay": 2.0 ** (planes.y[0] - 3).ravel(),
        "loss": planes.loss[0].ravel(),
    }
    table = pd.DataFrame(columns)
    if not without_decay:
        return table
    zero = table.drop_duplicates(["width", "lr"]).assign(weight_decay=0.0)
    return pd.concat([table, zero.assign(loss=zero["loss"] + 0.1)])


@pytest.fixture
def fitted(run: Run, tmp_path: Path) -> Callable[..., Any]:
    def fit(table: pd.DataFrame, *options: object, exit_code: int = 0) -> Any:
        table.to_csv(tmp_path / "runs.csv", index=False)
        result = run("fit-exponents", tmp_path / "runs.csv", *options)
        assert result.exit_code == exit_code, result.stderr
        return load_yaml(result.stdout, "stdout")

    return fit


def test_both_exponents_and_that_of_their_product(fitted: Callable[..., Any]) -> None:
    document = fitted(table_of(World(-1.0, 0.5, ratio=0.5)), *COUPLED)
    assert document["decay_convention"] == "lr_coupled"
    found = document["axes"] | {"product": document["decay"]["product"]}
    for name, truth in {"lr": -1.0, "weight_decay": 0.5, "product": -0.5}.items():
        exponent = found[name]["exponent"]
        assert exponent["low"] <= truth <= exponent["high"]
        assert exponent["high"] - exponent["low"] < 0.3
    assert document["decay"]["ridge"] is None


def test_a_ridge_is_reported_as_exactly_that(fitted: Callable[..., Any]) -> None:
    document = fitted(table_of(World(-0.5, 0.0, ratio=0.0)), *COUPLED, exit_code=4)
    for axis in document["axes"].values():
        assert (axis["status"], axis["exponent"]) == ("ridge", None)
        assert "only lr * weight_decay is identified" in axis["sentence"]
    ridge, product = document["decay"]["ridge"], document["decay"]["product"]
    assert ridge["product_only"]
    assert ridge["angle"] == pytest.approx(45, abs=1.5)
    assert product["exponent"]["low"] <= -0.5 <= product["exponent"]["high"]


def test_a_ridge_of_another_direction_identifies_no_product(fitted: Callable[..., Any]) -> None:
    document = fitted(table_of(World(-0.5, 0.0, ratio=0.0, angle=60)), *COUPLED, exit_code=4)
    decay = document["decay"]
    assert not decay["ridge"]["product_only"]
    assert decay["product"]["status"] == "ridge"
    assert "only the position across it" in decay["product"]["sentence"]
    truth = World(-0.5, 0.0, angle=60).across
    assert decay["ridge"]["exponent"]["low"] <= truth <= decay["ridge"]["exponent"]["high"]


def test_under_independent_decay_the_product_is_weight_decay_alone(
    fitted: Callable[..., Any],
) -> None:
    upright = table_of(World(0.0, -0.5, ratio=0.0, angle=90))
    document = fitted(upright, "--decay-convention", "independent", exit_code=4)
    assert document["decay"]["ridge"]["product_only"]
    exponent = document["decay"]["product"]["exponent"]
    assert exponent["low"] <= -0.5 <= exponent["high"]


def test_runs_without_decay_are_kept_out_of_the_fit_and_shown(
    fitted: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    world = World(-1.0, 0.5, ratio=0.5)
    with_zero = fitted(table_of(world, without_decay=True), *COUPLED)
    assert with_zero["axes"] == fitted(table_of(world), *COUPLED)["axes"]
    without = with_zero["decay"]["without_decay"]
    assert list(without) == [128, 256, 512, 1024]
    assert all(0.05 < best["excess"] < 0.3 for best in without.values())
    table_of(world, without_decay=True).to_csv(tmp_path / "runs.csv", index=False)
    shown = run("fit-exponents", tmp_path / "runs.csv", *COUPLED).stderr
    assert "width 128 without weight decay: best lr" in shown


def test_the_convention_cannot_be_left_out_where_decay_varies(run: Run, tmp_path: Path) -> None:
    table_of(World()).to_csv(tmp_path / "runs.csv", index=False)
    result = run("fit-exponents", tmp_path / "runs.csv")
    assert result.exit_code == 2
    assert "weight_decay varies: say whether its convention is lr_coupled" in result.stderr


def test_two_weight_decays_are_no_axis(fitted: Callable[..., Any]) -> None:
    table = table_of(World(-1.0, 0.0))
    few = table[table["weight_decay"].isin([0.125, 0.25])]
    document = fitted(few, *COUPLED)
    assert list(document["axes"]) == ["lr"]
    assert document["axes"]["lr"]["exponent"]["value"] == pytest.approx(-1, abs=0.3)


def test_diverged_and_broken_runs_bend_nothing(fitted: Callable[..., Any]) -> None:
    world = World(-1.0, 0.5, ratio=0.5, side=9)
    table = table_of(world)
    steps = np.log2(table["lr"]) - np.log2(table["lr"].groupby(table["width"]).transform("max"))
    diverged = table.assign(loss=table["loss"].mask(steps > -0.5))
    broken = diverged.assign(loss=diverged["loss"].where((steps < -1.5) | (steps > -0.5), 7.0))
    for other in (diverged, broken):
        for name, truth in {"lr": -1.0, "weight_decay": 0.5}.items():
            exponent = fitted(other, *COUPLED)["axes"][name]["exponent"]
            assert exponent["low"] <= truth <= exponent["high"]
            assert exponent["high"] - exponent["low"] < 0.5


def test_groups_are_fitted_each_on_its_own(fitted: Callable[..., Any]) -> None:
    bowl, ridge = table_of(World(-1.0, 0.5)), table_of(World(-0.5, 0.0, ratio=0.0))
    both = pd.concat([bowl.assign(variant="bowl"), ridge.assign(variant="ridge")])
    groups = fitted(both, *COUPLED, "--by", "variant")["groups"]
    assert groups["bowl"]["axes"] == fitted(bowl, *COUPLED)["axes"]
    assert groups["ridge"]["axes"]["lr"]["status"] == "ridge"
    assert groups["ridge"]["decay"]["product"]["status"] == "ok"


def test_the_recipe_carries_the_fitted_decay(
    fitted: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    table_of(World(-1.0, 0.5)).to_csv(tmp_path / "runs.csv", index=False)
    out = run("fit-exponents", tmp_path / "runs.csv", *COUPLED, "-o", tmp_path / "exponents.yaml")
    assert out.exit_code == 0
    result = run("transfer", tmp_path / "exponents.yaml", "--width", 8192)
    recipe = load_yaml(result.stdout, "stdout")
    decay = recipe["base_weight_decay"]
    assert (decay["status"], decay["convention"]) == ("fitted", "lr_coupled")
    assert decay["low"] < decay["value"] < decay["high"]
    assert set(recipe["forecast"]) == {"lr", "weight_decay"}


def test_two_widths_and_diverged_sweeps_are_insufficient(fitted: Callable[..., Any]) -> None:
    table = table_of(World(-1.0, 0.5, ratio=0.5))
    two = fitted(table[table["width"] <= 256], *COUPLED, exit_code=4)["axes"]["lr"]
    assert {optimum["status"] for optimum in two["optimum"].values()} == {"ok"}
    assert two["sentence"].endswith("3 are needed: add at least 1 width")
    none = fitted(table.assign(loss=np.nan), *COUPLED, exit_code=4)["axes"]["weight_decay"]
    assert {optimum["status"] for optimum in none["optimum"].values()} == {"too_few_points"}


def test_a_width_swept_without_decay_alone_is_shown(fitted: Callable[..., Any]) -> None:
    table = table_of(World(-1.0, 0.5, ratio=0.5, widths=5), without_decay=True)
    only = table[(table["width"] < 2048) | (table["weight_decay"] == 0)]
    document = fitted(only, *COUPLED)
    assert document["axes"]["lr"]["optimum"][2048]["status"] == "too_few_points"
    assert document["decay"]["without_decay"][2048]["excess"] is None


def test_the_horizon_is_that_of_a_width_with_finite_losses(
    fitted: Callable[..., Any], tmp_path: Path
) -> None:
    protocol = tmp_path / "protocol.yaml"
    protocol.write_text(
        "{schema: mutransfer.protocol/1, optimizer: {name: adamw}, train: {batch: 1, steps: 100},"
        " parameterization: {name: standard, base_width: 128, decay_convention: lr_coupled}}"
    )
    table = table_of(World(-1.0, 0.5, ratio=0.5))
    diverged = table.assign(loss=table["loss"].mask(table["width"] == 1024))
    horizon = fitted(diverged, "--protocol", protocol)["decay"]["horizon"]
    assert horizon["width"] == 512
    found = fitted(table, "--protocol", protocol)["decay"]["horizon"]
    assert found["width"] == 1024


def test_weight_decay_alone_has_its_zero_rows_and_horizon_too(
    fitted: Callable[..., Any], tmp_path: Path
) -> None:
    """The learning rate is fixed, so there is nothing to fit jointly."""
    protocol = tmp_path / "protocol.yaml"
    protocol.write_text(
        "{schema: mutransfer.protocol/1, optimizer: {name: adamw}, train: {batch: 1, steps: 100},"
        " parameterization: {name: standard, base_width: 128, decay_convention: lr_coupled,"
        " lr_rule: global, weight_decay: constant}}"
    )
    table = table_of(World(0.0, 0.5, ratio=0.5), without_decay=True)
    held = table[table["lr"] == 2**-8]
    document = fitted(held, "--protocol", protocol)
    assert list(document["axes"]) == ["weight_decay"]
    decay = document["decay"]
    assert decay["product"] is None
    assert list(decay["without_decay"]) == [128, 256, 512, 1024]
    horizon = decay["horizon"]
    optimum = document["axes"]["weight_decay"]["optimum"][1024]["value"]
    assert horizon["value"] == pytest.approx(100 * 2**-8 * optimum)


def test_losses_that_are_all_equal_have_no_optimum(fitted: Callable[..., Any]) -> None:
    """Rounding may give them a curvature, which does not count."""
    for constant in (5.03, 3.0, 0.0031):
        document = fitted(table_of(World()).assign(loss=constant), *COUPLED, exit_code=4)
        assert document["axes"]["lr"]["status"] == "insufficient"
