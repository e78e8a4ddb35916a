"""A project that Trackio 0.43.0 wrote."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.sqlite import read_sqlite

RUN = "(select run_id from configs)"


def test_a_run_has_its_settings(database: Callable[..., Path]) -> None:
    cells = read_sqlite(database("trackio")).cells
    assert cells.to_dict("records") == [
        {
            "run": "run-00",
            "config.width": 64,
            "config.optim.lr": 0.125,
            "step": 300,
            "val_loss": 3.4087715019736713,
        }
    ]


def test_every_step_is_a_row(database: Callable[..., Path]) -> None:
    """Trackio defines no result of a run, so that the steps are told apart elsewhere."""
    values = f"(7, {RUN}, '', 'run-00', 400, '{{\"val_loss\": \"NaN\"}}', null, null)"
    table = read_sqlite(database("trackio", f"insert into metrics values {values}"))
    assert table.cells["step"].tolist() == [300, 400]
    assert math.isnan(table.cells["val_loss"].tolist()[1])
    assert table.place(1).endswith("run run-00 step 400")


def test_an_empty_project_is_refused(database: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="nothing was logged in this project"):
        read_sqlite(database("trackio", "delete from metrics"))
