"""The verdict of gates, `schema: mutransfer.check/1`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mutransfer_cli.files.strict import NonNegative, Number, Strict, validated
from mutransfer_cli.files.yaml_io import load_yaml, read_text

CHECK = "check.yaml"
CHECK_SCHEMA = "mutransfer.check/1"

Verdict = Literal["pass", "fail", "inconclusive"]
GateName = Literal["static", "coordinates", "spectrum", "transfer", "exponent"]


class Measure(Strict):
    """One quantity against its tolerance, by equivalence test.

    Attributes:
        quantity: what was measured, such as `exponent of lr`.
        unit: of all numbers here; empty where they have none.
        value: what it is; null where nothing could be measured.
        low, high: its two-sided 95 % interval.
        expected: what it is to be.
        tolerance: pass where low and high lie within expected +- tolerance, fail where both lie on
            one side outside it.
        verdict: else inconclusive.
        sentence: the same for a person, and of an open verdict what would decide it.
    """

    quantity: str
    unit: str
    value: Number | None
    low: Number | None
    high: Number | None
    expected: Number
    tolerance: NonNegative
    verdict: Verdict
    sentence: str


class Gate(Strict):
    """A question and its answer.

    Attributes:
        gate: its name.
        verdict: fail where a measure fails, else inconclusive where one is or there is none.
        measures: what was measured.
        findings: faults that no measure holds, each a sentence; any of them is a failure.
        evidence: hashes and widths that say what the verdict rests on.
    """

    gate: GateName
    verdict: Verdict
    measures: tuple[Measure, ...] = ()
    findings: tuple[str, ...] = ()
    evidence: dict[str, str] = Field(default_factory=dict)


class Check(Strict):
    """What `check` writes.

    Attributes:
        schema: always mutransfer.check/1.
        tool_version: of mutransfer.
        source: what was checked: a file or folder.
        verdict: of all gates together.
        gates: one for each question asked.
    """

    schema_: Literal["mutransfer.check/1"] = Field(alias="schema")
    tool_version: str
    source: str
    verdict: Verdict
    gates: tuple[Gate, ...] = Field(min_length=1)


def read_check(path: Path) -> Check | None:
    """What a file holds; None where there is none.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    if not path.exists():
        return None
    return validated(Check, load_yaml(read_text(path), str(path)), str(path))
