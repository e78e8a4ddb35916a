"""Parquet, with the fields of structs as columns of their own."""

from __future__ import annotations

import io

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import MOST_LEVELS, Table


def read_parquet(data: bytes, where: str) -> Table:
    """Read Parquet; the field `lr` of a struct `config` is the column `config.lr`.

    Raises:
        InputError: pyarrow is not installed, or it is not Parquet.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"{where}: reading Parquet needs pyarrow; run `pip install pyarrow`"
        ) from error
    try:
        found = pq.read_table(io.BytesIO(data))
        for _ in range(MOST_LEVELS):
            if not any(pa.types.is_struct(field.type) for field in found.schema):
                break
            found = found.flatten()
        cells: pd.DataFrame = found.to_pandas()
    except (ValueError, OSError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where}: not a Parquet file ({reason}); write it again") from error
    if any(name is not None for name in cells.index.names):
        cells = cells.reset_index()
    return Table(where, "row", cells.set_axis(range(1, len(cells) + 1), axis=0))
