"""What a reader sees first: a sentence, a number, its interval and the verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mutransfer_cli.check.measure import Verdict
from mutransfer_cli.fit.decay import PRODUCTS
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.report.html import as_sentence, escaped, paragraph, prose, signed
from mutransfer_cli.report.run import SIGNS, TOLERANCE, Run, verdict_on, words_of
from mutransfer_cli.report.svg import FAINT, INK, hue, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ROW = 34.0  # height of an axis in the picture of intervals
FRAME = 74.0


RIDGE = "learning rate and weight decay cannot be told apart"


def answer(run: Run) -> str:
    """The header of the page: one block an axis, learning rate first."""
    asked = questions(run)
    parts = [f"<h1>{escaped(headline(asked))}</h1>"]
    refused: dict[str, list[str]] = {}
    for name, axis in asked.items():
        if axis.exponent is None:
            refused.setdefault(axis.sentence, []).append(name)
    fitted = {name: axis for name, axis in asked.items() if axis.exponent is not None}
    blocks = [_fitted(run, name, axis) for name, axis in fitted.items()]
    blocks += [_refused(asked[names[0]], names) for names in refused.values()]
    drawn = _intervals(fitted) if fitted else ""
    parts.append(f'<div class="answers"><div>{"".join(blocks)}</div>{drawn}</div>')
    count = len(all_warnings(run))
    if count:
        them = f"{count} warning{'s' if count > 1 else ''}"
        parts.append(f'<p class="to-warnings"><a href="#warnings">{them}</a> below.</p>')
    return (
        f'<header><p class="name">mutransfer report: {escaped(run.name)}</p>{"".join(parts)}'
        "</header>\n"
    )


def questions(run: Run) -> dict[str, Axis]:
    """What was fitted, by name: the axes, and on a ridge first the product that it identifies."""
    document, asked = run.document, {str(name): axis for name, axis in run.document.axes.items()}
    decay, convention = document.decay, document.decay_convention
    if decay is None or decay.ridge is None or decay.product is None or convention is None:
        return asked
    if decay.product.exponent is None:
        return asked
    direction, name = PRODUCTS[convention]
    lr, own = (document.axes[axis].expected_exponent for axis in ("lr", "weight_decay"))
    of_rule = None
    if lr is not None and own is not None:  # exponents of factors add up
        of_rule = direction[0] * lr + direction[1] * own
    product = decay.product.model_copy(update={"expected_exponent": of_rule})
    return {name: product} | {other: axis for other, axis in asked.items() if other != name}


def headline(asked: Mapping[str, Axis]) -> str:
    """Whether hyperparameters transfer, as a sentence: the first in full, then the others."""
    (name, axis), *others = asked.items()
    said = claim(name, axis)
    if any(one.status == "ridge" for one in asked.values()):
        said = RIDGE if axis.status == "ridge" else f"{RIDGE}; {said}"
        others = [(other, one) for other, one in others if one.status != "ridge"]
    first, alike = verdict_on(axis), defaultdict[Verdict, list[str]](list)
    for other, one in others:
        verdict = verdict_on(one)
        if verdict is not None:
            alike[verdict].append(words_of(other))
    for verdict, names in alike.items():
        them, do = " and the ".join(names), "do" if len(names) > 1 else "does"
        said += {
            "pass": f"; the {them} {do}" + (" too" if first == "pass" else ""),
            "fail": f"; the {them} {do} not" + (" either" if first == "fail" else ""),
            "inconclusive": f"; it is not decided for the {them}"
            + (" either" if first == "inconclusive" else ""),
        }[verdict]
    return said[0].upper() + said[1:]


def claim(name: str, axis: Axis) -> str:
    """Whether one hyperparameter transfers, as a clause."""
    words, expected, verdict = words_of(name), axis.expected_exponent, verdict_on(axis)
    if axis.exponent is None:
        return f"too little evidence to say whether the {words} transfers"
    if expected is None or verdict is None:
        return f"the best {words} goes as width^{signed(axis.exponent.value, 3)}"
    transfers = f"the {words} transfers across width"
    if expected != 0:
        transfers = f"the best {words} moves with width as the rule expects"
    if verdict == "pass":
        return transfers
    if verdict == "inconclusive":
        return f"not decided whether {transfers}"
    if expected != 0:
        return f"the best {words} does not move with width as the rule expects"
    return f"the {words} does not transfer across width"


def _block(axis: Axis, what: str, shown: str, why: str) -> str:
    verdict = verdict_on(axis)
    badge = ""
    if verdict is not None:
        badge = f'<span class="verdict {verdict}">{escaped(SIGNS[verdict])}</span>'
    return (
        f'<div class="answer"><p class="numbers">{badge}'
        f'<span class="what">exponent of {escaped(what)}</span>{shown}</p>{paragraph(why)}</div>'
    )


def _fitted(run: Run, name: str, axis: Axis) -> str:
    found = axis.exponent
    assert found is not None, "callers leave out what has none"
    interval = f"{100 * found.level:g} % interval {signed(found.low, 3)} to {signed(found.high, 3)}"
    shown = (
        f'<span class="value">{signed(found.value, 3)}</span>'
        f'<span class="interval">{prose(interval)}</span>'
    )
    return _block(axis, name, shown, reasons(run, name, axis))


def _refused(axis: Axis, names: Sequence[str]) -> str:
    """Of axes that have no exponent for the same reason."""
    shown = '<span class="interval">none</span>'
    return _block(axis, " and ".join(names), shown, as_sentence(axis.sentence))


def reasons(run: Run, name: str, axis: Axis) -> str:
    """How the number is to be read, and why the verdict is what it is."""
    found, usable = axis.exponent, [w for w, at in axis.optimum.items() if at.status == "ok"]
    assert found is not None, "of what has an exponent"
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


def _intervals(axes: Mapping[str, Axis]) -> str:
    """Each exponent with its interval, on the tolerance about what is expected."""
    names = list(axes)
    words = "; ".join(
        f"{name}: {signed(axis.exponent.value, 3)}, interval {signed(axis.exponent.low, 3)} to "
        f"{signed(axis.exponent.high, 3)}"
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

    title = "Exponents with their intervals" if len(names) > 1 else "The exponent with its interval"
    caption = "Dot and bar: exponent and 95 % interval"
    if any(axis.expected_exponent is not None for axis in axes.values()):
        caption += f"; shaded: expected ±{TOLERANCE:g}"
    return picture("answer", title, f"{caption}.", words, draw, FRAME + ROW * len(names))


def all_warnings(run: Run) -> Sequence[str]:
    """Of the fit, each once, and of the protocol."""
    found = [sentence for axis in run.document.axes.values() for sentence in axis.warnings.values()]
    return list(dict.fromkeys([*found, *run.warnings]))
