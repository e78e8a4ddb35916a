"""Verdicts by equivalence test, what would decide an open one, and the file mutransfer.check/1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from mutransfer_cli.spec.yaml_io import load_yaml, read_text
from mutransfer_cli.strict import NonNegative, Number, Strict, validated
from mutransfer_cli.words import signed, with_sign

Verdict = Literal["pass", "fail", "inconclusive"]
GateName = Literal["static", "coordinates", "spectrum", "transfer", "exponent"]

CHECK = "check.yaml"
CHECK_SCHEMA = "mutransfer.check/1"
OF_EXPONENTS = 0.1  # tolerance about the rule's: 7% of a rate per doubling of width
MOST_RUNS = 100  # times the present ones
LIES: dict[Verdict, str] = {
    "pass": "lies within",
    "fail": "lies outside",
    "inconclusive": "reaches beyond",
}


class Measure(Strict):
    """One quantity against its tolerance, by equivalence test."""

    quantity: str
    """Name of the quantity, such as `exponent of lr`."""
    unit: str
    """Unit of all numbers here; empty where they have none."""
    value: Number | None
    """The estimate; null where nothing could be measured."""
    low: Number | None
    """Lower end of its two-sided 95% interval."""
    high: Number | None
    """Upper end of its two-sided 95% interval."""
    expected: Number
    """The value it should have."""
    tolerance: NonNegative
    """Half the width of the range about `expected` that passes."""
    verdict: Verdict
    """Answer of the equivalence test: pass where low and high lie within expected ± tolerance,
    fail where both lie on one side outside it, otherwise inconclusive."""
    sentence: str
    """The same in words, with what would decide an open verdict."""


class Gate(Strict):
    """A question and its answer."""

    gate: GateName
    """Name of the gate."""
    verdict: Verdict
    """Answer of the gate: fail where a measure fails or there is a finding, pass where all measures
    pass, otherwise inconclusive."""
    measures: tuple[Measure, ...] = ()
    """The measured quantities."""
    findings: tuple[str, ...] = ()
    """Further faults, each a sentence; any of them is a failure."""
    evidence: dict[str, str] = Field(default_factory=dict)
    """Facts behind the verdict, such as hashes and widths."""


class Check(Strict):
    """The file that `check` writes."""

    schema_: Literal["mutransfer.check/1"] = Field(alias="schema")
    """Always mutransfer.check/1."""
    tool_version: str
    """Version of mutransfer that wrote it."""
    source: str
    """The file or folder that was checked."""
    verdict: Verdict
    """Verdict of all gates together."""
    gates: tuple[Gate, ...] = Field(min_length=1)
    """One gate for each question asked."""


def read_check(path: Path) -> Check | None:
    """Read the file; None where there is none.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    if not path.exists():
        return None
    return validated(Check, load_yaml(read_text(path), str(path)), str(path))


def verdict_of(low: float, high: float, expected: float, tolerance: float) -> Verdict:
    """Pass if the interval lies within expected ± tolerance, fail if outside, otherwise
    inconclusive."""
    if expected - tolerance <= low and high <= expected + tolerance:
        return "pass"
    if high < expected - tolerance or expected + tolerance < low:
        return "fail"
    return "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Combined verdict: fail if any fails, pass if all pass, otherwise inconclusive."""
    found = set(verdicts)
    return "fail" if "fail" in found else "pass" if found == {"pass"} else "inconclusive"


def widths_to_decide(
    half_width: float, room: float, widths: Sequence[int]
) -> tuple[int, ...] | None:
    """Widths above the present ones that narrow the interval of an exponent to `room`.

    The half-width scales as t(k - 2) / sqrt(S) with S the sum of squares of the k log widths about
    their mean. The further widths are 2, 3, 4 and 6 times the largest, or 3/2, 2, 3 and 4 times it
    from 128 on, which heads of 64 still divide. None where these four would not suffice.

    Args:
        half_width: half-width with `widths`, scatter between them included.
        room: half-width at which the verdict is decided.
    """
    from mutransfer_cli.fit.arrays import t_quantile  # scipy, which reading files does without

    def factor(them: Sequence[int]) -> float:
        logs = [math.log2(width) for width in them]
        mean = sum(logs) / len(logs)
        return float(t_quantile(len(logs) - 2)) / math.sqrt(sum((x - mean) ** 2 for x in logs))

    largest = max(widths)
    unit = largest // 2 if largest % 128 == 0 else largest
    further = tuple(times * unit for times in ((3, 4, 6, 8) if unit < largest else (2, 3, 4, 6)))
    for count in range(1, len(further) + 1):
        if half_width * factor([*widths, *further[:count]]) / factor(widths) <= room:
            return further[:count]
    return None


def runs_to_decide(half_width: float, room: float) -> int | None:
    """How many times the present runs narrow the interval to `room`; it scales as runs^-1/2.

    None where more than 100 times would be needed.
    """
    if room <= 0:
        return None
    times = max(1, math.ceil((half_width / room) ** 2))
    return times if times <= MOST_RUNS else None


def measure(
    quantity: str,
    value: float,
    interval: tuple[float, float],
    expected: float,
    tolerance: float,
    unit: str = "",
    deciding: str = "",
) -> Measure:
    """Judge a value with its 95% interval.

    Args:
        deciding: a clause for an open verdict: what would decide it.
    """
    low, high = interval
    verdict = verdict_of(low, high, expected, tolerance)
    units = f" {unit}" if unit else ""
    about = f"{expected:g} ± {tolerance:.3g}" if expected else f"±{tolerance:.3g}"
    shown, least, most = map(with_sign if unit else signed, (value, low, high))
    sentence = (
        f"{quantity} is {shown}{units}, and its 95% interval {least} to {most} {LIES[verdict]} "
        f"{about}{units}"
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


def unmeasured(
    quantity: str, why: str, expected: float = 0.0, tolerance: float = 0.0, unit: str = ""
) -> Measure:
    """An inconclusive measure without a number; `why` is a clause."""
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
    """The answer to one question: fail with any finding, otherwise the measures' verdict."""
    measured, found = tuple(measures), tuple(findings)
    verdict = "fail" if found else worst(one.verdict for one in measured)
    return Gate(
        gate=name,
        verdict=verdict,
        measures=measured,
        findings=found,
        evidence=dict(evidence or {}),
    )
