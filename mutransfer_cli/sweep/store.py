"""The folder of a sweep: trials.jsonl, curves.jsonl and diagnostics.jsonl, append-only."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.spec.kinds import TRIALS
from mutransfer_cli.spec.measurements import CURVES, DIAGNOSTICS
from mutransfer_cli.spec.protocol import Protocol, difference
from mutransfer_cli.spec.records import (
    TRIAL_SCHEMA,
    Records,
    SweepHeader,
    ThroughputRecord,
    TrialRecord,
)
from mutransfer_cli.spec.sources import read_records
from mutransfer_cli.spec.yaml_io import cannot_read, cannot_write, json_line

HEADER_START = f'{{"schema": "{TRIAL_SCHEMA}"'.encode()
BLOCK = 1 << 16
ANOTHER = "give another folder"


@dataclass(frozen=True)
class Finished:
    """Trials that ended together.

    Attributes:
        curves: lines of the file of loss curves, each with its `trial`.
        diagnostics: lines of the file of measurements, each with its `trial`.
    """

    records: Sequence[TrialRecord]
    curves: Sequence[dict[str, object]] = ()
    diagnostics: Sequence[dict[str, object]] = ()

    def only(self, trials: Container[str]) -> Finished:
        """The part about the given trials."""
        return Finished(
            [record for record in self.records if record.trial in trials],
            [line for line in self.curves if line["trial"] in trials],
            [line for line in self.diagnostics if line["trial"] in trials],
        )


class RecordStore:
    """Records of one protocol in one folder, with one writer at a time.

    Opening reads the records, cuts off an incomplete last line, and writes the header into an empty
    file. `append` returns only when the records are on the disk. After a kill between two files,
    curves and diagnostics may hold a trial twice; the last line counts.

    Raises:
        InputError: the folder cannot be written, belongs to another protocol, or is in use.
        StorageError: the disk refused; all earlier records are intact.
    """

    def __init__(self, folder: Path, header: SweepHeader) -> None:
        self.path = folder / TRIALS
        self.curves_path, self.diagnostics_path = folder / CURVES, folder / DIAGNOSTICS
        self._diagnostics: BinaryIO | None = None
        self.trials: dict[str, TrialRecord] = {}
        with ExitStack() as self._opened:
            self._trials, self._curves = self._open(self.path), self._open(self.curves_path)
            _lock(self._trials)
            found = self._read(folder, header)
            _cut_torn_line(self._curves)
            self._opened = self._opened.pop_all()
        self.header = found.header
        self.trials |= {record.trial: record for record in found.trials}

    def _open(self, path: Path) -> BinaryIO:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._opened.enter_context(path.open("ab", buffering=0))
        except OSError as error:
            raise cannot_write(path.parent, error) from error

    def _read(self, folder: Path, header: SweepHeader) -> Records:
        """Read the records and cut off an incomplete last line; if there are none, begin."""
        found = read_records(self.path)
        if found is None:
            self._begin(header)
            return Records(header, ())
        refuse_other_protocol(folder, found.header.protocol, header.protocol)
        refuse_other_model(folder, found.header, header)
        _cut_torn_line(self._trials)
        return found

    def _begin(self, header: SweepHeader) -> None:
        line = json_line(header.model_dump(mode="json", by_alias=True))
        torn = self.path.read_bytes()
        if torn[: len(HEADER_START)] != HEADER_START[: len(torn)]:
            raise InputError(f"{self.path} is not a record file; {ANOTHER}", remedy="output")
        self._trials.truncate(0)
        self._write(self._trials, line)

    def append(self, found: Finished) -> None:
        """Write the records last: a record on the disk implies its curve and diagnostics."""
        if found.diagnostics:
            if self._diagnostics is None:
                self._diagnostics = self._open(self.diagnostics_path)
                _cut_torn_line(self._diagnostics)
            self._write(self._diagnostics, b"".join(map(json_line, found.diagnostics)))
        self._write(self._curves, b"".join(map(json_line, found.curves)))
        self._write(self._trials, b"".join(record.line() for record in found.records))
        self.trials |= {record.trial: record for record in found.records}

    def append_throughput(self, throughput: ThroughputRecord) -> None:
        self._write(self._trials, throughput.line())

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def _write(self, handle: BinaryIO, data: bytes) -> None:
        start = os.fstat(handle.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += handle.write(data[written:])
            os.fsync(handle.fileno())
        except OSError as error:
            handle.truncate(start)
            raise StorageError(
                f"{handle.name}: could not be written ({error.strerror}); the {len(self.trials)} "
                "records so far are intact; free some space and run the same command again to "
                "resume"
            ) from error


def _cut_torn_line(handle: BinaryIO) -> None:
    """Remove what follows the last newline: an interrupted write."""
    whole = end = os.fstat(handle.fileno()).st_size
    with open(handle.name, "rb") as content:
        while whole:
            start = max(0, whole - BLOCK)
            content.seek(start)
            newline = content.read(whole - start).rfind(b"\n")
            whole = start + newline + 1
            if newline >= 0:
                break
    if whole < end:
        handle.truncate(whole)


def refuse_other_protocol(folder: Path, there: Protocol, here: Protocol) -> None:
    """Raise InputError if the protocols differ, and say how."""
    if there.hash != here.hash:
        raise InputError(
            f"{folder} holds another protocol; {difference(there, here)}; undo the change, or "
            f"{ANOTHER}",
            remedy="output",
        )


def refuse_other_model(folder: Path, there: SweepHeader, here: SweepHeader) -> None:
    """Raise InputError if the models differ, as the code behind a factory may change."""
    old, new = ({p.name: p for p in header.base_plan} for header in (there, here))
    for name in sorted(old.keys() | new.keys()):
        sizes = [
            f"{' x '.join(map(str, found.shape))} ({found.role})" if found else "absent"
            for found in (old.get(name), new.get(name))
        ]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{folder} holds another model: {name} was {sizes[0]} and is now {sizes[1]}; "
                f"{ANOTHER}",
                remedy="output",
            )


def is_written(source: Path) -> bool:
    """Whether a sweep on this machine is in training and writes a folder, or a file of records.

    False too where the platform has no advisory locks.
    """
    path = source / TRIALS if source.is_dir() else source
    try:
        import fcntl

        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except ImportError:
        pass
    except OSError as error:
        raise cannot_read(path, error) from error
    return False


def _lock(handle: BinaryIO) -> None:
    try:
        import fcntl
    except ImportError:
        return  # no advisory locks on this platform: the user must start only one writer
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{handle.name} is being written by another sweep; wait for it, or {ANOTHER}",
            remedy="output",
        ) from error
