"""Tables: users' CSV, JSON lines or Parquet under their own column names, and records as frames."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import AXES
from mutransfer_cli.spec.data import PARQUET_MAGIC
from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.records import TrialRecord
from mutransfer_cli.spec.yaml_io import cannot_read

DELIMITERS = ",\t;"
NUMBERS = [*AXES, "train_loss", "eval_loss"]


@dataclass(frozen=True)
class Table:
    """A table as written."""

    where: str
    """Path, or `stdin`."""
    unit: str
    """`line` or `row`, for messages."""
    cells: pd.DataFrame
    """All columns under the user's names; the index holds lines or rows, from 1."""

    def place(self, position: int) -> str:
        """Name the line or row at a position, from 0, in messages."""
        return f"{self.where} {self.unit} {self.cells.index[position]}"


def load_table(source: Path | None) -> Table:
    """Read Parquet, JSON lines or CSV, recognised by content; None is stdin.

    Raises:
        InputError: it cannot be read, is malformed or has no rows.
    """
    where = "stdin" if source is None else str(source)
    try:
        data = sys.stdin.buffer.read() if source is None else source.read_bytes()
    except OSError as error:
        raise cannot_read(where, error) from error
    if data.startswith(PARQUET_MAGIC):
        table = Table(where, "row", _parquet(data, where))
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}: is not UTF-8 text (byte {error.start}); save it as UTF-8"
            ) from error
        if not text.strip():
            raise InputError(f"{where}: is empty; give one row per run")
        parse = _json_lines if text.lstrip().startswith(("{", "[")) else _csv
        table = Table(where, "line", parse(text, where))
    if table.cells.empty:
        raise InputError(f"{where}: has no rows; give one row per run")
    return table


def _parquet(data: bytes, where: str) -> pd.DataFrame:
    try:
        cells = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except ImportError as error:
        raise InputError(
            f"{where}: reading Parquet needs pyarrow; run `pip install 'mutransfer-cli[data]'`"
        ) from error
    except (ValueError, OSError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where}: not a Parquet file ({reason}); write it again") from error
    if any(name is not None for name in cells.index.names):
        cells = cells.reset_index()
    return cells.set_axis(range(1, len(cells) + 1), axis=0)


def _json_lines(text: str, where: str) -> pd.DataFrame:
    rows, lines = [], []
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where} line {number}: not JSON ({error}); write one object per line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{where} line {number}: expected a JSON object, found {type(row).__name__}; "
                "write one object per line"
            )
        rows.append(row)
        lines.append(number)
    return pd.DataFrame(rows, index=lines, dtype=object)


def _csv(text: str, where: str) -> pd.DataFrame:
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        for row in reader:
            if "".join(row).strip():
                rows.append(row)
                lines.append(line)
                if len(row) != len(rows[0]):
                    raise InputError(
                        f"{where} line {line}: has {len(row)} fields where the header has "
                        f"{len(rows[0])}; quote fields that hold the delimiter"
                    )
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where} line {line}: not CSV ({error}); correct that line") from error
    header = [name.strip() for name in rows[0]] if rows else []
    return pd.DataFrame(rows[1:], index=lines[1:], columns=header, dtype=object)


def _delimiter(text: str) -> str:
    """The delimiter that splits the header into the most fields."""

    def fields(delimiter: str) -> int:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return len(next((row for row in reader if "".join(row).strip()), []))

    return max(DELIMITERS, key=fields)


def trial_frame(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row per trial that ran: width, seed, axes, and losses, which are NaN if it diverged."""
    rows = [
        {
            "width": trial.width,
            "seed": trial.seed,
            **trial.axes,
            "train_loss": trial.train_loss,
            "eval_loss": trial.eval_loss,
        }
        for trial in trials
        if trial.status != "failed"
    ]
    frame = pd.DataFrame(rows, columns=["width", "seed", *NUMBERS])
    return frame.astype(dict.fromkeys(NUMBERS, float))


def measurement_frame(
    measurements: Iterable[DiagnosticsRecord], trials: Iterable[TrialRecord], quantity: str
) -> pd.DataFrame:
    """One row per trial, step and parameter or module, without values that were not finite.

    Args:
        quantity: a field of the record, such as top_singular_value.
    """
    by_trial = {trial.trial: trial for trial in trials}
    rows = [
        {
            "trial": one.trial,
            "width": by_trial[one.trial].width,
            "seed": by_trial[one.trial].seed,
            "step": one.step,
            "name": name,
            "value": value,
        }
        for one in measurements
        for name, value in getattr(one, quantity).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["trial", "width", "seed", "step", "name", "value"])
