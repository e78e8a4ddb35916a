"""Curves, diagnostics and slopes of the measurements made during training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.check.measure import gate, measure, unmeasured
from mutransfer_cli.report import training
from mutransfer_cli.report.run import Run
from mutransfer_cli.spec.measurements import CurveRecord, DiagnosticsRecord
from tests.report.runs import WIDTHS, bowl

RunOf = Callable[..., Run]


def curve(losses: list[float | None]) -> CurveRecord:
    return CurveRecord(trial="t", step=tuple(range(1, len(losses) + 1)), train_loss=tuple(losses))


def test_a_curve_is_a_running_mean_over_a_tenth_of_its_points() -> None:
    x, y = training.smoothed(curve([float(i) for i in range(20)]))
    assert x.tolist() == list(range(1, 21))
    assert y.tolist() == [0.0, *(i - 0.5 for i in range(1, 20))], "the window is 2 points"


def test_a_curve_ends_before_its_first_loss_that_is_not_finite() -> None:
    x, y = training.smoothed(curve([3.0, 2.0, None, 1.0]))
    assert (x.tolist(), y.tolist()) == ([1, 2], [3.0, 2.0])
    assert len(training.smoothed(curve([None, 1.0]))[0]) == 0


def test_lowest_median_and_highest_loss(run_of: RunOf) -> None:
    records = run_of().records
    assert records is not None
    trial, steps = records.trials[0], np.arange(1.0, 1001.0)
    lines = [(trial, steps, np.full(1000, level)) for level in (1.0, 2.0, 9.0)]
    lines.append((trial, steps[:500], np.full(500, 30.0)))
    x, (lowest, median, highest) = training.spread(lines)
    assert (x[0], x[-1], len(x)) == (1, 1000, training.PLACES)
    assert set(lowest) == {1.0}
    assert (median[0], median[-1]) == (5.5, 2.0)
    assert (highest[0], highest[-1]) == (30.0, 9.0), "as far as each curve reaches"


def test_the_last_measurement_and_the_one_halfway() -> None:
    found = [DiagnosticsRecord(trial="a", step=step) for step in (0, 30, 60, 100)]
    found.append(DiagnosticsRecord(trial="b", step=0))
    assert {(one.trial, one.step) for one in training.last(found)} == {("a", 100), ("b", 0)}
    assert [(one.trial, one.step) for one in training.halfway(found)] == [("a", 60)]


def test_curves_of_each_width(run_of: RunOf) -> None:
    figures = training.curves(run_of())
    assert [one.key for one in figures] == [f"curves-{width}" for width in WIDTHS]
    assert figures[0].words.startswith("14 trials, 0 diverged. Best: eval loss 2.4")
    assert training.curves(run_of(measured=False)) == []


def test_a_panel_shows_the_best_the_median_and_the_diverged(run_of: RunOf) -> None:
    def loss(width: int, lr: float, decay: float, seed: int) -> float | None:
        return None if lr >= 2**-4 else bowl(width, lr, decay, seed)

    panel = training.curves(run_of(loss=loss))[0]
    assert panel.words.startswith("14 trials, 4 diverged (lr 0.0625, 0.125). Best: eval loss 2.49")
    (axes,) = panel.canvas().axes
    assert [text.get_text() for text in axes.texts] == ["median", "best"]
    assert len(axes.collections) == 1, "the range"
    assert sum(line.get_marker() == "x" for line in axes.lines) == 4
    drawing = panel.inline()
    assert "<title>lr 0.0625 (2^-4): diverged at step 7</title>" in drawing
    assert "<title>median of 10 trials</title>" in drawing


def test_a_width_at_which_everything_diverged_has_a_panel(run_of: RunOf) -> None:
    panel = training.curves(run_of(loss=lambda *_: None))[0]
    assert (
        panel.words
        == "14 trials, 14 diverged (lr 0.00195, 0.00391, 0.00781, 0.0156, 0.0312, 0.0625, 0.125)."
    )
    assert panel.inline().count("diverged at step 7") == 14


def test_diagnostics_are_medians_of_roles(run_of: RunOf) -> None:
    figures = {one.key: one.words for one in training.diagnostics(run_of())}
    assert figures == {
        "alignment": "readout: 0.800 at width 16, 0.800 at width 128.",
        "top_singular_value": (
            "embedding: 2.00 at width 16, 2.00 at width 128; "
            "hidden: 3.00 at width 16, 3.00 at width 128."
        ),
        "relative_update": "hidden: 0.0100 at width 16, 0.0100 at width 128.",
    }


def test_activations_module_by_module(run_of: RunOf) -> None:
    words = [one.words for one in training.coordinates(run_of())]
    assert words == [
        "blocks.0: 1.00 at width 16, 1.00 at width 128.",
        "blocks.0: 4.00 at width 16, 11.3 at width 128.",
        "blocks.0: 2.00 at width 16, 3.36 at width 128.",
    ]
    both = "+0.50 (+0.50 to +0.50)", "+0.25 (+0.25 to +0.25)"
    assert training.activation_slopes(run_of()) == {"blocks.0": both}


def test_nothing_was_measured(run_of: RunOf) -> None:
    run = run_of(measured=False)
    assert training.diagnostics(run) == training.coordinates(run) == []
    assert training.activation_slopes(run) == {}


def test_neutral_values_are_not_named(run_of: RunOf) -> None:
    assert training.base_values(run_of()) == ["lr 0.0156 (2^-6)"]
    assert training.base_values(run_of(widths=[32])) == []


@pytest.mark.parametrize("name", ["coordinates", "spectrum"])
def test_slopes_that_were_checked(run_of: RunOf, name: str) -> None:
    flat = measure("change of blocks.0, slope in width", 0.01, (0, 0.02), 0, 0.25)
    unseen = unmeasured("change of blocks.1, slope in width", "it is not finite", 0, 0.25, "")
    asked = gate(name, [flat, unseen], evidence={"widths": "64, 128"})  # type: ignore[arg-type]
    run = run_of(gates=(asked,), measured=False)
    figures = training.checked_slopes(run.check)
    assert [one.words for one in figures] == ([flat.sentence] if name == "coordinates" else [])
    assert all("widths 64, 128; " in one.caption for one in figures)
    assert training.checked_slopes(None) == []


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (2.5, 3.3, ["2.50", "3.00", "3.50"]),  # hardly a power of two
        (0.4, 9.0, ["0.500", "1.00", "2.00", "4.00", "8.00"]),
        (2.0**-9, 2.0**-7, ["2⁻⁹", "2⁻⁸", "2⁻⁷"]),
    ],
)
def test_the_axis_of_a_measurement_has_digits(low: float, high: float, labels: list[str]) -> None:
    lines = pd.DataFrame({"name": "hidden", "width": [16, 64], "value": [low, high]})
    (drawn,) = training._against_width("key", "title", "label", "caption", lines)
    (axes,) = drawn.canvas().axes
    bottom, top = axes.get_ylim()
    seen = [y for y in axes.get_yticks() if bottom <= y <= top]
    assert [axes.yaxis.get_major_formatter()(y) for y in seen] == labels
