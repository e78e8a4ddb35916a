"""A sweep's folder as a page reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mutransfer_cli.report.run import Run, read_run, run_of_table
from tests.report.runs import WIDTHS, write_run

RunOf = Callable[..., Run]


def test_a_folder_is_read_whole(run_of: RunOf) -> None:
    run = run_of()
    assert run.name == "run"
    assert run.widths == list(WIDTHS)
    assert len(run.curves) == len(run.trials) == 4 * 7 * 2
    assert run.loss_label == "eval loss (nats)"
    assert run.check is None


def test_files_that_are_missing_are_empty(run_of: RunOf) -> None:
    run = run_of(measured=False)
    assert (list(run.curves), list(run.diagnostics)) == ([], [])


def test_widths_are_compared_at_the_best_values_that_never_diverged(run_of: RunOf) -> None:
    def loss(width: int, lr: float, decay: float, seed: int) -> float | None:
        best = lr == 2**-6  # diverges once
        return None if best and (width, seed) == (128, 1) else abs(math.log2(lr) + 6.1)

    run = run_of(loss=loss)
    assert {(trial.width, trial.seed) for trial in run.compared} == {
        (width, seed) for width in WIDTHS for seed in (0, 1)
    }
    assert {trial.lr for trial in run.compared} == {2**-7}
    assert {record.trial for record in run.diagnostics} == {trial.trial for trial in run.compared}


def test_one_width_is_compared_with_nothing(run_of: RunOf) -> None:
    assert run_of(widths=[32]).compared == []


def test_records_alone_have_no_measurements(run_of: RunOf, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "sweep")
    assert len(read_run(folder / "trials.jsonl").curves) == 56, "the folder is that of the file"
    alone = tmp_path / "copy.jsonl"
    alone.write_bytes((folder / "trials.jsonl").read_bytes())
    run = read_run(alone)
    assert (run.name, len(run.trials), list(run.curves)) == ("copy.jsonl", 56, [])


def test_a_table_is_a_run_without_records(run_of: RunOf) -> None:
    fitted = run_of()
    rows = fitted.trials[["width", "lr", "eval_loss"]].head(2).reset_index(drop=True)
    rows.loc[1, "eval_loss"] = np.nan
    run = run_of_table("table.csv", fitted.document, rows)
    assert (run.records, run.has_losses, run.check) == (None, True, None)
    assert run.rows()[1] == {"width": 16, "lr": 2**-9, "eval_loss": None}
    assert run.cells(["lr"])["eval_loss"].tolist() == [np.inf], "one seed diverged"
    optima = run_of_table("optima.csv", fitted.document, rows[["width", "lr"]])
    assert not optima.has_losses


def test_cells_are_means_at_the_best_of_the_other_axes(run_of: RunOf) -> None:
    def loss(width: int, lr: float, decay: float, seed: int) -> float | None:
        if lr == 2**-4 and seed == 1:
            return None
        return 2 + abs(math.log2(lr) + 6) + decay + 0.1 * seed

    cells = run_of(loss=loss, decays=(0.0, 0.25, 1.0), widths=[16, 32]).cells(["lr"])
    at = cells[cells["width"] == 16].set_index("lr")["eval_loss"]
    assert at[2**-6] == pytest.approx(2.05)
    assert at[2**-9] == pytest.approx(5.05)
    assert at[2**-4] == np.inf
    both = run_of(loss=loss, decays=(0.0, 0.25, 1.0), widths=[16, 32]).cells(["lr", "weight_decay"])
    assert sorted(set(both["weight_decay"])) == [0.25, 1.0], "0 has no logarithm"
