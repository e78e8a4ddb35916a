"""The answer to whether each fitted hyperparameter transfers, and how sure that is, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from mutransfer_cli.check.exponent import TOLERANCE, what_decides
from mutransfer_cli.check.measure import Verdict, verdict_of
from mutransfer_cli.fit.decay import PRODUCTS
from mutransfer_cli.fit.exponents import Axis, Exponents
from mutransfer_cli.words import signed, words_of

RIDGE = "learning rate and weight decay cannot be told apart"
INCONCLUSIVE = "inconclusive: the data do not yet show whether"


def questions(document: Exponents) -> dict[str, Axis]:
    """The fitted axes by name; on a ridge the product that it identifies comes first."""
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


def runs_per_width(document: Exponents) -> int | None:
    """Number of runs behind the optimum of a width; None where it is not known.

    It is not known with groups, and for optima that were given without their runs.
    """
    optima = [axis.optimum for axis in document.axes.values()]
    if not optima or all(at.curvature is None for at in optima[0].values()):
        return None
    return round(sum(document.trials.values()) / len(optima[0]))


def verdict_on(axis: Axis) -> Verdict | None:
    """Hold the exponent's interval against the rule; None if the rule expects nothing."""
    if axis.expected_exponent is None:
        return None
    if axis.exponent is None:
        return "inconclusive"
    return verdict_of(axis.exponent.low, axis.exponent.high, axis.expected_exponent, TOLERANCE)


def headline(asked: Mapping[str, Axis], runs: int | None = None) -> str:
    """Whether hyperparameters transfer, as a sentence: the first in full, then the others.

    Args:
        asked: axes by name, from `questions`.
        runs: number of runs at each width, from `runs_per_width`.
    """
    (name, axis), *others = asked.items()
    text = claim(name, axis, runs)
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
            "inconclusive": f"the data do not yet show it for the {them}",
        }[verdict]
        same = " too" if verdict == "pass" else " either"
        text += f"; {clause}" + (same if first == verdict else "")
    return text[0].upper() + text[1:]


def claim(name: str, axis: Axis, runs: int | None = None) -> str:
    """Whether one hyperparameter transfers, as a clause; an open verdict with what would decide it.

    Args:
        name: an axis, or the product of two.
        runs: number of runs at each width; None where it is not known.
    """
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
        return f"{INCONCLUSIVE} {claims[0]}; {what_decides(axis, runs=runs)}"
    return claims[verdict == "fail"]
