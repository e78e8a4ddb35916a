"""A tied weight moves what it embeds and the logits alike at all widths, by its two multipliers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.check.coordinates import slopes_of
from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.rules.choices import ParameterizationName
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.coordinates import coordinates_at, few_steps
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU
from tests.proxies.tied_plans import WTE, spec_of

WIDTHS, SEEDS = (64, 128, 256), (0, 1)


def measured(sweep: Sweep, output: bool = True) -> dict[tuple[str, str], tuple[float, float]]:
    """Slope and expected slope of everything that is judged.

    Args:
        output: whether the weight has its output multiplier; otherwise it has its multiplier twice.
    """
    text, found = DeviceText.on(CPU, sweep.corpus), []
    for width, trials in sweep.trials.items():
        plan = sweep.trial_plan(trials[0])
        if not output:
            plan = tuple(
                replace(p, output_multiplier=p.multiplier) if p.name == WTE else p for p in plan
            )
        found.append(coordinates_at(sweep, text, width, SEEDS, plan))
    return {
        (one.quantity, one.place): (sum(one.by_seed) / len(one.by_seed), one.expected)
        for one in slopes_of(pd.concat(found))
        if one.judged and one.by_seed
    }


@pytest.mark.parametrize("name", ["mup", "mean_field"])
def test_slopes_of_a_tied_model_are_those_of_the_rule(
    tiny: dict[str, Any], tmp_path: Path, name: ParameterizationName
) -> None:
    tiny["parameterization"]["name"] = name
    spec = validated(SweepSpec, spec_of(tiny), "test")
    sweep = Sweep.prepare(few_steps(spec, WIDTHS, SEEDS, {"lr": 2**-8}), tmp_path)
    found = measured(sweep)
    assert {("change", "transformer.wte"), ("effective", WTE), ("init", "lm_head")} <= found.keys()
    assert found["init", "lm_head"][1] == -0.5
    for place, (slope, expected) in found.items():
        assert slope == pytest.approx(expected, abs=0.2), place
    without = measured(sweep, output=False)
    assert without["effective", WTE][0] > 0.6, "logits blow up as width grows"
