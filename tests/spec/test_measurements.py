from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.measurements import DiagnosticsSpec, by_role, read_diagnostics
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.strict import validated
from tests.conftest import TINY


def section(text: str) -> DiagnosticsSpec | None:
    return validated(SweepSpec, TINY | load_yaml(text, "spec"), "spec").diagnostics


def test_a_spec_says_when_or_off() -> None:
    assert validated(SweepSpec, TINY, "spec").diagnostics == DiagnosticsSpec()
    assert section("diagnostics: {every: 1e2}") == DiagnosticsSpec(every=100)
    assert section("diagnostics: off") is None
    assert section("diagnostics: 'off'") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("diagnostics: on", r"diagnostics: expected off or \{every: STEPS\}, found true"),
        ("diagnostics: 100", r"diagnostics: expected off or \{every: STEPS\}, found 100"),
        ("diagnostics: {every: 0}", r"diagnostics.every: expected at least 1, found 0"),
        ("diagnostics: {steps: 3}", r"diagnostics: unknown key 'steps'.*valid: every"),
    ],
)
def test_anything_else_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        section(text)


@pytest.mark.parametrize(
    ("steps", "measured"),
    [
        (1, (0, 1)),
        (10, (0, 10)),
        (149, (0, 149)),
        (150, (0, 75, 150)),
        (400, (0, 80, 160, 240, 320, 400)),
        (20_000, tuple(range(0, 20_001, 1000))),
    ],
)
def test_by_default_parts_of_at_least_75_steps_and_at_most_20(
    steps: int, measured: tuple[int, ...]
) -> None:
    assert DiagnosticsSpec().measured_steps(steps) == measured


def test_every_so_many_steps_and_at_the_end() -> None:
    assert DiagnosticsSpec(every=4).measured_steps(10) == (0, 4, 8, 10)
    assert DiagnosticsSpec(every=5).measured_steps(10) == (0, 5, 10)
    assert DiagnosticsSpec(every=50).measured_steps(10) == (0, 10)


def line(trial: str, step: int, **values: Any) -> str:
    return json.dumps({"trial": trial, "step": step, **values}) + "\n"


def test_the_lines_of_some_trials_are_read_back(tmp_path: Path) -> None:
    """Lines keep their order; the last of two for one step counts, and a torn one does not."""
    path = tmp_path / "diagnostics.jsonl"
    path.write_text(
        line("b", 10, gradient_rms={"up": 3})
        + line("a", 0, activation_rms={"up": 0.5, "down": None})
        + line("c", 0)
        + line("b", 0, alignment={"up": 0.5})
        + line("b", 10, gradient_rms={"up": 4.0})
        + line("a", 10)[:-1]
    )
    found = read_diagnostics(path, ["a", "b"])
    assert [(record.trial, record.step) for record in found] == [("a", 0), ("b", 0), ("b", 10)]
    assert found[0].activation_rms == {"up": 0.5, "down": None}
    assert found[1].alignment == {"up": 0.5}
    assert found[1].gradient_rms == {}
    assert found[2].gradient_rms == {"up": 4.0}


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read_diagnostics(tmp_path / "diagnostics.jsonl", ["a"]) == []


@pytest.mark.parametrize("wrong", ['{"trial": "a"}\n', line("a", 0, mistake={}), "a, 0, 3\n"])
def test_a_line_that_is_no_measurement_is_named(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "diagnostics.jsonl"
    path.write_text(line("a", 0) + wrong)
    with pytest.raises(InputError, match=r"diagnostics.jsonl line 2: is not a measurement; remove"):
        read_diagnostics(path, ["a"])


def test_by_role_the_median_of_what_there_is() -> None:
    values = {"q": 0.5, "k": None, "up": 0.6, "down": 1.0, "head": 0.9, "gain": None}
    assert by_role(
        values,
        {
            **dict.fromkeys(("q", "k", "up", "down"), "hidden"),
            "head": "readout",
            "gain": "vector",
        },
    ) == {"hidden": 0.6, "readout": 0.9}
