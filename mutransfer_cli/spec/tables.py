"""Tables: users' own results in any file, database or folder, and records as frames."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import AXES
from mutransfer_cli.spec.data import PARQUET_MAGIC
from mutransfer_cli.spec.kinds import GZIP, SQLITE, UTF16, ZIP
from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.readers.delimited import read_delimited
from mutransfer_cli.spec.readers.excel import is_workbook, read_excel
from mutransfer_cli.spec.readers.nested_json import read_json
from mutransfer_cli.spec.readers.optuna import read_journal
from mutransfer_cli.spec.readers.parquet import read_parquet
from mutransfer_cli.spec.readers.sqlite import read_sqlite
from mutransfer_cli.spec.readers.systems import read_folder
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.records import TrialRecord
from mutransfer_cli.spec.yaml_io import cannot_read

__all__ = ["Table", "load_table", "measurement_frame", "trial_frame"]

NUMBERS = [*AXES, "train_loss", "eval_loss"]
JOURNAL = re.compile(r'\{"op_code"')
ADDRESS = re.compile(r"[a-z][a-z0-9+]+:/")
# files that are recognised and not read, by their first bytes
UNREADABLE = {
    b"\x80\x02": "a pickle, which could run code",
    b"\x80\x03": "a pickle, which could run code",
    b"\x80\x04": "a pickle, which could run code",
    b"\x80\x05": "a pickle, which could run code",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of NumPy",
    b"ARROW1": "an Arrow file",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b":W&B": "the log of one W&B run: give its folder, or that of all runs",
}
ADVICE = "; save one row per run as CSV, JSON or Parquet"


def load_table(source: Path | None, pattern: str | None = None) -> Table:
    """Read a file, a database or a folder, recognised by content; None is stdin.

    Files are CSV and its relatives, JSON, JSON lines, Parquet, Excel, databases and journals of
    Optuna, databases of MLflow and Trackio, and any of the first four compressed by gzip. Folders
    are those of W&B, MLflow, Ray Tune, Trainer, Lightning, TensorBoard and Hydra, and others with
    one file of results per run. Nothing is executed, and nothing is read over a network.

    Args:
        pattern: for folders, the form of the paths to read: `width{width}_lr{lr}/log.csv`.

    Raises:
        InputError: it cannot be read, is malformed or has no rows.
    """
    where = "stdin" if source is None else str(source)
    if source is not None and ADDRESS.match(where) and not source.exists():
        raise InputError(
            f"{where}: is an address, and nothing is read over a network; give a file or a folder, "
            "or export the runs as CSV"
        )
    if source is not None and source.is_dir():
        table = read_folder(source, load_table, pattern)
    elif pattern is not None:
        raise InputError(
            f"path_pattern {pattern}: is for folders, and {where} is none; leave it out",
            setting="path_pattern",
        )
    else:
        table = _of_file(source, where)
    if table.cells.empty:
        raise InputError(f"{where}: has no rows; give one row per run")
    return table


def _of_file(source: Path | None, where: str) -> Table:
    try:
        data = sys.stdin.buffer.read() if source is None else source.read_bytes()
        if data.startswith(GZIP):
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{where}: not a gzip file ({error}); compress it again") from error
    except OSError as error:
        raise cannot_read(where, error) from error
    if data.startswith(PARQUET_MAGIC):
        return read_parquet(data, where)
    if data.startswith(SQLITE):
        if source is None or not source.read_bytes().startswith(SQLITE):
            raise InputError(f"{where}: a database is read from its own file only; give its path")
        return read_sqlite(source)
    if data.startswith(ZIP):
        if is_workbook(data):
            return read_excel(data, where)
        raise InputError(f"{where}: is a zip archive; unpack it, and give the file or folder in it")
    for magic, kind in UNREADABLE.items():
        if data.startswith(magic):
            raise InputError(f"{where}: is {kind}{ADVICE}")
    text = _decoded(data, where)
    if not text.strip():
        raise InputError(f"{where}: is empty; give one row per run")
    start = text.lstrip()
    if JOURNAL.match(start):
        return read_journal(text, where)
    return (read_json if start.startswith(("{", "[")) else read_delimited)(text, where)


def _decoded(data: bytes, where: str) -> str:
    """UTF-8 text, or UTF-16 with a byte order mark or with a zero in every second byte."""
    start = data[:64]
    if start.startswith(UTF16):
        encoding = "utf-16"
    elif len(start) > 3 and not any(start[1::2]):
        encoding = "utf-16-le"
    elif len(start) > 3 and not any(start[::2]):
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error


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
