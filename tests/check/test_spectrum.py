"""Gate `spectrum`: the exponent of top singular values."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from mutransfer_cli.check.spectrum import hidden_at_end, spectrum_gate
from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.records import Records


def values(power: float, widths: tuple[int, ...] = (32, 64, 128), seeds: int = 2) -> pd.DataFrame:
    """Two matrices whose top singular values are powers of the width; seeds differ by a factor."""
    rows = [
        {"name": name, "seed": seed, "width": width, "value": (1 + seed) * width**power}
        for name in ("up", "down")
        for seed in range(seeds)
        for width in widths
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("power", "verdict"), [(0.0, "pass"), (0.05, "pass"), (0.25, "fail")])
def test_the_exponent_is_judged(power: float, verdict: str) -> None:
    gate = spectrum_gate(values(power))
    assert gate.verdict == verdict
    assert gate.measures[0].value == pytest.approx(power, abs=1e-12)
    assert gate.evidence == {"widths": "32, 64, 128"}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (values(0.0, widths=(32,)), "it takes two widths or more with diagnostics, there are 1"),
        (values(0.0, seeds=1).query("name == 'up'"), "it takes two matrices or seeds"),
    ],
)
def test_too_little_to_judge_is_inconclusive(found: pd.DataFrame, why: str) -> None:
    gate = spectrum_gate(found)
    assert gate.verdict == "inconclusive"
    assert why in gate.measures[0].sentence


def test_the_last_measurement_of_hidden_matrices_counts(made: Callable[..., Records]) -> None:
    records = made()
    hidden = {p.name for p in records.header.base_plan if p.role == "hidden"}
    names = [p.name for p in records.header.base_plan]
    trials = records.trials[:2]
    measurements = [
        DiagnosticsRecord(
            trial=trials[0].trial, step=step, top_singular_value=dict.fromkeys(names, 1.0 + step)
        )
        for step in (0, 10)
    ]
    found = hidden_at_end(records, trials, measurements)
    assert set(found["name"]) == hidden
    assert set(found["value"]) == {11.0}
    assert set(found["width"]) == {trials[0].width}
