"""A measured quantity held against its tolerance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mutransfer_cli.files.check import Gate, GateName, Measure
from mutransfer_cli.fit.equivalence import verdict_of, worst

OF_VERDICT = {
    "pass": "lies within",
    "fail": "lies outside",
    "inconclusive": "reaches beyond",
}


def measure(
    quantity: str,
    value: float,
    interval: tuple[float, float],
    expected: float,
    tolerance: float,
    unit: str = "",
    deciding: str = "",
) -> Measure:
    """
    Args:
        deciding: what would decide it, a clause that is said where the verdict is open.
    """
    low, high = interval
    verdict = verdict_of(low, high, expected, tolerance)
    units = f" {unit}" if unit else ""
    about = f"{expected:g} +- {tolerance:.3g}" if expected else f"+-{tolerance:.3g}"
    sentence = (
        f"{quantity} is {value:+.3g}{units}, and its 95 % interval {low:+.3g} to {high:+.3g} "
        f"{OF_VERDICT[verdict]} {about}{units}"
    )
    if verdict == "inconclusive" and deciding:
        sentence += f"; {deciding}"
    return Measure(
        quantity=quantity,
        unit=unit,
        value=value,
        low=low,
        high=high,
        expected=expected,
        tolerance=tolerance,
        verdict=verdict,
        sentence=sentence,
    )


def unmeasured(quantity: str, why: str, expected: float, tolerance: float, unit: str) -> Measure:
    """Inconclusive, for there is no number."""
    return Measure(
        quantity=quantity,
        unit=unit,
        value=None,
        low=None,
        high=None,
        expected=expected,
        tolerance=tolerance,
        verdict="inconclusive",
        sentence=f"{quantity} could not be measured: {why}",
    )


def gate(
    name: GateName,
    measures: Iterable[Measure],
    findings: Iterable[str] = (),
    evidence: Mapping[str, str] | None = None,
) -> Gate:
    measured, found = tuple(measures), tuple(findings)
    verdict = "fail" if found else worst(one.verdict for one in measured)
    return Gate(
        gate=name,
        verdict=verdict,
        measures=measured,
        findings=found,
        evidence=dict(evidence or {}),
    )
