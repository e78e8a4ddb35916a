"""Parquet with structs."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.parquet import read_parquet


def test_fields_of_structs_are_columns() -> None:
    rows = [{"config": {"width": 16, "optim": {"lr": 0.1}}, "loss": 3.0}]
    file = io.BytesIO()
    pd.DataFrame(rows).to_parquet(file)
    table = read_parquet(file.getvalue(), "t.parquet")
    expected = [{"config.width": 16, "config.optim.lr": 0.1, "loss": 3.0}]
    assert table.cells.to_dict("records") == expected
    assert table.place(0) == "t.parquet row 1"
    with pytest.raises(InputError, match=r"t.parquet: not a Parquet file"):
        read_parquet(file.getvalue()[:-20], "t.parquet")
