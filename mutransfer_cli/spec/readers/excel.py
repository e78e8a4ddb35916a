"""Excel workbooks with one sheet of runs."""

from __future__ import annotations

import io
import zipfile

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table

SHEETS = "xl/workbook.xml"  # the member that only a workbook has


def is_workbook(data: bytes) -> bool:
    """Whether the bytes of a zip archive are an Excel workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return SHEETS in archive.namelist()
    except zipfile.BadZipFile:
        return False


def read_excel(data: bytes, where: str) -> Table:
    """Read the only sheet that holds rows; formulas count as the values that were saved with them.

    Raises:
        InputError: openpyxl is not installed, the workbook is broken, or several sheets hold rows.
    """
    try:
        sheets = pd.read_excel(io.BytesIO(data), sheet_name=None, dtype=object, engine="openpyxl")
    except ImportError as error:
        raise InputError(
            f"{where}: reading Excel needs openpyxl; run `pip install openpyxl`, or "
            "save the sheet as CSV"
        ) from error
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{where}: not an Excel workbook ({error}); save it again") from error
    full = {name: cells.dropna(how="all") for name, cells in sheets.items()}
    full = {name: cells for name, cells in full.items() if not cells.empty}
    if len(full) > 1:
        raise InputError(
            f"{where}: {len(full)} sheets hold rows ({', '.join(map(repr, full))}); save the one "
            "with the runs as CSV"
        )
    cells = next(iter(full.values()), pd.DataFrame())
    cells = cells.loc[
        :, [not str(n).startswith("Unnamed: ") or cells[n].notna().any() for n in cells]
    ]
    cells = cells.astype(object).where(cells.notna(), None)
    cells.columns = [str(name).strip() for name in cells.columns]
    # the header is row 1 of the sheet, and pandas numbers from 0
    return Table(where, "row", cells.set_axis(cells.index + 2, axis=0))
