"""The verdicts of `mutransfer check` that lie beside the records, and its coordinates drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mutransfer_cli.files.check import Check, Gate, Measure
from mutransfer_cli.report.html import escaped, number, section, table
from mutransfer_cli.report.run import SIGNS
from mutransfer_cli.report.svg import FAINT, INK, hue, margin, picture

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
