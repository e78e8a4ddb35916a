"""What a reader sees first: a sentence, a number, its interval and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mutransfer_cli.files.exponents import Axis
from mutransfer_cli.report.html import escaped, figure, paragraph
from mutransfer_cli.report.run import SIGNS, TOLERANCE, Run, verdict_on, words_of
from mutransfer_cli.report.svg import FAINT, INK, hue, picture
from mutransfer_cli.rules.plan import AxisName

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 34.0  # height of an axis in the picture of intervals
FRAME = 74.0


def answer(run: Run) -> str:
    """The header of the page: one block an axis, learning rate first."""
    axes = run.document.axes
    (first, axis), *_ = axes.items()
    parts = [f"<h1>{escaped(headline(first, axis))}</h1>"]
    blocks = "".join(_block(run, name, one) for name, one in axes.items())
    fitted = {name: one for name, one in axes.items() if one.exponent is not None}
    drawn = _intervals(fitted) if fitted else ""
    parts.append(f'<div class="answers"><div>{blocks}</div>{drawn}</div>')
    count = len(all_warnings(run))
    if count:
        them = f"{count} warning{'s' if count > 1 else ''}"
        parts.append(f'<p class="to-warnings"><a href="#warnings">{them}</a> below.</p>')
    return (
        f'<header><p class="name">mutransfer report: {escaped(run.name)}</p>{"".join(parts)}'
        "</header>\n"
    )


def headline(name: AxisName, axis: Axis) -> str:
    """The answer to whether a hyperparameter transfers, as a sentence."""
    words, expected, verdict = words_of(name), axis.expected_exponent, verdict_on(axis)
    if axis.exponent is None:
        return f"Too little evidence to say whether the {words} transfers"
    if expected is None or verdict is None:
        return f"The best {words} goes as width^{axis.exponent.value:+.3f}"
    transfers = f"the {words} transfers across width"
    if expected != 0:
        transfers = f"the best {words} moves with width as the rule expects"
    if verdict == "pass":
        return transfers[0].upper() + transfers[1:]
    if verdict == "inconclusive":
        return f"Not decided whether {transfers}"
    if expected != 0:
        return f"The best {words} does not move with width as the rule expects"
    return f"The {words} does not transfer across width"


def _block(run: Run, name: AxisName, axis: Axis) -> str:
    verdict = verdict_on(axis)
    badge = ""
    if verdict is not None:
        badge = f'<span class="verdict {verdict}">{escaped(SIGNS[verdict])}</span>'
    shown = ""
    if axis.exponent is not None:
        found = axis.exponent
        shown = (
            f'<span class="value">{found.value:+.3f}</span>'
            f'<span class="interval">{found.level:.0%} interval {found.low:+.3f} to '
            f"{found.high:+.3f}</span>"
        )
    return (
        f'<div class="answer"><p class="numbers">{badge}'
        f'<span class="what">exponent of {escaped(name)}</span>{shown}</p>'
        f"{paragraph(reasons(run, name, axis))}</div>"
    )


def reasons(run: Run, name: AxisName, axis: Axis) -> str:
    """How the number is to be read, and why the verdict is what it is."""
    if axis.exponent is None:
        return axis.sentence[0].upper() + axis.sentence[1:] + "."
    found, usable = axis.exponent, [w for w, at in axis.optimum.items() if at.status == "ok"]
    ratio = max(usable) / min(usable)
    text = (
        f"From width {min(usable)} to {max(usable)} the best {words_of(name)} changes by a factor "
        f"of {ratio**found.value:.2f} ({ratio**found.low:.2f} to {ratio**found.high:.2f})"
    )
    at_widest = axis.optimum[max(usable)].value
    text += "." if at_widest is None else f", to {at_widest:.3g}."
    expected = axis.expected_exponent
    if expected is None:
        return f"{text} The rule says nothing of it, so that there is no verdict."
    protocol = run.document.protocol
    rule = f" ({protocol.parameterization.name})" if protocol else ""
    low, high = expected - TOLERANCE, expected + TOLERANCE
    where = {
        "pass": "the interval lies within",
        "fail": "the interval lies outside",
        "inconclusive": "the interval reaches beyond",
        None: "",
    }[verdict_on(axis)]
    return (
        f"{text} The rule{rule} expects an exponent of {expected:g}; {where} {low:+.2f} to "
        f"{high:+.2f}, the tolerance of {TOLERANCE:g} about it."
    )


def _intervals(axes: dict[AxisName, Axis]) -> str:
    """Each exponent with its interval, on the tolerance about what is expected."""
    names = list(axes)
    words = "; ".join(
        f"{name}: {axis.exponent.value:+.3f}, interval {axis.exponent.low:+.3f} to "
        f"{axis.exponent.high:+.3f}"
        + ("" if axis.expected_exponent is None else f", expected {axis.expected_exponent:g}")
        for name, axis in axes.items()
        if axis.exponent is not None
    )

    def draw(picture_axes: Axes) -> None:
        for row, axis in enumerate(axes.values()):
            assert axis.exponent is not None, "of fitted axes"
            if axis.expected_exponent is not None:
                low = axis.expected_exponent - TOLERANCE
                picture_axes.barh(row, 2 * TOLERANCE, 0.8, low, color=hue(0), alpha=0.22)
                picture_axes.plot([axis.expected_exponent] * 2, [row - 0.4, row + 0.4], color=FAINT)
            ends = [axis.exponent.low, axis.exponent.high]
            picture_axes.plot(ends, [row, row], color=INK, linewidth=2.5, marker="|", markersize=11)
            picture_axes.plot([axis.exponent.value], [row], "o", color=INK, markersize=8)
        picture_axes.set_yticks(range(len(names)), names)
        picture_axes.set_ylim(len(names) - 0.4, -0.6)
        picture_axes.locator_params(axis="x", nbins=5)
        picture_axes.set_xlabel("exponent of width")
        picture_axes.grid(False, axis="y")

    svg = picture("answer", "Exponents with their intervals", words, draw, FRAME + ROW * len(names))
    return figure(svg, f"Dot and bar: exponent and 95 % interval; shaded: expected ±{TOLERANCE:g}.")


def all_warnings(run: Run) -> Sequence[str]:
    """Of the fit, each once, and of the protocol."""
    found = [sentence for axis in run.document.axes.values() for sentence in axis.warnings.values()]
    return list(dict.fromkeys([*found, *run.warnings]))
