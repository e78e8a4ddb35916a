"""Columns of Parquet files, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mutransfer_cli.data.mapped import outside
from mutransfer_cli.errors import InputError

ROWS = 256


def token_lists(
    files: Sequence[Path], column: str, vocab: int
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """The token ids of a column of lists, row after row; empty rows hold none.

    Raises:
        InputError: no such column, or one of something else; a token beyond the vocabulary.
    """
    for file in files:
        for first, rows in _batches(file, column, _holds_tokens, "lists of token ids"):
            values = rows.flatten()
            lengths = rows.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            place = None
            if values.null_count:
                place, found = values.is_null().to_pylist().index(True), "none"
            else:
                tokens = values.to_numpy(zero_copy_only=False)
                place = outside(tokens, vocab)
                found = "" if place is None else str(tokens[place])
            if place is not None:
                row = int(np.searchsorted(lengths.cumsum(), place, side="right"))
                position = place - int(lengths[:row].sum())
                raise InputError(
                    f"data: {file}: token {found} at position {position} of row {first + row} "
                    f"(from 0) of {column} is not in a vocabulary of {vocab}; give the data.vocab "
                    "that the tokens were made with"
                )
            yield tokens


def texts(files: Sequence[Path], column: str) -> Iterator[str]:
    """The texts of a column; empty rows are left out.

    Raises:
        InputError: no such column, or one of something else.
    """
    for file in files:
        for _, rows in _batches(file, column, _holds_text, "text"):
            yield from (text for text in rows.to_pylist() if text)


def _batches(
    file: Path, column: str, fits: Callable[[Any], bool], what: str
) -> Iterator[tuple[int, Any]]:
    """The first row's number and an Arrow array, again and again."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"data: {file}: reading Parquet needs pyarrow; run `pip install 'mutransfer-cli[data]'`"
        ) from error
    row = 0
    try:
        with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as source:
            schema = source.schema_arrow
            if column not in schema.names:
                raise InputError(
                    f"data.column: {file} has no column {column}; it has {', '.join(schema.names)}"
                )
            found = schema.field(column).type
            if not fits(found):
                raise InputError(
                    f"data.column: {column} of {file} holds {found}; give a column of {what}"
                )
            for batch in source.iter_batches(ROWS, columns=[column]):
                yield row, batch.column(0)
                row += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"data: {file}: is damaged after row {row} ({reason}); fetch or write it again"
        ) from error


def _holds_tokens(found: Any) -> bool:
    import pyarrow.types as types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(fits(found) for fits in lists) and types.is_integer(found.value_type)


def _holds_text(found: Any) -> bool:
    import pyarrow.types as types

    kinds = (types.is_string, types.is_large_string, types.is_string_view)
    return any(fits(found) for fits in kinds)
