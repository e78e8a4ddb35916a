from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.notebook.runs import read_run
from mutransfer_cli.spec.kinds import TRIALS
from mutransfer_cli.spec.records import Records
from mutransfer_cli.sweep.store import RecordStore
from tests.report.runs import WIDTHS, bowl, write_run

TOO_HIGH = 2.0**-3


def diverging(width: int, lr: float, decay: float, seed: int) -> float | None:
    return None if lr == TOO_HIGH and width == 128 else bowl(width, lr, decay, seed)


def test_trials_are_a_frame_of_the_records_fields(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "x", diverging))
    assert set(run.trials["width"]) == set(WIDTHS)
    assert len(run.trials) == len(run.records.trials)
    lost = run.trials[run.trials["status"] == "diverged"]
    assert set(lost["lr"]) == {TOO_HIGH}
    assert lost["eval_loss"].isna().all()
    assert repr(run) == "Run x: 56 trials (2 diverged) at widths 16, 32, 64, 128"
    assert not run.is_running


def test_the_fit_is_that_of_the_command(tmp_path: Path, run: Callable[..., object]) -> None:
    folder = write_run(tmp_path / "x")
    fit = read_run(str(folder)).fit()
    fit.save(tmp_path / "here.yaml")
    run("fit-exponents", folder, "-o", tmp_path / "there.yaml")
    assert (tmp_path / "here.yaml").read_text() == (tmp_path / "there.yaml").read_text()
    assert read_run(folder / TRIALS).fit("train_loss").exponents.metric == "train_loss"


def test_a_sweep_in_training_is_read_up_to_its_torn_line(
    made: Callable[..., Records], write_records: Callable[..., Path], tmp_path: Path
) -> None:
    records = made()
    path = write_records(records)
    whole = path.read_bytes()
    with RecordStore(tmp_path, records.header):
        path.write_bytes(whole[:-20])
        run = read_run(tmp_path)
        assert run.is_running
        assert repr(run).endswith(", still running")
        assert len(run.trials) == len(records.trials) - 1
        path.write_bytes(whole.splitlines(keepends=True)[0])
        early = read_run(tmp_path)
        assert repr(early) == f"Run {tmp_path.name}: 0 trials, still running"
        assert early._repr_html_().count("<svg") == 0
        with pytest.raises(InsufficientEvidence, match="no trial has finished yet"):
            early.fit()
    assert not read_run(tmp_path).is_running


def test_it_is_shown_with_its_bowls(tmp_path: Path) -> None:
    shown = read_run(write_run(tmp_path / "x"))._repr_html_()
    assert shown.count("<svg") == 2
    assert "exponent of lr" in shown


def test_anything_else_is_refused_in_words(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("width,lr,loss\n64,0.1,3\n")
    with pytest.raises(InputError, match=r"is a table of runs; give the folder .*fit_exponents"):
        read_run(table)
    with pytest.raises(InputError, match=r"^expected the folder of a sweep, .* found a DataFrame;"):
        read_run(pd.DataFrame())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read"):
        read_run(tmp_path / "none")
    run = read_run(write_run(tmp_path / "x"))
    with pytest.raises(InputError, match="records have eval_loss and train_loss"):
        run.fit("loss")
    with pytest.raises(InputError, match="scatter_below 0: expected a positive number"):
        run.fit(scatter_below=0)


def test_the_package_is_imported_without_its_dependencies() -> None:
    program = (
        "import sys, mutransfer_cli as mt\n"
        "assert {'read_run', 'fit_exponents', 'sweep'} <= set(dir(mt))\n"
        "print([name for name in ('torch', 'pandas', 'pydantic', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
