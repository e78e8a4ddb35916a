"""Slopes of measurements against width."""

from __future__ import annotations

import pandas as pd
import pytest

from mutransfer_cli.check.coordinates import width_slopes


def test_a_power_of_the_width_for_each_name_and_seed() -> None:
    power = {("a", 0): 0.5, ("a", 1): 0.5, ("b", 0): -1.0}
    rows = [
        {"name": name, "seed": seed, "width": width, "value": 3 * width**exponent}
        for (name, seed), exponent in power.items()
        for width in (16, 48, 64)
    ]
    found = width_slopes(pd.DataFrame(rows))
    assert found.to_dict() == pytest.approx(power)


def test_one_width_has_no_slope() -> None:
    rows = pd.DataFrame([{"name": "a", "seed": seed, "width": 16, "value": 1.0} for seed in (0, 1)])
    with pytest.raises(ValueError, match="a: was measured at one width only"):
        width_slopes(rows)
