"""`mutransfer doctor` as its user sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.sweep import doctor
from mutransfer_cli.sweep.doctor import RungReport
from tests.conftest import CPU

PAGE = (Path(doctor.__file__).parents[1] / "docs" / "clusters.md").read_text()
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the doctor to one rung, because the others take most of a minute."""
    monkeypatch.setattr(doctor, "rungs", lambda device: [("fp32", "launched")])


def test_the_table_says_what_works_and_what_will_be_used(run: Run) -> None:
    result = run("doctor", "--device", "cpu")
    assert result.exit_code == 0
    device, versions, head, row, use = result.stdout.splitlines()
    assert re.fullmatch(r"device: cpu \S+, [\d.]+ GB free; \d+ CPU cores", device)
    assert re.fullmatch(r"mutransfer \S+, torch \S+, Python [\d.]+, Linux-.*", versions)
    columns = ["precision", "steps", "works", "tokens/s", "start", "matrix peak", "difference"]
    assert re.split(r"  +", head.strip()) == columns
    assert re.fullmatch(r" fp32 +launched +yes +[\d,]+ +[\d.]+ s +[\d.]+e\+\d+ +0e\+00 ?", row)
    assert use.startswith("sweeps train in ")
    assert result.stderr == "fp32 launched: works\n"


def test_json_holds_the_same(run: Run) -> None:
    result = run("doctor", "--device", "cpu", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["schema"] == "mutransfer.doctor/1"
    (rung,) = found["rungs"]
    assert (rung["precision"], rung["steps"], rung["works"]) == ("fp32", "launched", True)
    assert found["machine"]["torch"]


def test_a_rung_that_should_work_and_does_not_is_exit_code_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(report: RungReport, *others: object) -> RungReport:
        return replace(report, reason="the device is gone")

    monkeypatch.setattr(doctor, "judged", broken)
    result = run("doctor", "--device", "cpu")
    assert result.exit_code == 1
    assert "fp32 launched: the device is gone; no sweep can train; see the message" in result.stdout
    assert result.stdout.endswith("no sweep can train on this device\n")


def test_the_output_shown_is_of_every_rung() -> None:
    shown = PAGE.split("\n## Doctor")[1].split("```text\n")[1].split("```")[0]
    rows = [line.split()[:2] for line in shown.splitlines() if re.match(r" (fp|bf)\d+ ", line)]
    assert [tuple(pair) for pair in rows] == RUNGS


RUNGS = doctor.rungs(CPU)
