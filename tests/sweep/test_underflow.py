"""Gradients that Adam's epsilon hides: their roles and widths, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.spec.records import TrialRecord
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.underflow import underflow_warnings
from mutransfer_cli.sweep.worker import failed_record

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTHS, BASE_WIDTH = (16, 32, 64), 16


@pytest.fixture
def raw(tiny: dict[str, Any]) -> dict[str, Any]:
    """A spec of two rates and eps 1e-6, which `per_layer` lowers as 1 / width in hidden layers."""
    tiny["sweep"] = {"widths": list(WIDTHS), "axes": {"lr": [2**-8, 2**-7]}}
    tiny["optimizer"] = {"name": "adamw", "eps": 1e-6}
    return tiny


def warnings(sweep: Sweep, folder: Path, hidden: dict[int, float], other: float = 1.0) -> list[str]:
    """Return the warnings for two trials at each width with made-up gradients.

    The better trial ends with hidden gradients of RMS `hidden[width]`, the other with `other`; all
    other roles have gradients of 1.
    """
    records: dict[str, TrialRecord] = {}
    lines = []
    for width, trials in sweep.trials.items():
        ends = zip(trials, (2.0, 3.0), (hidden[width], other), strict=True)
        for trial, loss, gradient in ends:
            done = {"status": "ok", "train_loss": loss, "eval_loss": loss, "error": None}
            failed = failed_record(sweep.protocol, trial, "g", "")
            records[trial.id] = failed.model_copy(update=done)
            roles = {p.name: p.role for p in sweep.base_plan}
            sizes = {name: gradient if role == "hidden" else 1.0 for name, role in roles.items()}
            lines += [
                {"trial": trial.id, "step": 5, "gradient_rms": dict.fromkeys(roles, 0.0)},
                {"trial": trial.id, "step": 10, "gradient_rms": sizes},
            ]
    path = folder / "diagnostics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return underflow_warnings(sweep, records, path)


def test_none_where_gradients_are_ten_times_eps(
    raw: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    assert warnings(prepare(raw), tmp_path, dict.fromkeys(WIDTHS, 1.001e-5)) == []


def test_the_role_its_widths_and_the_rule_that_mends_it(
    raw: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    """The gradients scale as 1 / width, as eps per layer does."""
    falling = {16: 1.8e-5, 32: 0.9e-5, 64: 0.45e-5}
    assert warnings(prepare(raw), tmp_path, falling) == [
        "hidden, widths 32 to 64: gradients of RMS 4.5e-06 (width 64) are less than 10 times eps, "
        "1.0e-06, which makes the updates smaller than the rule says; set "
        "parameterization.epsilon: per_layer, or choose optimizer adam_atan2, which has no eps"
    ]


def test_a_smaller_eps_where_the_rule_would_not_do(
    raw: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    """Both rules agree at the base width, and 3e-7 is a tenth of the gradient there."""
    falling = {16: 3e-6, 32: 1e-3, 64: 1e-3}
    (found,) = warnings(prepare(raw), tmp_path, falling)
    assert found.startswith("hidden, width 16: gradients of RMS 3.0e-06 (width 16)")
    assert found.endswith(
        "set optimizer.eps to at most 3.0e-07, or choose optimizer adam_atan2, which has no eps"
    )
    raw["optimizer"]["eps"] = 3e-7
    assert warnings(prepare(raw), tmp_path, falling) == []


def test_with_eps_per_layer_it_is_that_which_counts(
    raw: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    raw["parameterization"]["epsilon"] = "per_layer"
    assert warnings(prepare(raw), tmp_path, {16: 1.8e-5, 32: 0.9e-5, 64: 0.45e-5}) == []
    (found,) = warnings(prepare(raw), tmp_path, {16: 1e-3, 32: 1e-3, 64: 0.5e-6})
    assert "hidden, width 64: gradients of RMS 5.0e-07 (width 64) are less than" in found
    assert "times eps, 2.5e-07" in found
    assert "set optimizer.eps to at most 2.0e-07, or choose" in found


def test_muon_is_not_told_to_take_another_optimizer(
    raw: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    """Muon divides no gradient of hidden matrices; its eps is that of the other roles."""
    raw["optimizer"] = {"name": "muon", "eps": 1.0}
    found = warnings(prepare(raw), tmp_path, dict.fromkeys(WIDTHS, 1e-9))
    assert [sentence.split(",")[0] for sentence in found] == ["embedding", "readout"]
    assert all(sentence.endswith("set optimizer.eps to at most 1.0e-01") for sentence in found)


@pytest.mark.parametrize("name", ["adam_atan2", "sgd", "lion"])
def test_none_for_an_optimizer_without_eps(
    raw: dict[str, Any], prepare: Prepare, tmp_path: Path, name: str
) -> None:
    raw["optimizer"] = {"name": name}
    assert warnings(prepare(raw), tmp_path, dict.fromkeys(WIDTHS, 1e-30)) == []


def test_a_worse_trial_says_nothing(raw: dict[str, Any], prepare: Prepare, tmp_path: Path) -> None:
    """Too high a rate can leave a net without gradients."""
    fine = dict.fromkeys(WIDTHS, 1.0)
    assert warnings(prepare(raw), tmp_path, fine, other=1e-20) == []
