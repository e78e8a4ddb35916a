"""The answer at the top of the page: does each hyperparameter transfer, and how sure is that?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from mutransfer_cli.check.measure import LIES, OF_EXPONENTS, Verdict, verdict_of
from mutransfer_cli.fit.decay import PRODUCTS
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.run import Run
from mutransfer_cli.words import as_sentence, signed, words_of

TOLERANCE = OF_EXPONENTS
RIDGE = "learning rate and weight decay cannot be told apart"


def questions(run: Run) -> dict[str, Axis]:
    """The fitted axes by name; on a ridge the product that it identifies comes first."""
    document = run.document
    asked = {str(name): axis for name, axis in document.axes.items()}
    decay, convention = document.decay, document.decay_convention
    product = decay.product if decay and decay.ridge else None
    if product is None or product.exponent is None or convention is None:
        return asked
    direction, name = PRODUCTS[convention]
    lr, own = (document.axes[axis].expected_exponent for axis in ("lr", "weight_decay"))
    expected = None
    if lr is not None and own is not None:  # exponents of factors add up
        expected = direction[0] * lr + direction[1] * own
    product = product.model_copy(update={"expected_exponent": expected})
    return {name: product} | {other: axis for other, axis in asked.items() if other != name}


def verdict_on(axis: Axis) -> Verdict | None:
    """Hold the exponent's interval against the rule; None if the rule expects nothing."""
    if axis.expected_exponent is None:
        return None
    if axis.exponent is None:
        return "inconclusive"
    return verdict_of(axis.exponent.low, axis.exponent.high, axis.expected_exponent, TOLERANCE)


def refused(asked: Mapping[str, Axis]) -> list[list[str]]:
    """Names of the axes without an exponent, grouped by the reason."""
    found = defaultdict[str, list[str]](list)
    for name, axis in asked.items():
        if axis.exponent is None:
            found[axis.sentence].append(name)
    return [*found.values()]


def headline(asked: Mapping[str, Axis]) -> str:
    """Whether hyperparameters transfer, as a sentence: the first in full, then the others."""
    (name, axis), *others = asked.items()
    text = claim(name, axis)
    if any(one.status == "ridge" for one in asked.values()):
        text = RIDGE if axis.status == "ridge" else f"{RIDGE}; {text}"
        others = [(other, one) for other, one in others if one.status != "ridge"]
    first, by_verdict = verdict_on(axis), defaultdict[Verdict, list[str]](list)
    for other, one in others:
        verdict = verdict_on(one)
        if verdict is not None:
            by_verdict[verdict].append(words_of(other))
    for verdict, names in by_verdict.items():
        them, do = " and the ".join(names), "do" if len(names) > 1 else "does"
        clause = {
            "pass": f"the {them} {do}",
            "fail": f"the {them} {do} not",
            "inconclusive": f"it is not decided for the {them}",
        }[verdict]
        same = " too" if verdict == "pass" else " either"
        text += f"; {clause}" + (same if first == verdict else "")
    return text[0].upper() + text[1:]


def claim(name: str, axis: Axis) -> str:
    """Whether one hyperparameter transfers, as a clause."""
    words, expected, verdict = words_of(name), axis.expected_exponent, verdict_on(axis)
    if axis.exponent is None:
        return f"too little evidence to say whether the {words} transfers"
    if expected is None:
        return f"the best {words} scales as width^{signed(axis.exponent.value)}"
    claims = f"the {words} transfers across width", f"the {words} does not transfer across width"
    if expected != 0:
        rule = "with width as the rule expects"
        claims = f"the best {words} moves {rule}", f"the best {words} does not move {rule}"
    if verdict == "inconclusive":
        return f"not decided whether {claims[0]}"
    return claims[verdict == "fail"]


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
