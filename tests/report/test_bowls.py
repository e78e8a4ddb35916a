"""Bowls: the fitted curves go through the points, and the optima lie on them."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mutransfer_cli.report.bowls import bowls_of, curve, figure
from mutransfer_cli.report.run import Run, read_run
from tests.report.runs import WIDTHS, bowl

RunOf = Callable[..., Run]
MEASURED = Path(__file__).parents[2] / "recipes" / "measured"
# of each paper; every one is of a real sweep: one axis, learning rate with weight decay, factors
RECORDS = [
    ("everett", "adafactor-full-mup"),
    ("everett", "adam-full-standard"),
    ("lingle", "baseline"),
    ("lingle", "decay-coupled"),
    ("fan", "sqrt-width"),
]
PIXEL = 1 / 400  # of a figure's width or height


@pytest.fixture(scope="module", params=RECORDS, ids=lambda pair: "-".join(pair))
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    archive, name = request.param
    folder = tmp_path_factory.mktemp("measured")
    with zipfile.ZipFile(MEASURED / f"{archive}.zip") as found:
        return read_run(Path(found.extract(f"{name}.jsonl", folder)))


def test_bowls_are_in_log2(run_of: RunOf) -> None:
    bowls = bowls_of(run_of(), "lr")
    assert [*bowls[16]] == [-9, -8, -7, -6, -5, -4, -3]
    assert bowls[16][-6] == pytest.approx(2.5, abs=0.005)


def test_a_known_bowl_is_drawn(run_of: RunOf) -> None:
    run = run_of()
    for width, at in run.document.axes["lr"].usable.items():
        found = curve(at, bowls_of(run, "lr")[width])
        assert found is not None
        x, y = found
        assert (x[0], x[-1]) == (pytest.approx(-9), pytest.approx(-3))
        assert y == pytest.approx([bowl(width, 2**at, 0.0, 0) for at in x], abs=0.006)


def test_marked_optima_are_the_lowest_points_of_their_curves(measured: Run) -> None:
    seen = 0
    for name, axis in measured.document.axes.items():
        bowls = bowls_of(measured, name)
        canvas = figure(measured, name, axis, bowls).canvas()
        (axes,) = canvas.axes
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        lines = {line.get_label(): line for line in axes.lines}
        bars: list[Any] = [*axes.containers]
        marks = [bar.lines[0].get_xydata()[0] for bar in bars]
        assert len(marks) == len(axis.usable)
        for width, (at, height) in zip(axis.usable, marks, strict=True):
            x, y = map(np.asarray, lines[str(width)].get_data())
            assert abs(x[np.argmin(y)] - at) < PIXEL * (right - left)
            assert abs(np.min(y) - height) < PIXEL * (top - bottom)
            assert 0 < np.argmin(y) < len(y) - 1, "inside the curve"
            seen += 1
    assert seen >= 3


def test_curves_go_through_the_measured_points(measured: Run) -> None:
    """Near the optimum, where the fit has its weight, to a seventh of the bowl's height."""
    for name, axis in measured.document.axes.items():
        for width, cells in bowls_of(measured, name).items():
            found = curve(axis.usable[width], cells) if width in axis.usable else None
            if found is None:
                continue
            x, y = found
            near = {at: mean for at, mean in cells.items() if x[0] <= at <= x[-1]}
            away = np.interp([*near], x, y) - [*near.values()]
            assert np.median(np.abs(away)) < np.ptp(y) / 7, (name, width)


def test_a_sweep_without_optima_is_joined_by_dashes(run_of: RunOf) -> None:
    run = run_of(rates=[2**-2, 2**-1, 1.0, 2.0])
    drawn = figure(run, "lr", run.document.axes["lr"], bowls_of(run, "lr"))
    assert drawn.caption.startswith("No width has a usable optimum of lr; dashes")
    (axes,) = drawn.canvas().axes
    dashed = [np.asarray(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"]
    assert [x.tolist() for x in dashed] == [[-2, -1, 0, 1]] * len(WIDTHS)
    assert drawn.inline().count("no usable optimum</title>") == len(WIDTHS)


def test_dashes_lead_to_what_a_curve_was_not_fitted_to(run_of: RunOf) -> None:
    run = run_of(rates=[2.0**x for x in range(-12, 1)])
    (axes,) = figure(run, "lr", run.document.axes["lr"], bowls_of(run, "lr")).canvas().axes
    curves = [np.asarray(x.get_xdata()) for x in axes.lines if x.get_label() in {*map(str, WIDTHS)}]
    dashes = [np.asarray(x.get_xdata()) for x in axes.lines if x.get_linestyle() == "--"]
    before, after = dashes[:2]
    assert (before[0], before[-1]) == (-12, curves[0][0])
    assert (after[0], after[-1]) == (curves[0][-1], 0)


def test_values_appear_on_hover(run_of: RunOf) -> None:
    def loss(width: int, lr: float, decay: float, seed: int) -> float | None:
        return None if lr >= 2**-4 else bowl(width, lr, decay, seed)

    run = run_of(loss=loss)
    drawing = figure(run, "lr", run.document.axes["lr"], bowls_of(run, "lr")).inline()
    shown = re.findall(r"<title>([^<]*)</title>", drawing)
    assert re.fullmatch(r"width 16, lr 0.00195 \(2\^-9\): 2\.\d\d\d", shown[0])
    assert "width 128, lr 0.0625 (2^-4): diverged" in shown
    assert "width 64" in shown, "the curve"
    best = [text for text in shown if text.startswith("width 32, best lr 0.015")]
    assert len(best) == 1
    assert len(shown) == len(WIDTHS) * (7 + 1 + 1)


def test_widths_are_named_at_their_lines(run_of: RunOf) -> None:
    run = run_of()
    canvas = figure(run, "lr", run.document.axes["lr"], bowls_of(run, "lr")).canvas()
    texts = [text.get_text() for text in canvas.axes[0].texts]
    assert texts == [*map(str, WIDTHS), "width"]
    assert canvas.axes[0].get_legend() is None
    assert math.isfinite(sum(canvas.axes[0].get_xlim()))


def test_a_curve_ends_where_runs_diverge(run_of: RunOf) -> None:
    run = run_of(loss=lambda width, lr, *more: None if lr >= 2**-3 else bowl(width, lr, *more))
    at, cells = run.document.axes["lr"].usable[64], bowls_of(run, "lr")[64]
    assert np.isinf(cells[-3.0])
    found = curve(at, cells)
    assert found is not None
    assert found[0][-1] == pytest.approx(-4)
