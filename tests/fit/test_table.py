"""Tables of trials before they become cells."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.decay import fit_decay
from mutransfer_cli.fit.exponent import fit_exponents, fit_groups
from mutransfer_cli.fit.table import cell_means, profile, without_repeats
from mutransfer_cli.spec.rounding import ROUNDING, merged, with_one_value_each


def sweep(noise: float = 0.002) -> pd.DataFrame:
    """Two seeds at four widths, whose best rate 2^-6 falls as width^-1/2."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {"width": w, "lr": 2.0**x, "seed": seed}
            for w in (32, 64, 128, 256)
            for x in np.arange(-10.0, -2.0)
            for seed in (0, 1)
        ]
    )
    away = np.log2(table["lr"]) + 6 + np.log2(table["width"] / 32) / 2
    return table.assign(loss=3 + 0.04 * away**2 + random.normal(0, noise, len(table)))


def rounded(values: pd.Series, digits: int = 3) -> pd.Series:
    """The values as somebody wrote them into a table."""
    return values.map(lambda value: float(f"{value:.{digits - 1}e}"))


def second_rounded(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The table with rounded rates for the second seed."""
    return table.assign(lr=table["lr"].where(table["seed"] == 0, rounded(table["lr"], digits)))


@pytest.mark.parametrize("digits", [3, 4, 5])
def test_rates_that_differ_by_rounding_are_one_cell(digits: int) -> None:
    exact = sweep()
    mixed = second_rounded(exact, digits)
    assert mixed["lr"].nunique() > exact["lr"].nunique()
    assert fit_exponents(mixed) == fit_exponents(exact)
    assert fit_groups({"a": mixed})["a"] == fit_exponents(exact)


def test_values_in_clusters_of_two_percent_become_the_most_frequent_of_them() -> None:
    values = pd.Series([1.0, 1.01, 1.01, 1.015, 2.0, 0.0, math.inf, 2.05])
    assert merged(values).tolist() == [1.01] * 4 + [2.0, 0.0, math.inf, 2.05], "0.036 octaves"
    assert math.isnan(merged(values.replace(2.0, math.nan))[4])
    assert merged(pd.Series([1.0, 1.01, 1.012])).tolist() == [1.012] * 3, "of most digits"
    assert merged(pd.Series([1.01, 1.0, 1.02])).tolist() == [1.01] * 3, "the middle one"
    assert merged(values.iloc[:0]).empty


def test_a_real_grid_stays_as_it_is() -> None:
    grid = pd.Series(1e-3 * 1.05 ** np.arange(50))
    assert merged(grid) is grid


def test_a_random_search_is_binned_and_never_chained() -> None:
    """Values come so close that neighbours could be joined from one end to the other."""
    values = pd.Series(2 ** np.random.default_rng(0).uniform(-12, -4, 3000))
    once = merged(values)
    assert np.abs(np.log2(once / values)).max() <= ROUNDING
    assert 8 / ROUNDING / 2 < once.nunique() <= 8 / ROUNDING + 1
    assert (merged(once) == once).all(), "merging again changes nothing"
    order = np.random.default_rng(1).permutation(len(values))
    assert (merged(values.iloc[order]).sort_index() == once).all()


def test_every_hyperparameter_is_merged_and_nothing_else() -> None:
    pair = [0.1, 0.1001]
    columns = ("lr", "weight_decay", "lr_mult.hidden", "loss", "mine")
    table = pd.DataFrame({"width": [1000, 1001], **dict.fromkeys(columns, pair)})
    found = with_one_value_each(table).nunique()
    assert found[found == 1].index.tolist() == ["lr", "weight_decay", "lr_mult.hidden"]
    assert with_one_value_each(table, ["mine"])["mine"].nunique() == 1


def test_rounding_makes_no_axis_and_no_weight_decay_that_varies() -> None:
    table = sweep().assign(weight_decay=1 / 3)
    table["lr_mult.hidden"] = 0.7071
    harmed = table.assign(weight_decay=table["weight_decay"].where(table["seed"] == 0, 0.333))
    harmed["lr_mult.hidden"] = table["lr_mult.hidden"].where(table["seed"] == 0, 0.707)
    (fit,) = fit_axes({"": harmed}, ["lr", "lr_mult.hidden"]).values()
    assert fit.axes.keys() == {"lr"}
    assert fit.weight_decay == 1 / 3
    fit_exponents(harmed)
    with pytest.raises(InputError, match="weight_decay varies"):
        fit_exponents(harmed.assign(weight_decay=table["seed"] + 0.1))


def decayed() -> pd.DataFrame:
    decays = pd.DataFrame({"weight_decay": 2.0 ** np.arange(-8.0, -1.0)})
    table = sweep().merge(decays, how="cross")
    noise = np.random.default_rng(2).normal(0, 0.002, len(table))
    away = np.log2(table["weight_decay"]) + 5
    return table.assign(loss=table["loss"] + 0.03 * away**2 + noise)


def test_the_joint_fit_merges_both_axes_and_counts_repeats_once() -> None:
    exact = decayed()
    decays = exact["weight_decay"].where(exact["seed"] == 1, rounded(exact["weight_decay"], 4))
    mixed = second_rounded(exact).assign(weight_decay=decays)
    alone, rows, twice = (
        fit_decay({"": table}, "lr_coupled")[""]
        for table in (exact, mixed, pd.concat([exact, exact]))
    )
    assert rows == alone
    assert alone.lr is not None
    assert twice.lr is not None
    assert twice.lr.exponent == alone.lr.exponent
    for axis in (twice.lr, twice.weight_decay):
        assert "equal_replicates" in axis.warnings


@pytest.mark.parametrize("seeds", ["kept", "dropped", "of their own"])
def test_a_table_pasted_twice_is_the_table_once_with_a_warning(seeds: str) -> None:
    once = sweep()
    again = once.assign(seed=once["seed"] + 2) if seeds == "of their own" else once
    twice = pd.concat([once, again])
    if seeds == "dropped":
        once, twice = once.drop(columns="seed"), twice.drop(columns="seed")
    alone, fit = fit_exponents(once), fit_exponents(twice)
    (code,) = fit.warnings.keys() - alone.warnings.keys()
    assert code == "equal_replicates"
    assert fit.model_copy(update={"warnings": alone.warnings}) == alone
    shuffled = fit_exponents(twice.sample(frac=1, random_state=0))
    if seeds != "dropped":
        assert shuffled.exponent == alone.exponent


def test_the_warning_says_how_many_and_where() -> None:
    table = sweep().query("width == 32")
    twice = pd.concat([table, table])
    found = without_repeats(twice, ["lr"], "loss")[1]["equal_replicates"]
    first = f"width 32, lr 0.000976562, loss {min(table['loss'].iloc[:2]):.6g}"
    assert found.startswith("in 8 of the 8 cells with two runs or more each loss occurs more than")
    assert f"(first: {first})" in found
    assert "16 rows are left out" in found


def test_seeds_that_never_reached_the_runs_are_one_run() -> None:
    one = sweep().query("seed == 0")
    three = pd.concat([one.assign(seed=seed) for seed in (2, 1, 0)])
    rows, warnings = without_repeats(three, ["lr"], "loss")
    assert set(rows["seed"]) == {0}
    assert warnings
    assert fit_exponents(three).exponent == fit_exponents(one).exponent


def test_some_equal_losses_are_chance() -> None:
    """From half of the repeated cells on it is none; cells of one run say nothing."""
    table = sweep()
    single = table.query("width == 256 and seed == 0")
    several = table.query("width != 256")  # 24 cells of two runs
    for cells, suspect in ((11, False), (12, True)):
        losses = several["loss"].to_numpy(copy=True)
        losses[1 : 2 * cells : 2] = losses[0 : 2 * cells : 2]
        harmed = pd.concat([several.assign(loss=losses), single])
        rows, warnings = without_repeats(harmed, ["lr"], "loss")
        assert bool(warnings) == suspect
        assert len(rows) == len(harmed) - (cells if suspect else 0)
        if not suspect:
            assert rows is harmed


def test_values_of_another_axis_and_diverged_runs_are_no_repeats() -> None:
    table = sweep().query("seed == 0").drop(columns="seed")
    both = pd.concat([table.assign(weight_decay=decay) for decay in (0.0, 0.1)])
    gone = pd.concat([table.assign(loss=np.nan)] * 2)
    for rows in (both, gone):
        kept, warnings = without_repeats(rows, ["lr"], "loss")
        assert kept is rows
        assert not warnings


def test_each_group_is_judged_alone() -> None:
    table = sweep()
    found = fit_groups({"twice": pd.concat([table, table]), "once": table})
    assert {name: "equal_replicates" in fit.warnings for name, fit in found.items()} == {
        "twice": True,
        "once": False,
    }


def test_the_best_of_another_axis_is_taken_at_each_value() -> None:
    random = np.random.default_rng(0)
    both = pd.DataFrame(
        [
            {"width": w, "lr": lr, "factor": factor, "loss": random.uniform()}
            for w in (32, 64)
            for lr in (0.1, 0.2, 0.3)
            for factor in (0.5, 1.0)
        ]
    )
    by_factor = profile(both, ["factor"], ["lr"], "loss")
    assert len(by_factor) == 2 * 2
    best = both.groupby(["width", "factor"])["loss"].min()
    assert by_factor.sort_values(["width", "factor"])["loss"].tolist() == best.tolist()


def test_a_combination_that_diverged_is_never_the_best() -> None:
    frame = pd.DataFrame(
        {
            "width": 32,
            "lr": 0.1,
            "factor": [1.0, 1.0, 2.0, 2.0],
            "seed": [0, 1, 0, 1],
            "loss": [3.0, 3.0, 1.0, np.nan],
        }
    )
    assert set(profile(frame, ["lr"], ["factor"], "loss")["factor"]) == {1.0}
    assert cell_means(frame, ["factor"], "loss")["loss"].tolist() == [3.0, np.inf]
