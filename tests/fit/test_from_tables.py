from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.from_tables import exponents_of_table
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.results import results_of
from tests.fit.test_options import options

WIDTHS, RATES = (64, 128, 256, 512), [2.0**x for x in range(-9, -2)]


def frame() -> pd.DataFrame:
    cells = pd.DataFrame([{"width": w, "lr": lr} for w in WIDTHS for lr in RATES])
    octaves = np.log2(cells["lr"]) + 6 + np.log2(cells["width"] / 128) / 2
    return cells.assign(loss=3 + 0.1 * octaves**2)


def test_a_table_in_memory_is_fitted() -> None:
    notes: list[str] = []
    results = results_of([Table("runs", "row", frame())], options().choices())
    document, rows = exponents_of_table(results, options(), None, 0, notes.append)
    exponent = document.axes["lr"].exponent
    assert exponent is not None
    assert exponent.value == pytest.approx(-0.5, abs=0.02)
    assert (document.metric, len(rows)) == ("loss", len(frame()))
    assert "eval_loss" in rows
    assert notes == list(results.notes)


def test_decays_that_vary_need_a_convention(tmp_path: Path) -> None:
    both = pd.concat([frame().assign(weight_decay=decay) for decay in (0.05, 0.1, 0.2)])
    path = tmp_path / "runs.csv"
    both.to_csv(path, index=False)
    results = results_of([Table("runs", "row", both.reset_index())], options().choices())
    with pytest.raises(InputError, match="say whether its convention is lr_coupled") as error:
        exponents_of_table(results, options(), None, 0, print)
    assert error.value.remedy == "decay_convention"
