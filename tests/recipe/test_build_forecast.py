from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.fit.from_records import exponents_of, statuses
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Forecast
from mutransfer_cli.rules.plan import AXES

CURVATURE = 0.04


def table(widths: tuple[int, ...], bend: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {
            "width": width,
            "lr": 2.0**x,
            "loss": 2
            + CURVATURE * (x + 6 - bend * math.log2(width / 64) ** 2) ** 2
            + random.normal(0, 0.0005),
        }
        for width in widths
        for x in np.arange(-10.0, -1.5, 0.5)
    ]
    return pd.DataFrame(rows)


def fitted(trials: pd.DataFrame, by: str | None = None) -> Exponents:
    groups = {str(name): rows for name, rows in trials.groupby(by)} if by else {"": trials}
    return exponents_of("loss", statuses(trials["loss"].tolist()), fit_axes(groups, AXES), None, by)


def forecast_of(exponents: Exponents, target: Target) -> Forecast:
    return build_recipe(exponents, target).forecast["lr"]


def test_the_excess_is_that_of_a_parabola_at_the_standard_error_of_the_prediction() -> None:
    exponents = fitted(table((64, 128, 256, 512)))
    found = forecast_of(exponents, Target(4096, {}))
    prediction = exponents.axes["lr"].prediction
    assert prediction is not None
    error = math.log2(found.high / found.low) / 2 / prediction.quantile
    assert found.expected_excess_loss == pytest.approx(CURVATURE * error**2, rel=0.05)
    assert found.times_largest_width == 8
    assert found.compute_multiplier is None


def test_an_excess_is_worth_compute_where_the_slope_is_known() -> None:
    """The excess divided by the slope is the number of doublings."""
    exponents = fitted(table((64, 128, 256)))
    found = forecast_of(exponents, Target(65536, {}, loss_per_doubling=0.02))
    assert found.expected_excess_loss is not None
    doublings = found.expected_excess_loss / 0.02
    assert found.compute_multiplier == pytest.approx(2**doublings)
    assert "of the compute" in found.sentence


def test_other_forms_are_shown_from_five_widths_on() -> None:
    """The curved form follows optima that bend; the line does not."""
    five = (64, 128, 256, 512, 1024)
    exponents = fitted(table(five, bend=0.1))
    assert "law_bends" in exponents.axes["lr"].warnings
    recipe = build_recipe(exponents, Target(2048, {}))
    forms = recipe.forecast["lr"].forms
    assert math.log2(forms["curved"]) == pytest.approx(-6 + 0.1 * 5**2, abs=0.1)
    assert math.log2(recipe.base_lr.value) < -6 + 0.1 * 5**2 - 0.3
    straight = fitted(table(five))
    assert "law_bends" not in straight.axes["lr"].warnings
    assert forecast_of(fitted(table(five[:4])), Target(2048, {})).forms == {}


def test_one_run_is_never_foreseen_better_than_the_line_is_known() -> None:
    for seed in range(5):
        trials = table((64, 128, 256, 512))
        noise = np.random.default_rng(seed).normal(0, 0.01, len(trials))
        exponents = fitted(trials.assign(loss=trials["loss"] + noise))
        if exponents.axes["lr"].exponent is None:
            continue
        for width in (128, 2048):
            recipe = build_recipe(exponents, Target(width, {}))
            forecast = recipe.forecast["lr"]
            assert recipe.base_lr.low is not None
            assert forecast.low <= recipe.base_lr.low * (1 + 1e-9)


def test_a_group_is_chosen_by_name() -> None:
    trials = pd.concat(
        table((64, 128, 256), bend).assign(schedule=name)
        for name, bend in (("linear", 0.0), ("cosine", 0.2))
    )
    exponents = fitted(trials, by="schedule")
    linear = build_recipe(exponents, Target(512, {}, group="linear"))
    alone = build_recipe(fitted(table((64, 128, 256))), Target(512, {}))
    assert linear.base_lr.value == pytest.approx(alone.base_lr.value)
    with pytest.raises(InputError, match=r"hold groups \(cosine, linear\); choose one"):
        build_recipe(exponents, Target(512, {}))
    with pytest.raises(InputError, match="group lineer: unknown; did you mean 'linear'"):
        build_recipe(exponents, Target(512, {}, group="lineer"))
    with pytest.raises(InputError, match="hold no groups; leave it out"):
        build_recipe(fitted(table((64, 128, 256))), Target(512, {}, group="linear"))


@pytest.mark.parametrize(
    ("target", "setting"),
    [(Target(512, {}, folded=True), "fold"), (Target(512, {"depth": "2"}), "target")],
)
def test_what_needs_a_protocol_says_so(target: Target, setting: str) -> None:
    with pytest.raises(InputError, match="the exponents hold no protocol") as caught:
        build_recipe(fitted(table((64, 128, 256))), target)
    assert caught.value.setting == setting
