"""The benchmark of fused sweeps itself, at the smallest size."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
import torch

from benchmarks import fused_sweep
from benchmarks.cases import Case
from benchmarks.contenders import Eager, Engine
from benchmarks.expected import PREDICTED_MS, expected
from benchmarks.workers import Pool

SIZES = {"widths": 16, "depth": 1, "head-size": 8, "trials": 2, "tokens": "2x16"}
TINY = ["--device=cpu", *(f"--{name}={value}" for name, value in SIZES.items())]


def case(**changes: Any) -> Case:
    sizes = {"width": 16, "vocab": 256, "batch": 2, "context": 16, "trials": 2, "depth": 1}
    return Case(**{**sizes, "head_size": 8, "device_name": "cpu", **changes})


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_sweep, "MOST_SECONDS", 0.02)
    monkeypatch.setattr(fused_sweep, "REPETITIONS", 3)
    # two threads wait for each other for long where other processes use the cores
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_all_contenders_of_a_cpu_train_the_same_and_are_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fused_sweep.main([*TINY, "--contenders", "a1", "b", "c", "--processes", "2", "--profile"])
    *table, line = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert not report["left_out"]
    (row,) = report["rows"]
    assert set(row["seconds"]) == set(row["differences"]) == {"a1", "b", "c", "d"}
    assert 0 < row["differences"]["b"] <= fused_sweep.LOSS_TOLERANCE["fp32"]
    assert row["differences"]["a1"] == row["differences"]["c"] == 0, "an engine, whatever its slots"
    for ratio, name in {"d/a": "a1", "d/b": "b", "d/c": "c"}.items():
        pairs = zip(row["seconds"][name], row["seconds"]["d"], strict=True)
        assert row["ratios"][ratio] == statistics.median(other / fused for other, fused in pairs)
        assert row["ratios"][ratio] > 0
        per_hour = 3.6 / statistics.median(row["seconds"][name])
        assert row["trials_per_hour"][name] == pytest.approx(per_hour)
        assert any(line.startswith("|") and f"{row['ratios'][ratio]:.2f}" in line for line in table)
    assert 0 < row["share_of_peak"] < 1
    assert row["slots"] in (1, 2)
    assert row["profile"]


@pytest.mark.slow
def test_a_contender_that_trains_otherwise_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Pool.losses

    def disturbed(self: Pool, steps: int) -> torch.Tensor:
        return losses(self, steps) * (1.001 if self.name == "b" else 1)

    monkeypatch.setattr(Pool, "losses", disturbed)
    with pytest.raises(SystemExit, match=r"losses of b differ from the fused ones by 1\.0e-03"):
        fused_sweep.main([*TINY, "--contenders", "b"])


def test_another_rate_or_order_of_data_is_noticed() -> None:
    """The comparison of losses exists to find this."""
    here = case()
    sweep = here.sweep()
    low, high, other_seed = (
        sweep.jobs(sweep.trials[16])[0],
        case(trials=4).jobs(case(trials=4).sweep())[0],
        sweep.jobs(sweep.trials[16])[1],
    )
    alone = Eager(here, torch.device("cpu"))
    fused = Engine(here, torch.device("cpu"), [low]).losses([low], 8)
    assert torch.allclose(alone.losses([low], 8), fused, rtol=1e-4)
    assert not torch.allclose(alone.losses([high], 8), fused, rtol=1e-2)
    assert not torch.allclose(alone.losses([other_seed], 8), fused, rtol=1e-2)


def test_what_does_not_fit_into_the_budget_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    fused_sweep.main([*TINY, "--budget", "0"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not report["rows"]
    assert report["left_out"] == [f"{case().title}: the budget is spent"]


def test_an_error_in_a_process_is_not_swallowed() -> None:
    with pytest.raises(SystemExit, match="does not divide"):
        fused_sweep.main([*TINY, "--contenders", "b", "--head-size", "12"])


def test_expectations_are_for_the_stated_sizes_only() -> None:
    real = case(width=128, batch=16, context=256, depth=4, head_size=64, trials=32)
    real = Case(**{**vars(real), "device_name": "cuda"})
    found = expected(real, "d/a")
    assert found.predicted == pytest.approx(0.60 / 0.17)
    assert found.required == 2.5
    other = Case(**{**vars(real), "trials": 8})
    assert expected(other, "d/a").predicted is expected(other, "d/a").required is None
    assert len(PREDICTED_MS) == 16
