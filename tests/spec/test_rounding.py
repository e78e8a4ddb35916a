"""Values that differ by rounding."""

from __future__ import annotations

import pandas as pd

from mutransfer_cli.spec.rounding import hyperparameters, merged, unrounded, with_one_value_each


def test_a_rounded_rate_is_the_exact_one() -> None:
    rates = pd.Series([9.77e-4, 0.0009765625, 0.002])
    assert merged(rates).tolist() == [0.0009765625, 0.0009765625, 0.002]


def test_values_far_from_each_other_stay_as_they_are() -> None:
    rates = pd.Series([0.001, 0.00103, 0.0])
    assert merged(rates) is rates


def test_rates_of_a_random_search_are_not_rounded_ones() -> None:
    close = pd.Series([0.00123456, 0.00123987, 0.001241])
    assert unrounded(close) is close
    assert unrounded(pd.Series([9.77e-4, 0.0009765625])).tolist() == [0.0009765625] * 2


def test_only_hyperparameters_are_merged() -> None:
    table = pd.DataFrame({"lr": [9.77e-4, 0.0009765625], "width": [100, 101], "warmup": [99, 100]})
    assert hyperparameters(table, ["warmup"]) == ["lr", "warmup"]
    assert with_one_value_each(table).to_dict("list") == {
        **{"lr": [0.0009765625] * 2, "width": [100, 101], "warmup": [99, 100]},
    }
