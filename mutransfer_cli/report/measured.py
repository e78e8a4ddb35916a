"""The verdicts of `mutransfer check` that lie beside the records, and its coordinates drawn.

MERGED:
What was measured in training, against width: by role, and module by module."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mutransfer_cli.check.coordinates import width_slopes
from mutransfer_cli.check.measure import Check, Gate, Measure
from mutransfer_cli.report.html import escaped, left_out, number, power, section, signed, table
from mutransfer_cli.report.run import SIGNS, Run
from mutransfer_cli.report.svg import (
    FAINT,
    INK,
    Look,
    hue,
    legend_below,
    margin,
    marker,
    picture,
    scale,
    width_axis,
)
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.measurements import DiagnosticsRecord, Values, by_role
from mutransfer_cli.spec.records import Records, TrialRecord
from mutransfer_cli.spec.tables import measurement_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SHOWN = 2  # quantities that pass
MOST = 12  # slopes of a picture
ROW = 38.0  # height of a slope with its name
FRAME = 66.0
MEASURES = ("gate", "quantity", "found", "95 % interval", "tolerance", "verdict")


def checks(check: Check) -> str:
    """Every gate's verdict, the failures first among what it found."""
    return section(
        "checks",
        f"Checks: {check.verdict}",
        f"What mutransfer check said of {check.source}, gate by gate.",
        *(_gate(gate) for gate in check.gates),
    )


def measures(check: Check) -> str:
    return table("All that was checked", MEASURES, rows(check.gates))


def _gate(gate: Gate) -> str:
    badge = f'<span class="verdict {gate.verdict}">{escaped(SIGNS[gate.verdict])}</span>'
    said = [*gate.findings, *(m.sentence for m in gate.measures if m.verdict != "pass")]
    passed = [measure.sentence for measure in gate.measures if measure.verdict == "pass"]
    if len(passed) > SHOWN:
        passed = [f"{len(passed)} of {len(gate.measures)} quantities lie within their tolerance"]
    said += passed
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in said)
    return (
        f'<div class="answer"><p class="numbers">{badge}'
        f'<span class="what">{escaped(gate.gate)}</span></p><ul>{items}</ul></div>'
    )


def rows(gates: Sequence[Gate]) -> Iterator[tuple[str, ...]]:
    for gate in gates:
        for one in gate.measures:
            unit = f" {one.unit}" if one.unit else ""
            low, high = number(one.low, 3), number(one.high, 3)
            about = f"{one.expected:g} ± " if one.expected else "±"
            yield (
                gate.gate,
                one.quantity,
                "" if one.value is None else f"{number(one.value, 3)}{unit}",
                f"{low} to {high}{unit}" if low and high else "",
                f"{about}{one.tolerance:.3g}{unit}",
                one.verdict,
            )


def slopes(check: Check | None) -> str:
    """The slopes of gate `coordinates`, each on its tolerance; empty where it was not asked."""
    found = [gate for gate in check.gates if gate.gate == "coordinates"] if check else []
    drawn = [(gate, one) for gate in found for one in gate.measures if one.value is not None]
    count = math.ceil(len(drawn) / MOST)
    each = math.ceil(len(drawn) / max(count, 1))
    view = _view([one for _, one in drawn])
    figures = []
    for part in range(count):
        title = "Slopes in width with their intervals"
        title += f", {part + 1} of {count}" if count > 1 else ""
        (gate, _), *_ = rows = drawn[part * each : (part + 1) * each]
        figures.append(_picture(f"slopes-{part}", title, gate, [one for _, one in rows], view))
    return "".join(figures)


def _view(drawn: Sequence[Measure]) -> tuple[float, float]:
    """What the axes of all pictures show."""
    ends = [(one.expected - one.tolerance, one.expected + one.tolerance) for one in drawn]
    ends += [(one.low, one.high) for one in drawn if one.low is not None and one.high is not None]
    return margin([end for pair in ends for end in pair], 0.1) if ends else (0.0, 1.0)


def _picture(
    key: str, title: str, gate: Gate, drawn: Sequence[Measure], view: tuple[float, float]
) -> str:
    words = "; ".join(one.sentence for one in drawn)

    def draw(axes: Axes) -> None:
        for row, one in enumerate(drawn):
            _slope(axes, row, one)
        axes.set_ylim(len(drawn) - 0.45, -0.75)
        axes.set_xlim(*view)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("slope in width")
        axes.grid(False, axis="y")

    said = f"widths {gate.evidence['widths']}; " if "widths" in gate.evidence else ""
    caption = f"Gate coordinates, {said}dot and bar: slope and 95 % interval; shaded: tolerance."
    return picture(key, title, caption, words, draw, FRAME + ROW * len(drawn))


def _slope(axes: Axes, row: int, one: Measure) -> None:
    assert one.value is not None, "of what was measured"
    colour = INK if one.verdict == "pass" else hue(1)
    axes.barh(row, 2 * one.tolerance, 0.26, one.expected - one.tolerance, color=hue(0), alpha=0.22)
    axes.plot([one.expected] * 2, [row - 0.13, row + 0.13], color=FAINT)
    if one.low is not None and one.high is not None:
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=2)
    axes.plot([one.value], [row], "o" if one.verdict == "pass" else "X", color=colour)
    axes.annotate(
        one.quantity.removesuffix(", slope in width"),
        (0, row),
        xycoords=("axes fraction", "data"),
        xytext=(0, 8.5),
        textcoords="offset points",
        fontsize=11,
    )


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
