"""The doctor trains as sweeps do and reports what works, what does not, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mutransfer_cli.spec.records import ThroughputRecord
from mutransfer_cli.sweep import doctor
from mutransfer_cli.sweep.choice import Rung
from mutransfer_cli.sweep.doctor import (
    LAUNCHED,
    Report,
    RungReport,
    Trained,
    examine,
    judged,
    rungs,
)
from mutransfer_cli.torch_private import cpu_has_bf16
from tests.conftest import CPU

CAPTURED = replace(LAUNCHED, captured=True)
REPORT = RungReport("fp32", "captured", expected=True, works=False)
REFERENCE = Trained({(0.1, 0): 2.0, (0.2, 0): 4.0}, [], None, [])


def speed(rung: Rung) -> ThroughputRecord:
    numbers: dict[str, Any] = dict.fromkeys(
        ("tokens_per_second", "trials_per_hour", "flops_per_second", "matrix_peak", "of_peak"), 0.5
    )
    return ThroughputRecord(
        width=64,
        group="0",
        group_size=4,
        device="cuda",
        compiled=rung.compiled,
        captured=rung.captured,
        tokens=1,
        seconds=1,
        start_seconds=1,
        **numbers,
    )


def test_a_rung_works_that_trained_so_with_the_losses_of_launched_steps() -> None:
    trained = replace(REFERENCE, losses={(0.1, 0): 2.00002}, speed=speed(CAPTURED))
    report = judged(REPORT, CAPTURED, trained, REFERENCE)
    assert report.works
    assert report.difference == pytest.approx(1e-5)
    assert (report.tokens_per_second, report.matrix_peak) == (0.5, 0.5)
    assert report.remedy == ""


@pytest.mark.parametrize(
    ("trained", "reason"),
    [
        (replace(REFERENCE, speed=speed(LAUNCHED), notes=["it failed"]), "it failed"),
        (replace(REFERENCE, speed=speed(CAPTURED), failed=["no memory"]), "no memory"),
        (replace(REFERENCE, notes=["lost"]), "lost"),
        (
            replace(REFERENCE, losses={(0.2, 0): 4.4}, speed=speed(CAPTURED)),
            "losses differ by 1.0e-01 from those of launched steps in fp32",
        ),
    ],
)
def test_else_it_does_not_and_the_report_says_why_and_what_to_do(
    trained: Trained, reason: str
) -> None:
    report = judged(REPORT, CAPTURED, trained, REFERENCE)
    assert not report.works
    assert report.reason == reason
    assert "launched step by step" in report.remedy


def test_the_speed_of_another_rung_is_not_that_of_the_one_asked_for() -> None:
    unneeded = replace(REPORT, expected=False, reason="not needed here")
    trained = replace(REFERENCE, speed=speed(LAUNCHED), notes=["it failed"])
    report = judged(unneeded, CAPTURED, trained, REFERENCE)
    assert report.tokens_per_second is None
    assert report.reason == "not needed here; it failed"
    assert report.remedy == ""


def test_a_machine_is_healthy_whose_expected_rungs_work() -> None:
    works = replace(REPORT, steps="launched", works=True)
    machine = doctor.machine(CPU, 2)
    assert Report(machine, 2, True, [works, replace(REPORT, expected=False)]).healthy
    assert not Report(machine, 2, True, [works, REPORT]).healthy
    assert not Report(machine, 2, False, [works]).healthy, "no worker process could be started"
    report = Report(machine, 2, True, [works, REPORT])
    assert report.use == "sweeps train in 2 worker processes, launched step by step"
    captured = replace(report, rungs=[works, replace(REPORT, works=True)])
    assert captured.use == "sweeps train in 2 worker processes, in CUDA graphs"
    assert replace(report, rungs=[REPORT]).use == "no sweep can train on this device"


def test_on_cuda_every_rung_is_tried() -> None:
    assert set(rungs(torch.device("cuda"))) == {
        *((p, s) for p in ("fp32", "bf16") for s in ("launched", "captured", "compiled")),
        ("tf32", "captured"),
    }


def test_a_cpu_trains_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test trains in this process and skips the compilation, which takes most of a minute."""
    monkeypatch.setattr(doctor, "rungs", lambda device: [("fp32", "launched")])
    rung, report = examine(CPU)
    assert isinstance(rung, RungReport)
    assert isinstance(report, Report)
    assert rung.works
    assert rung.difference == 0
    assert rung.matrix_peak is not None
    assert rung.matrix_peak > 1e9
    assert report.rungs == [rung]


@pytest.mark.slow
@pytest.mark.processes
def test_this_machine_is_healthy() -> None:
    *found, report = examine(CPU)
    assert isinstance(report, Report)
    assert report.healthy
    bf16 = next(x for x in found if isinstance(x, RungReport) and x.precision == "bf16")
    assert bf16.expected == cpu_has_bf16()
    assert bf16.works
