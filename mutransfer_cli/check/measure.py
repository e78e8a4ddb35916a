"""Verdicts by equivalence test, and what would decide an open one.

MERGED:
The verdict of gates, `schema: mutransfer.check/1`.
A measured quantity held against its tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from mutransfer_cli.spec.yaml_io import load_yaml, read_text
from mutransfer_cli.strict import NonNegative, Number, Strict, validated

Verdict = Literal["pass", "fail", "inconclusive"]

OF_EXPONENTS = 0.1  # tolerance about the rule's: 7 % of a rate per doubling of width
MOST_WIDTHS = 64


def verdict_of(low: float, high: float, expected: float, tolerance: float) -> Verdict:
    """Pass: the interval lies within the tolerance about what is expected; fail: outside it."""
    if expected - tolerance <= low and high <= expected + tolerance:
        return "pass"
    if high < expected - tolerance or expected + tolerance < low:
        return "fail"
    return "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several that all count; of none inconclusive."""
    found = set(verdicts)
    return "fail" if "fail" in found else "pass" if found == {"pass"} else "inconclusive"


def widths_to_decide(half_width: float, room: float, widths: int, level: float) -> int | None:
    """How many widths within the same range narrow the interval of an exponent to `room`.

    The half-width goes as t(k - 2) / sqrt(S) with S the sum of squares of k evenly spaced log
    widths, (k + 1) k / (k - 1) for a range of one. None where more than 64 would be needed.

    Args:
        half_width: with so many `widths`, scatter between them included.
        room: half-width at which the verdict is decided.
    """

    from scipy import stats  # not at the top: it takes a second, and files are read without it

    def factor(k: int) -> float:
        spread = (k + 1) * k / (k - 1)
        return float(stats.t.ppf((1 + level) / 2, k - 2)) / math.sqrt(spread)

    for k in range(max(widths, 3), MOST_WIDTHS + 1):
        if half_width * factor(k) / factor(max(widths, 3)) <= room:
            return k
    return None


def runs_to_decide(half_width: float, room: float) -> int | None:
    """By how many times more runs the same interval narrows to `room`: it goes as runs^-1/2."""
    if room <= 0:
        return None
    return max(1, math.ceil((half_width / room) ** 2))


CHECK = "check.yaml"
CHECK_SCHEMA = "mutransfer.check/1"

GateName = Literal["static", "coordinates", "spectrum", "transfer", "exponent"]


class Measure(Strict):
    """One quantity against its tolerance, by equivalence test."""

    quantity: str
    """What was measured, such as `exponent of lr`."""
    unit: str
    """Of all numbers here; empty where they have none."""
    value: Number | None
    """What it is; null where nothing could be measured."""
    low: Number | None
    """Its two-sided 95 % interval."""
    high: Number | None
    """Its two-sided 95 % interval."""
    expected: Number
    """What it is to be."""
    tolerance: NonNegative
    """Pass where low and high lie within expected +- tolerance, fail where both lie on one side
    outside it."""
    verdict: Verdict
    """Else inconclusive."""
    sentence: str
    """The same for a person, and of an open verdict what would decide it."""


class Gate(Strict):
    """A question and its answer."""

    gate: GateName
    """Its name."""
    verdict: Verdict
    """Fail where a measure fails, else inconclusive where one is or there is none."""
    measures: tuple[Measure, ...] = ()
    """What was measured."""
    findings: tuple[str, ...] = ()
    """Faults that no measure holds, each a sentence; any of them is a failure."""
    evidence: dict[str, str] = Field(default_factory=dict)
    """Hashes and widths that say what the verdict rests on."""


class Check(Strict):
    """What `check` writes."""

    schema_: Literal["mutransfer.check/1"] = Field(alias="schema")
    """Always mutransfer.check/1."""
    tool_version: str
    """Of mutransfer."""
    source: str
    """What was checked: a file or folder."""
    verdict: Verdict
    """Of all gates together."""
    gates: tuple[Gate, ...] = Field(min_length=1)
    """One for each question asked."""


def read_check(path: Path) -> Check | None:
    """What a file holds; None where there is none.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    if not path.exists():
        return None
    return validated(Check, load_yaml(read_text(path), str(path)), str(path))


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
