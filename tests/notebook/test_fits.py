from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

from mutransfer_cli import load_recipe
from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.notebook.fits import Fit
from mutransfer_cli.notebook.fitting import fit_exponents
from mutransfer_cli.notebook.runs import read_run
from tests.fit.test_from_tables import RATES, WIDTHS, frame
from tests.report.runs import write_run

matplotlib.use("agg")


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_exponents(frame())


@pytest.fixture(scope="module")
def grouped() -> Fit:
    both = [frame().assign(schedule=name) for name in ("cosine", "wsd")]
    both[1]["lr"] *= 2
    return fit_exponents(pd.concat(both), by="schedule")


def test_the_value_at_a_width_has_its_interval(fit: Fit) -> None:
    wide: Any = np.int64(4096)
    at = fit.at(wide)
    assert at == fit.at(4096.0)
    assert at.value == pytest.approx(2**-8.5, rel=0.05)
    assert at.low < at.value < at.high
    assert at.level == 0.95
    assert fit.recipe(width=4096).base_lr.value == pytest.approx(at.value)
    assert fit.recipe(wide) == fit.recipe(4096)
    forecast = fit.recipe(width=4096).forecast["lr"]
    assert (forecast.low, forecast.high) == (at.low, at.high)
    assert repr(fit).startswith("Fit DataFrame: exponent of lr -0.5")


def test_optima_are_a_frame(fit: Fit) -> None:
    optima = fit.to_frame()
    assert optima["width"].tolist() == list(WIDTHS)
    assert (optima["low"] <= optima["value"]).all()
    assert set(optima["status"]) == {"ok"}


def test_groups_are_taken_one_at_a_time(grouped: Fit) -> None:
    assert repr(grouped) == "Fit DataFrame: 2 groups (cosine, wsd)"
    optima = grouped.to_frame()
    assert next(iter(optima)) == "schedule"
    assert len(optima) == 2 * len(WIDTHS)
    one, other = (grouped.group(name) for name in ("cosine", "wsd"))
    assert other.at(512).value == pytest.approx(2 * one.at(512).value)
    assert set(other.trials["schedule"]) == {"wsd"}
    for method in (grouped.at, grouped.recipe):
        with pytest.raises(
            InputError, match=r"has the groups cosine, wsd; take one, such as fit\."
        ):
            method(512)
    with pytest.raises(InputError, match="group wds: unknown; did you mean 'wsd'"):
        grouped.group("wds")
    assert grouped._repr_html_().count("<svg") == 4


def test_bowls_and_line_are_drawn_side_by_side(fit: Fit) -> None:
    bowls, line = fit.plot()
    assert bowls.figure is line.figure
    assert (bowls.get_xlabel(), line.get_xlabel()) == ("learning rate", "width")
    assert fit._repr_html_().count("<svg") == 2
    best = fit_exponents(
        pd.DataFrame({"width": WIDTHS, "lr": [0.1, 0.07, 0.05, 0.035]}), optima=True
    )
    assert [axes.get_xlabel() for axes in best.plot()] == ["width"]


def test_a_recipe_goes_straight_into_a_trainer(tmp_path: Path) -> None:
    recipe = read_run(write_run(tmp_path / "x")).fit().recipe(width=256)
    recipe.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").recipe == load_recipe(recipe).recipe == recipe
    assert str(recipe).startswith("Recipe for width 256: base lr 0.0")
    assert len(str(recipe)) < 90
    warned = read_run(tmp_path / "x").fit().recipe(width=256, target={"steps": 10**6}).warnings
    assert any("steps" in warning for warning in warned)


@pytest.mark.parametrize("width", [0, -1, "4096", None, 2.5, True])
def test_widths_that_are_none_are_refused(fit: Fit, width: Any) -> None:
    with pytest.raises(InputError, match=r"^width: expected a positive whole number"):
        fit.recipe(width=width)


def test_too_little_evidence_is_said() -> None:
    fit = fit_exponents(frame()[lambda rows: rows["width"] < 256])
    for method in (fit.at, fit.recipe):
        with pytest.raises(InsufficientEvidence, match="lr: "):
            method(4096)
    assert "no exponent of lr: too little evidence" in repr(fit)
    diverged = frame().assign(loss=np.nan)
    with pytest.raises(InsufficientEvidence, match="nothing to draw"):
        fit_exponents(diverged).plot()


def test_an_axis_that_was_not_swept_is_refused(fit: Fit) -> None:
    with pytest.raises(InputError, match=r"^axis 'weight_decay': was not swept"):
        fit.at(64, "weight_decay")
    assert len(fit.trials) == len(WIDTHS) * len(RATES)
