"""TensorBoard event files: the last value of every scalar, and hyperparameters if they were logged.

Event files are framed protocol buffers, read here without the tensorboard package, which brings a
web server. Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto,
tensorboard/plugins/hparams/plugin_data.proto.

A run's result is the last value of each scalar, as TensorBoard's table of hyperparameters shows it.
Event files do not tell whether a run ended.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table, runs_table
from mutransfer_cli.spec.readers.tree import Tree
from mutransfer_cli.spec.readers.wire import fields, parts, real, signed, text

EVENTS = "events.out.tfevents."
STEP, SUMMARY, VALUE = 2, 5, 1  # fields of Event and Summary
TAG, SIMPLE, TENSOR, METADATA = 1, 2, 8, 9  # of Summary.Value
FLOAT, DOUBLE, CONTENT = 5, 6, 4  # of TensorProto: float_val, double_val, tensor_content
HPARAMS = "_hparams_/session_start_info"
SPLITS = ("train", "validation", "val", "valid", "eval", "test")  # folders of one run

Events: TypeAlias = tuple[dict[str, Any], dict[str, float], int]


def find_runs(tree: Tree) -> list[str]:
    """The folders that hold event files."""
    return [
        folder
        for folder, names in tree.folders.items()
        if any(name.startswith(EVENTS) for name in names)
    ]


def read_folders(tree: Tree, folders: list[str]) -> Table:
    """Read every run; event files of one folder are one run.

    Folders inside that of a run belong to it: those of torch's `add_hparams` and `add_scalars`, and
    the `train` and `validation` of Keras, whose scalars get the folder's name before their own.

    Raises:
        InputError: a file that is none of TensorBoard's.
    """
    found = {}
    for folder in folders:
        names = [name for name in tree.folders[folder] if name.startswith(EVENTS)]
        found[folder] = _read([tree.root / folder / name for name in names])
    found = _joined(found)
    runs, empty = {}, []
    for folder, (hparams, scalars, step) in found.items():
        if not scalars:
            empty.append(folder or tree.root.name)
            continue
        settings = tree.settings(f"{folder}/{EVENTS}" if folder else EVENTS)
        logged = {f"config.{name}": value for name, value in hparams.items()}
        runs[folder or tree.root.name] = {**settings, **logged, **scalars, "step": step}
    notes: tuple[str, ...] = ()
    if empty and runs:
        notes = (f"{tree.where}: {len(empty)} runs without scalars are left out",)
    return runs_table(tree.where, runs, notes=notes)


def _joined(found: dict[str, Events]) -> dict[str, Events]:
    """The runs, with what lies in folders inside theirs."""
    joined = dict(found)
    for folder in sorted(found, key=len, reverse=True):
        outer, _, last = folder.rpartition("/")
        hparams, scalars, step = joined[folder]
        above = joined.get(outer, ({}, {}, 0))
        alone = hparams and outer in joined and not above[0]
        if folder == outer or not (alone or (outer and (outer in joined or last in SPLITS))):
            continue
        del joined[folder]
        named = scalars if alone else {f"{last}/{tag}": value for tag, value in scalars.items()}
        joined[outer] = (hparams | above[0], named | above[1], max(step, above[2]))
    return joined


def _read(paths: list[Path]) -> Events:
    """Hyperparameters, the last value of every scalar, and the last step."""
    hparams: dict[str, Any] = {}
    last: dict[str, tuple[int, float]] = {}
    for path in paths:
        try:
            for record in records(path.read_bytes()):
                step = 0
                for number, value in fields(record):
                    if number == STEP:
                        step = signed(value)
                for summary in parts(record, SUMMARY):
                    for item in parts(summary, VALUE):
                        tag, scalar = text(item, TAG), _scalar(item)
                        if tag == HPARAMS:
                            hparams |= _hparams(item)
                        elif scalar is not None and (tag not in last or step >= last[tag][0]):
                            last[tag] = (step, scalar)
        except (ValueError, struct.error) as error:
            raise InputError(
                f"{path}: not an event file of TensorBoard ({error}); export the scalars as CSV"
            ) from error
    steps = [step for step, _ in last.values()]
    return hparams, {tag: value for tag, (_, value) in last.items()}, max(steps, default=0)


def _scalar(item: bytes) -> float | None:
    """The number of a Summary.Value: a plain one, or a tensor with one element."""
    for number, value in fields(item):
        if number == SIMPLE:
            return real(value)
        if number == TENSOR and isinstance(value, bytes):
            return _element(value)
    return None


def _element(tensor: bytes) -> float | None:
    for number, value in fields(tensor):
        if number in (FLOAT, DOUBLE):
            width = 4 if number == FLOAT else 8
            if isinstance(value, bytes) and len(value) == width:  # one element, or one packed
                return real(value)
        if number == CONTENT and isinstance(value, bytes) and len(value) in (4, 8):
            return real(value)
    return None


def _hparams(item: bytes) -> dict[str, Any]:
    """Hyperparameters in the metadata: HParamsPluginData.session_start_info.hparams."""
    found: dict[str, Any] = {}
    for metadata in parts(item, METADATA):
        for plugin in parts(metadata, 1):
            for content in parts(plugin, 2):
                for session in parts(content, 3):
                    for entry in parts(session, 1):
                        found[text(entry, 1)] = next(map(_value, parts(entry, 2)), None)
    return found


def _value(message: bytes) -> Any:
    """A google.protobuf.Value."""
    for number, value in fields(message):
        if number == 2:
            return real(value)
        if number == 3 and isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if number == 4:
            return bool(value)
    return None


def records(data: bytes) -> Iterator[bytes]:
    """The records of an event file: length, its checksum, the record, its checksum.

    A record that is cut short at the end, as in a run that goes on, is left out.

    Raises:
        ValueError: a length that no event has.
    """
    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if length > 1 << 40:
            raise ValueError(f"a record of {length} bytes at byte {at}")
        if at + 16 + length > len(data):
            return
        yield data[at + 12 : at + 12 + length]
        at += 16 + length
