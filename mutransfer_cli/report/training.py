"""Figures of what was measured in training: loss curves, diagnostics and the coordinate check."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mutransfer_cli.check.coordinates import width_slopes
from mutransfer_cli.check.measure import Check
from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.ends import name_ends
from mutransfer_cli.report.palette import Palette
from mutransfer_cli.report.run import Run
from mutransfer_cli.spec.measurements import CurveRecord, DiagnosticsRecord
from mutransfer_cli.spec.records import TrialRecord
from mutransfer_cli.spec.tables import measurement_frame
from mutransfer_cli.words import digits, loss, raised, rate, rate_and_power, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[TrialRecord, Array, Array]  # a trial, steps and smoothed losses

PLACES = 60  # points of a drawn curve
SMOOTHED = 0.1  # of a curve's points
LOW = 150.0  # height of a panel, points
SMALL = 0.02  # below, powers of two are read more easily than digits
LINES = ("-", "--", "-.", ":")

# field of the record, title of the figure and label of its axis
BY_ROLE = (
    ("alignment", "Alignment at the end", "log-alignment ratio"),
    ("top_singular_value", "Top singular values at the end", "top singular value"),
    ("relative_update", "Relative updates halfway", "|dW| / |W| of a step"),
    ("gradient_rms", "Gradients halfway", "RMS of the gradient"),
)
HALFWAY = ("relative_update", "gradient_rms")  # at the end of a run the rate is near 0
RMS, CHANGE = "activation_rms", "activation_change_rms"
BY_MODULE = (
    (RMS, "Activations at init", "RMS of the output"),
    (RMS, "Activations at the end", "RMS of the output"),
    (CHANGE, "Change of activations from init to the end", "RMS of the change"),
)


def curves(run: Run) -> list[svg.Figure]:
    """Training losses, a panel for each width; all share one axis of losses.

    A table of own results has none.
    """
    if run.records is None:
        return []
    trials = {trial.trial: trial for trial in run.records.trials}
    lines = [(trials[curve.trial], *smoothed(curve)) for curve in run.curves]
    whole = [y for trial, _, y in lines if trial.status == "ok" and len(y)]
    view = _view(whole or [y for _, _, y in lines if len(y)])
    widths = sorted({trial.width for trial, *_ in lines})
    return [
        _panel(width, [line for line in lines if line[0].width == width], widths, view, run.unit)
        for width in widths
    ]


def smoothed(curve: CurveRecord) -> tuple[Array, Array]:
    """Steps and running means of the losses before the first that is not finite."""
    y = np.array([math.nan if loss is None else loss for loss in curve.train_loss])
    count = int(np.argmin(np.append(np.isfinite(y), False)))
    smooth = pd.Series(y[:count]).rolling(max(1, round(SMOOTHED * len(y))), min_periods=1).mean()
    return np.array(curve.step[:count], dtype=float), smooth.to_numpy()


def spread(lines: Sequence[Curve]) -> tuple[Array, Array]:
    """Steps, and the lowest, median and highest loss there: [PLACES] and [3, PLACES].

    A trial counts as far as its curve reaches.
    """
    reached = np.unique(np.concatenate([x for _, x, _ in lines]))
    steps = reached[np.unique(np.linspace(0, len(reached) - 1, PLACES).round().astype(int))]
    losses = np.stack([np.interp(steps, x, y, np.nan, np.nan) for _, x, y in lines])
    return steps, np.nanquantile(losses, (0.0, 0.5, 1.0), axis=0)


def _view(lines: Sequence[Array]) -> tuple[float, float]:
    """Range of losses shown: the start of a run, a fifth of it, does not raise its upper end."""
    if not lines:
        return 0.0, 1.0
    bottom = min(float(y.min()) for y in lines)
    top = float(max(y[len(y) // 5] for y in lines))
    return bottom - 0.04 * (top - bottom) - 1e-9, top + 0.04 * (top - bottom) + 1e-9


def _panel(
    width: int,
    lines: Sequence[Curve],
    widths: Sequence[int],
    view: tuple[float, float],
    unit: str,
) -> svg.Figure:
    """The best trial, the median and the range of those that ended, and crosses where others
    diverged."""
    lost = [trial for trial, *_ in lines if trial.status == "diverged"]
    ended = [line for line in lines if line[0].eval_loss is not None and len(line[1])]
    best = min(ended, key=lambda line: line[0].eval_loss or math.inf, default=None)
    top = view[1] - 0.04 * (view[1] - view[0])

    def draw(axes: Axes, colours: Palette) -> None:
        colour = colours.step(widths.index(width), len(widths))
        axes.set(ylim=view, xlabel="step", ylabel=f"train loss ({unit})")
        axes.set_xlim(0, max([trial.steps for trial, *_ in lines]))
        axes.locator_params(axis="x", integer=True)
        for trial in lost:
            look: svg.Look = {"color": colours.hue(1), "markersize": 4.0, "zorder": 4}
            (cross,) = axes.plot([trial.diverged_at or 0], [top], "x", clip_on=False, **look)
            svg.hover(cross, f"lr {rate_and_power(trial.lr)}: diverged at step {trial.diverged_at}")
        if best is not None:
            steps, (lowest, median, highest) = spread(ended)
            axes.fill_between(steps, lowest, highest, color=colour, alpha=0.18, linewidth=0)
            (middle,) = axes.plot(steps, median, color=colours.faint, linewidth=0.8)
            svg.hover(middle, f"median of {len(ended)} trials")
            (line,) = axes.plot(*best[1:], color=colour, linewidth=1.4)
            svg.hover(line, f"{_trial(best[0])}: eval loss {loss(best[0].eval_loss)}")
            name_ends(axes, [middle, line], ["median", "best"])

    words = f"{len(lines)} trials, {len(lost)} diverged"
    if lost:
        words += f" (lr {', '.join(map(rate, sorted({trial.lr for trial in lost})))})"
    if best is not None:
        words += f". Best: eval loss {loss(best[0].eval_loss)} at {_trial(best[0])}"
    title = f"Training at width {width}"
    return svg.figure(f"curves-{width}", title, f"{words}.", draw, height=LOW)


def _trial(trial: TrialRecord) -> str:
    return f"lr {rate_and_power(trial.lr)}, seed {trial.seed}"


def base_values(run: Run) -> list[str]:
    """The hyperparameters at which widths are compared, without those at their neutral value."""
    neutral = {"weight_decay": 0.0}
    return [
        f"{name} {rate_and_power(value)}"
        for name, value in (run.compared[0].axes.items() if run.compared else ())
        if name == "lr" or value != neutral.get(name, 1.0)
    ]


def diagnostics(run: Run) -> list[svg.Figure]:
    """Medians over the parameters of a role, means over seeds, against width."""
    roles = {one.name: str(one.role) for one in run.document.base_plan}
    drawn = []
    for field, title, label in BY_ROLE:
        rows = halfway(run.diagnostics) if field in HALFWAY else last(run.diagnostics)
        values = measurement_frame(rows, run.compared, field)
        values = values.assign(name=values["name"].map(roles))
        medians = values.groupby(["trial", "width", "name"], sort=False)["value"].median()
        caption, log = "Median of each role, mean over seeds.", field != "alignment"
        drawn += _against_width(field, title, label, caption, medians.reset_index(), log=log)
    return drawn


def coordinates(run: Run) -> list[svg.Figure]:
    """RMS of activations and of their changes against width, module by module."""
    init, end = [one for one in run.diagnostics if one.step == 0], last(run.diagnostics)
    caption = "Root mean square, module by module; a flat line does not depend on width."
    drawn: list[svg.Figure] = []
    for (field, title, label), rows in zip(BY_MODULE, (init, end, end), strict=True):
        values = measurement_frame(rows, run.compared, field)
        key = f"coordinates-{len(drawn)}"
        drawn += _against_width(key, title, label, caption, values, ordered=True)
    return drawn


def last(found: Sequence[DiagnosticsRecord]) -> list[DiagnosticsRecord]:
    """The last measurement of each trial."""
    return list({record.trial: record for record in sorted(found, key=lambda r: r.step)}.values())


def halfway(found: Sequence[DiagnosticsRecord]) -> list[DiagnosticsRecord]:
    """The measurement of each trial nearest to half of its steps, apart from that of its init."""
    middle = {record.trial: record.step / 2 for record in last(found)}
    later = [record for record in found if record.step > 0]
    later.sort(key=lambda record: -abs(record.step - middle[record.trial]))
    return list({record.trial: record for record in later}.values())


def _against_width(
    key: str,
    title: str,
    label: str,
    caption: str,
    values: pd.DataFrame,
    log: bool = True,
    ordered: bool = False,
) -> list[svg.Figure]:
    """Draw a line for each name, the mean over seeds at each width; nothing without values.

    Args:
        values: columns name, width and value.
        ordered: the names have an order, which colours show.
    """
    means = values.groupby(["name", "width"], sort=False)["value"].mean()
    lines = {
        str(name): one.droplevel("name").sort_index()
        for name, one in means.groupby(level="name", sort=False)
    }
    if not lines:
        return []
    values_by_width = {
        name: f"{name}: {digits(line.iloc[0], 3)} at width {line.index[0]}, "
        f"{digits(line.iloc[-1], 3)} at width {line.index[-1]}"
        for name, line in lines.items()
    }

    def draw(axes: Axes, colours: Palette) -> None:
        drawn = []
        for i, (name, line) in enumerate(lines.items()):
            shown = line[line > 0] if log else line
            style: svg.Look = {"marker": "o", "linestyle": LINES[0 if ordered else i % len(LINES)]}
            colour = colours.step(i, len(lines)) if ordered else colours.hue(i)
            drawn += axes.plot(np.log2(shown.index), shown, color=colour, **style)
            svg.hover(drawn[-1], values_by_width[name])
        marks.width_axis(axes, sorted(set(means.index.get_level_values("width"))))
        if log:
            axes.set_yscale("log", base=2)
            low, high = axes.get_ylim()
            axes.set_ylim(low / 1.15, high * 1.15)
            _log_ticks(axes)
        axes.set_ylim(axes.get_ylim())
        axes.set_ylabel(label)
        name_ends(axes, drawn, [*lines])

    return [svg.figure(key, title, caption, draw, f"{'; '.join(values_by_width.values())}.")]


def _log_ticks(axes: Axes) -> None:
    """Label y at powers of two, or where there are not two in view at round values."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    low, high = axes.get_ylim()
    powers = math.floor(math.log2(high)) - math.ceil(math.log2(low)) + 1
    if powers < 2:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    small = low < SMALL and powers > 1
    axes.yaxis.set_major_formatter(lambda y, _: raised(math.log2(y)) if small else rate(y))
    axes.yaxis.set_minor_locator(NullLocator())


def activation_slopes(run: Run) -> dict[str, tuple[str, str]]:
    """Slopes in width of activations and of their change, by module: mean and range over seeds."""
    found = defaultdict[str, dict[str, str]](dict)
    for field in (RMS, CHANGE):
        frame = measurement_frame(last(run.diagnostics), run.compared, field)
        frame = frame[frame["value"] > 0]
        enough = frame.groupby(["name", "seed"])["width"].transform("nunique") > 1
        if not enough.any():
            continue
        for name, each in width_slopes(frame[enough]).groupby("name", sort=False):
            text = signed(each.mean(), 2)
            if len(each) > 1:
                text += f" ({signed(each.min(), 2)} to {signed(each.max(), 2)})"
            found[str(name)][field] = text
    return {name: (at.get(RMS, ""), at.get(CHANGE, "")) for name, at in found.items()}


def checked_slopes(check: Check | None) -> list[svg.Figure]:
    """The slopes that gate `coordinates` measured; none without that gate."""
    asked = [gate for gate in check.gates if gate.gate == "coordinates"] if check else []
    widths = "".join(f"widths {g.evidence['widths']}; " for g in asked if "widths" in g.evidence)
    caption = f"Gate coordinates, {widths}dot and bar: slope and 95% interval; shaded: tolerance."
    drawn = [
        marks.Estimate(name, *at, one.expected, one.tolerance, one.verdict, one.sentence)
        for gate in asked
        for one in gate.measures
        if one.value is not None and one.low is not None and one.high is not None
        for at in [(one.value, one.low, one.high)]
        for name in [one.quantity.removesuffix(", slope in width")]
    ]
    title = "Slopes in width with their intervals"
    return marks.intervals("slopes", title, caption, "slope in width", drawn)
