"""Workbooks; openpyxl is an extra, so that only the tests of the sources have it."""

from __future__ import annotations

import io
import sys
import zipfile

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.excel import is_workbook, read_excel


def test_a_workbook_is_told_from_other_archives() -> None:
    def archive(name: str) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as content:
            content.writestr(name, "")
        return file.getvalue()

    assert is_workbook(archive("xl/workbook.xml"))
    assert not is_workbook(archive("runs.csv"))
    assert not is_workbook(b"PK\x03\x04 cut short")


def test_without_openpyxl_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"t.xlsx: reading Excel needs openpyxl; .*save the sheet"):
        read_excel(b"PK\x03\x04", "t.xlsx")


def test_the_only_sheet_with_rows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"width": [16, None, 32], "lr": [0.1, None, 0.2], "Unnamed: 2": [None] * 3})
    sheets = {"runs": rows, "notes": pd.DataFrame()}
    monkeypatch.setattr(pd, "read_excel", lambda *_, **__: sheets)
    table = read_excel(b"", "t.xlsx")
    assert table.cells.to_dict("list") == {"width": [16, 32], "lr": [0.1, 0.2]}
    assert table.place(1) == "t.xlsx row 4"  # an empty row is counted
    sheets["more"] = rows
    with pytest.raises(InputError, match=r"t.xlsx: 2 sheets hold rows \('runs', 'more'\); save"):
        read_excel(b"", "t.xlsx")
