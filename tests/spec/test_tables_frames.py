"""Records and measurements as tables."""

from __future__ import annotations

import math

from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.tables import measurement_frame, trial_frame
from tests.made_up import record


def test_trials_that_ran_and_a_diverged_one_without_a_loss() -> None:
    diverged = {"status": "diverged", "train_loss": None, "eval_loss": None}
    trials = [
        record("a", lr=0.5, eval_loss=2.0),
        record("b", **diverged),
        record("c", **(diverged | {"status": "failed"})),
    ]
    frame = trial_frame(trials)
    assert (frame["lr"][0], frame["eval_loss"][0]) == (0.5, 2.0)
    assert len(frame) == 2
    assert math.isnan(frame["eval_loss"][1])


def test_measurements_with_the_width_and_seed_of_their_trial() -> None:
    trials = [record("a", width=16), record("b", width=32, seed=3)]
    measurements = [
        DiagnosticsRecord(trial="a", step=5, gradient_rms={"w": 1.0, "v": None}),
        DiagnosticsRecord(trial="b", step=6, gradient_rms={"w": 2.0}, activation_rms={"m": 7.0}),
    ]
    frame = measurement_frame(measurements, trials, "gradient_rms")
    assert frame.to_dict("records") == [
        {"trial": "a", "width": 16, "seed": 0, "step": 5, "name": "w", "value": 1.0},
        {"trial": "b", "width": 32, "seed": 3, "step": 6, "name": "w", "value": 2.0},
    ]
