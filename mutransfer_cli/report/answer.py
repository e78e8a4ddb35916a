"""The answer at the top of the page: does each hyperparameter transfer, and how sure is that?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from mutransfer_cli.check.answer import verdict_on
from mutransfer_cli.check.measure import LIES, OF_EXPONENTS
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.run import Run
from mutransfer_cli.words import as_sentence, signed, words_of

TOLERANCE = OF_EXPONENTS


def refused(asked: Mapping[str, Axis]) -> list[list[str]]:
    """Names of the axes without an exponent, grouped by the reason."""
    found = defaultdict[str, list[str]](list)
    for name, axis in asked.items():
        if axis.exponent is None:
            found[axis.sentence].append(name)
    return [*found.values()]


def reasons(run: Run, name: str, axis: Axis) -> str:
    """Explain an exponent and its verdict, or why there is none."""
    found, usable = axis.exponent, axis.usable
    if found is None:
        return as_sentence(axis.sentence)
    narrowest, widest = min(usable), max(usable)
    value, low, high = ((widest / narrowest) ** e for e in (found.value, found.low, found.high))
    text = (
        f"From width {narrowest} to {widest} the best {words_of(name)} changes by a factor of "
        f"{value:.2f} ({low:.2f} to {high:.2f})"
    )
    at_widest = usable[widest].value
    text += "." if at_widest is None else f", to {at_widest:.3g}."
    expected, protocol, verdict = axis.expected_exponent, run.document.protocol, verdict_on(axis)
    if protocol is None:
        return f"{text} No protocol says what the rule expects, so there is no verdict."
    if expected is None or verdict is None:
        return f"{text} The rule does not predict it, so there is no verdict."
    rule = f" ({protocol.parameterization.name})"
    return (
        f"{text} The rule{rule} expects an exponent of {expected:g}; the interval {LIES[verdict]} "
        f"{expected - TOLERANCE:+.2f} to {expected + TOLERANCE:+.2f}, "
        f"the tolerance of {TOLERANCE:g} around it."
    )


def exponents(asked: Mapping[str, Axis]) -> list[svg.Figure]:
    """The fitted exponents with their intervals, on the tolerance around the expected ones."""
    fitted = []
    for name, axis in asked.items():
        one, expected = axis.exponent, axis.expected_exponent
        if one is None:
            continue
        words = f"{name}: {signed(one.value)}, interval {signed(one.low)} to {signed(one.high)}"
        words += "" if expected is None else f", expected {expected:g}"
        verdict, at = verdict_on(axis), (one.value, one.low, one.high)
        fitted.append(marks.Estimate(name, *at, expected, TOLERANCE, verdict, words))
    title = "Exponents with their intervals" if fitted[1:] else "The exponent with its interval"
    caption = "Dot and bar: exponent and 95% interval"
    if any(one.expected is not None for one in fitted):
        caption += f"; shaded: expected ±{TOLERANCE:g}"
    return marks.intervals("answer", title, f"{caption}.", "exponent of width", fitted)
