"""What was measured in training, against width: by role, and module by module."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mutransfer_cli.files.diagnostics import DiagnosticsRecord, Values, by_role
from mutransfer_cli.files.frames import measurement_frame
from mutransfer_cli.files.records import Records, TrialRecord
from mutransfer_cli.fit.slopes import width_slopes
from mutransfer_cli.report.checked import slopes
from mutransfer_cli.report.html import left_out, power, section, signed, table
from mutransfer_cli.report.run import Run
from mutransfer_cli.report.svg import Look, hue, legend_below, marker, picture, scale, width_axis
from mutransfer_cli.rules.plan import AxisName

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_FILE = (
    "Left out: no diagnostics.jsonl lies beside the records, or it holds none of these trials."
)
SMALL = 0.02  # below, powers of two are read more easily than their digits
LINES = ("-", "--", "-.", ":")
Points = Mapping[str, Mapping[int, float]]  # by name and width


@dataclass(frozen=True)
class Quantity:
    """
    Attributes:
        field: of the record.
        meaning: for who does not know the quantity.
        half_way: taken at the measurement nearest to half of the run, because at its end the rate
            is near 0.
    """

    field: str
    title: str
    label: str
    meaning: str
    half_way: bool = False
    log: bool = True


BY_ROLE = (
    Quantity(
        "alignment",
        "Alignment",
        "log-alignment ratio",
        "Of a matrix with its inputs: 1/2 where they are independent, 1 where they line up.",
        log=False,
    ),
    Quantity(
        "top_singular_value",
        "Top singular values",
        "top singular value",
        "Of a matrix as it acts, its multiplier included.",
    ),
    Quantity(
        "relative_update",
        "Relative updates",
        "|dW| / |W| of a step",
        "By what share of its size one step changes a matrix.",
        half_way=True,
    ),
    Quantity(
        "gradient_rms",
        "Gradients",
        "RMS of the gradient",
        "Root mean square of what the optimizer got, after clipping.",
        half_way=True,
    ),
)


def compared_trials(records: Records) -> list[TrialRecord]:
    """The trials of one set of hyperparameters that were run at all widths and diverged at none:
    of several the one with the least mean eval loss. None where there is no such set, or one width.
    """
    widths = {trial.width for trial in records.trials}
    sets: dict[tuple[str, ...], list[TrialRecord]] = defaultdict(list)
    for trial in records.trials:
        sets[tuple(f"{value:.9g}" for value in trial.axes.values())].append(trial)
    whole = [
        trials
        for trials in sets.values()
        if {trial.width for trial in trials} == widths
        and all(trial.eval_loss is not None for trial in trials)
    ]
    if not whole or len(widths) < 2:
        return []
    return min(whole, key=lambda trials: fmean(trial.eval_loss or 0.0 for trial in trials))


def diagnostics(run: Run) -> str:
    """Medians over the parameters of a role, means over seeds."""
    key, title = "diagnostics", "Diagnostics against width"
    trials = compared_trials(run.records)
    if not trials:
        return left_out(key, title, NOT_COMPARED)
    if not run.diagnostics:
        return left_out(key, title, NO_FILE)
    roles = {parameter.name: parameter.role for parameter in run.records.header.base_plan}

    def of_roles(values: Values) -> Mapping[str, float]:
        known_roles = {name: value for name, value in values.items() if name in roles}
        return {str(role): value for role, value in by_role(known_roles, roles).items()}

    drawn = []
    for one in BY_ROLE:
        rows = half_way(run.diagnostics) if one.half_way else last(run.diagnostics)
        points = by_width(rows, trials, one.field, of_roles)
        if points:
            when = "half-way" if one.half_way else "at the end"
            caption = f"{one.meaning} Median of each role, mean over seeds."
            styles = {name: hue(i) for i, name in enumerate(points)}
            drawn.append(
                _lines(
                    one.field, f"{one.title} {when}", one.label, points, styles, caption, one.log
                )
            )
    return section(key, title, _at(trials[0].axes), *drawn)


def coordinates(run: Run) -> str:
    """Sizes of activations and of their change, module by module, with their slopes in width."""
    key, title = "coordinates", "Coordinate check"
    trials, checked = compared_trials(run.records), slopes(run.check)
    if not trials or not run.diagnostics:
        why = NO_FILE if trials else NOT_COMPARED
        return section(key, title, why, checked) if checked else left_out(key, title, why)
    start = [record for record in run.diagnostics if record.step == 0]
    end = last(run.diagnostics)
    drawn: list[str] = []
    for when, rows, field, name in (
        ("at init", start, "activation_rms", "Activations"),
        ("at the end", end, "activation_rms", "Activations"),
        ("from init to the end", end, "activation_change_rms", "Change of activations"),
    ):
        points = by_width(rows, trials, field, known)
        if points:
            styles = {module: scale(i, len(points)) for i, module in enumerate(points)}
            label = "RMS of the change" if "change" in field else "RMS of the output"
            caption = "Root mean square, module by module; a flat line does not depend on width."
            anchor = f"coordinates-{len(drawn)}"
            drawn.append(_lines(anchor, f"{name} {when}", label, points, styles, caption))
    trained = table(
        "Slopes of log RMS in log width at the end: mean over seeds (least to greatest)",
        ("module", "activations", "their change"),
        _slopes(end, trials),
    )
    note = (
        _at(trials[0].axes)
        + " After training, slopes near 0 are those of a parameterization that transfers."
    )
    return section(key, title, note, checked, *drawn, trained)


NOT_COMPARED = (
    "Left out: no hyperparameters were run at all widths, two at least, without a divergence."
)


def _at(axes: Mapping[AxisName, float]) -> str:
    neutral = {"weight_decay": 0.0}
    shown = [
        f"{name} {power(value)}"
        for name, value in axes.items()
        if name == "lr" or value != neutral.get(name, 1.0)
    ]
    return (
        f"Measured at the same base values at every width, {', '.join(shown)}: of those that were "
        "run at all widths without divergence the ones with the least mean loss."
    )


def known(values: Values) -> Mapping[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def last(found: Sequence[DiagnosticsRecord]) -> list[DiagnosticsRecord]:
    """The last measurement of each trial."""
    return list({record.trial: record for record in sorted(found, key=lambda r: r.step)}.values())


def half_way(found: Sequence[DiagnosticsRecord]) -> list[DiagnosticsRecord]:
    """The measurement of each trial nearest to half of its steps, after its init."""
    middle = {record.trial: record.step / 2 for record in last(found)}
    later = [record for record in found if record.step > 0]
    later.sort(key=lambda record: -abs(record.step - middle[record.trial]))
    return list({record.trial: record for record in later}.values())


def by_width(
    rows: Sequence[DiagnosticsRecord],
    trials: Sequence[TrialRecord],
    field: str,
    names: Callable[[Values], Mapping[str, float]],
) -> Points:
    """Means over seeds, by name and width."""
    width_of = {trial.trial: trial.width for trial in trials}
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in rows:
        if record.trial in width_of:
            for name, value in names(getattr(record, field)).items():
                found[name][width_of[record.trial]].append(value)
    return {
        name: {width: fmean(values) for width, values in sorted(at.items())}
        for name, at in found.items()
    }


def _lines(
    key: str,
    title: str,
    label: str,
    points: Points,
    colours: Mapping[str, str],
    caption: str,
    log: bool = True,
) -> str:
    widths = sorted({width for at in points.values() for width in at})

    def draw(axes: Axes) -> None:
        for i, (name, at) in enumerate(points.items()):
            shown = {w: value for w, value in at.items() if value > 0 or not log}
            look: Look = {"color": colours[name], "marker": marker(i), "linestyle": LINES[i % 4]}
            axes.plot([math.log2(w) for w in shown], [*shown.values()], label=name, **look)
        width_axis(axes, widths)
        if log:
            axes.set_yscale("log", base=2)
            low, high = axes.get_ylim()
            axes.set_ylim(low / 1.15, high * 1.15)
            small = low < SMALL
            axes.yaxis.set_major_formatter(lambda y, _: power(y) if small else f"{y:.2g}")
        axes.set_ylabel(label)
        legend_below(axes)

    words = "; ".join(
        f"{name}: {at[min(at)]:.3g} at width {min(at)}, {at[max(at)]:.3g} at width {max(at)}"
        for name, at in points.items()
    )
    return picture(key, title, caption, words + ".", draw)


def _slopes(
    end: Sequence[DiagnosticsRecord], trials: Sequence[TrialRecord]
) -> list[tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(lambda: ["", ""])
    for column, field in enumerate(("activation_rms", "activation_change_rms")):
        frame = measurement_frame(end, trials, field)
        frame = frame[frame["value"] > 0]
        enough = frame.groupby(["name", "seed"])["width"].transform("nunique") > 1
        if not enough.any():
            continue
        for name, each in width_slopes(frame[enough]).groupby("name", sort=False):
            text = signed(each.mean(), 2)
            if len(each) > 1:
                text += f" ({signed(each.min(), 2)} to {signed(each.max(), 2)})"
            found[str(name)][column] = text
    return [(name, *both) for name, both in found.items()]
