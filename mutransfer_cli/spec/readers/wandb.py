"""W&B runs in a `wandb` folder, online and offline, read without wandb and without a network.

The columns are `config.NAME` and `summary.NAME`: the summary is the last value of a metric unless
the run defined another one (`define_metric(..., summary="min")` is `summary.NAME.min`).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table, flat, last_of_each, runs_table
from mutransfer_cli.spec.readers.tree import Tree, read_json_file, read_yaml_file
from mutransfer_cli.spec.readers.wire import fields, parts, signed, text

FOLDER = re.compile(r"(?:.*/)?(?:offline-)?run-(\d{8}_\d{6})-([^/]+)")
SUMMARY, CONFIG = "files/wandb-summary.json", "files/config.yaml"
MAGIC = b":W&B"
HEADER, BLOCK = 7, 32768  # bytes of a file's and of a record's header; of a block of records
# numbers of fields in wandb_internal.proto
HISTORY, SUMMARIES, CONFIGS, RUN, EXIT, PREEMPTING = 2, 3, 5, 17, 18, 23
KEY, NESTED, JSON = 1, 2, 16  # of an item


def find_runs(tree: Tree) -> list[str]:
    """The folders of runs, the earliest first."""
    candidates = {folder.removesuffix("/files") for folder in tree.folders}
    named = {folder: FOLDER.fullmatch(folder or tree.root.resolve().name) for folder in candidates}
    return [
        folder
        for _, folder in sorted((found[1], folder) for folder, found in named.items() if found)
    ]


def read_folders(tree: Tree, folders: list[str]) -> Table:
    """Read the runs of a `wandb` folder.

    A run without an exit record counts as crashed; one that only its files tell of has no status.
    Of a run that was resumed the last part counts, which goes on with the summary.

    Raises:
        InputError: a run's files cannot be read.
    """
    runs: dict[str, dict[str, Any]] = {}
    unlogged, resumed = 0, 0
    for folder in folders:
        path = tree.root / folder
        found = FOLDER.fullmatch(folder or tree.root.resolve().name)
        assert found is not None, "such folders are chosen"
        logs = sorted(path.glob("*.wandb"))
        values = _of_files(path)
        if logs:
            values = values | _of_log(logs[0])
        unlogged += not values
        resumed += found[2] in runs
        if values:
            runs[found[2]] = runs.get(found[2], {}) | values | tree.values(folder)
    sentences = {
        f"{unlogged} runs without files are left out": unlogged,
        f"{resumed} runs were resumed; their last part counts": resumed,
    }
    notes = tuple(f"{tree.where}: {sentence}" for sentence, count in sentences.items() if count)
    return runs_table(tree.where, runs, notes=notes)


def _of_files(path: Path) -> dict[str, Any]:
    """Settings and summary in the files that an online run writes when it ends."""
    found: dict[str, Any] = {}
    if (path / CONFIG).is_file():
        settings = read_yaml_file(path / CONFIG)
        values = {
            name: item["value"]
            for name, item in settings.items()
            if isinstance(item, dict) and "value" in item and not name.startswith("_")
        }
        found |= flat({"config": values})
    if (path / SUMMARY).is_file():
        found |= _summary(read_json_file(path / SUMMARY))
    return found


def _summary(values: dict[str, Any]) -> dict[str, Any]:
    """A summary without the entries that W&B adds, but with its last step as `step`."""
    own = {name: value for name, value in values.items() if not name.startswith("_")}
    step = {"step": values["_step"]} if "_step" in values else {}
    return step | flat({"summary": own})


def _of_log(path: Path) -> dict[str, Any]:
    """Settings, summary and state in the log that every run writes."""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    about: dict[str, Any] = {"status": "crashed"}
    try:
        for record in records(path.read_bytes()):
            for number, part in fields(record):
                if not isinstance(part, bytes):
                    continue
                if number == RUN:
                    about["name"] = text(part, 8) or None
                    for inner in parts(part, 4):
                        _update(config, inner)
                elif number == CONFIGS:
                    _update(config, part)
                elif number == SUMMARIES:
                    _update(summary, part)
                elif number == HISTORY:
                    row: dict[str, Any] = {}
                    _update(row, part)
                    history.append(row)
                elif number == PREEMPTING:
                    about["status"] = "preempted"
                elif number == EXIT:
                    codes = [signed(value) for found, value in fields(part) if found == 1]
                    about["status"] = "failed" if any(codes) else "finished"
    except (ValueError, KeyError, struct.error) as error:
        raise InputError(
            f"{path}: not a log of W&B that can be read ({error}); sync it and export the runs "
            "table as CSV"
        ) from error
    own = {name: value for name, value in config.items() if not name.startswith("_")}
    values = {name: value for name, value in summary.items() if not name.startswith("_")}
    chosen = summary if values else last_of_each(history)
    return about | flat({"config": own}) | _summary(chosen)


def _update(values: dict[str, Any], record: bytes) -> None:
    """Apply a record's items: updates in field 1, and removals in field 2 by key only."""
    for item in parts(record, 1):
        path = [key.decode() for key in parts(item, NESTED)] or [text(item, KEY)]
        inner = values
        for key in path[:-1]:
            below = inner.get(key)
            inner[key] = below if isinstance(below, dict) else {}
            inner = inner[key]
        inner[path[-1]] = json.loads(text(item, JSON) or "null")


def records(data: bytes) -> Iterator[bytes]:
    """The records of a log, which is that of LevelDB after a header of its own.

    A record that is cut short at the end, as in a run that goes on, is left out.
    Source: https://github.com/google/leveldb/blob/main/doc/log_format.md.

    Raises:
        ValueError: the file begins in another way.
    """
    if not data.startswith(MAGIC):
        raise ValueError("its first bytes are others")
    at, record = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        at += HEADER
        if at + length > len(data) or kind not in (1, 2, 3, 4):
            break
        record = data[at : at + length] if kind in (1, 2) else record + data[at : at + length]
        at += length
        if kind in (1, 4):  # whole, or the last of several
            yield record
