"""Kinds of the files of the chain, recognised by how they begin."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Literal, cast

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import PARQUET_MAGIC
from mutransfer_cli.spec.yaml_io import cannot_read

Kind = Literal[
    "sweep",
    "folder",
    "records",
    "table",
    "spec",
    "protocol",
    "exponents",
    "recipe",
    "check",
    "trainer",
    "page",
    "config",
    "empty",
    "binary",
    "unknown",
]

# files in the folder of a sweep
TRIALS, EXPONENTS = "trials.jsonl", "exponents.yaml"
START = 4096  # bytes
BY_SCHEMA: dict[bytes, Kind] = {
    b"trial": "records",
    b"sweep": "spec",
    b"protocol": "protocol",
    b"exponents": "exponents",
    b"recipe": "recipe",
    b"check": "check",
}
# the key of the document itself: in the first column of YAML, or the first one of a JSON object
SCHEMA = re.compile(rb"""(?:\A\s*\{\s*|^)["']?schema["']?\s*:\s*["']?mutransfer\.(\w+)/""", re.M)
GZIP, ZIP, SQLITE = b"\x1f\x8b", b"PK\x03\x04", b"SQLite format 3\0"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# what only tables and databases of runs begin with; workbooks of Excel are zip archives
TABLES = (PARQUET_MAGIC, GZIP, ZIP, SQLITE, *UTF16)
TRAINER = re.compile(rb"\A# mutransfer \S+, recipe ")  # begins the files for trainers
# a JSON object in which model_type is a key, and not of an object inside it
NESTED = re.compile(r"[\[{][^\[\]{}]*[\]}]")
CONFIG = re.compile(r'[^\[{]*"model_type"\s*:')
NAMES: dict[Kind, str] = {
    "sweep": "the folder of a sweep",
    "folder": "a folder",
    "records": "a file of a sweep's records",
    "table": "a table of runs",
    "spec": "a sweep spec",
    "protocol": "a protocol",
    "exponents": "an exponents file",
    "recipe": "a recipe",
    "check": "the result of a check",
    "trainer": "a file for a trainer",
    "page": "a web page",
    "config": "the config of a Hugging Face model",
    "empty": "empty",
    "binary": "not a text file",
    "unknown": "no file of mutransfer",
}


def kind_of(source: Path | None) -> Kind:
    """Tell what a source is; None is stdin, which can still be read afterwards.

    A folder is a sweep's if it holds records, and a file is known by its first 4 KB. Records from
    before they had a header count as records, and text that begins like CSV or JSON lines as a
    table.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if source is None:
            return kind_of_start(start_of_stdin())
        if source.is_dir():
            return "sweep" if (source / TRIALS).exists() else "folder"
        with source.open("rb") as lines:
            return kind_of_start(lines.read(START))
    except OSError as error:
        raise cannot_read(source or "stdin", error) from error


def refuse_other(source: Path | None, wanted: str, *accepted: Kind) -> None:
    """Raise InputError for a source that is certainly something else; None is stdin.

    Args:
        wanted: what is to be given instead, such as "a sweep spec in YAML".
    """
    kind = kind_of(source)
    if kind not in (*accepted, "unknown", "empty"):
        raise InputError(f"{source or 'stdin'}: is {NAMES[kind]}; give {wanted}")


def kind_of_start(start: bytes) -> Kind:
    """Tell what a file is by its first bytes."""
    if not start.strip():
        return "empty"
    if start.startswith(TABLES):
        return "table"
    schema = SCHEMA.search(start)
    if schema is not None:
        return BY_SCHEMA.get(schema[1], "unknown")
    if TRAINER.match(start):
        return "trainer"
    if b'"kind": "trial"' in start:
        return "records"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "page"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError:
        return "binary"
    if "\0" in text:
        return "binary"
    if _begins_as_config(text):
        return "config"
    return "table" if _begins_as_table(text) else "unknown"


def _begins_as_config(text: str) -> bool:
    """Whether it begins as one JSON object with the key model_type; JSON lines are several."""
    if not text.lstrip().startswith("{"):
        return False
    first, *others = text.strip().splitlines()
    if any(line.startswith("{") for line in others):
        return False
    if not others and len(first) >= START - 8:  # a line longer than what was read
        return False
    inner = "\n".join([first[1:], *others])
    while NESTED.search(inner):
        inner = NESTED.sub("0", inner)
    return CONFIG.match(inner) is not None


def _begins_as_table(text: str) -> bool:
    """Whether the first line is one of CSV or JSON lines, or begins a JSON array."""
    lines = (line.strip("\r\n") for line in text.splitlines())
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    if first.lstrip().startswith("["):
        return True
    if first.lstrip().startswith("{"):
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            return len(first) >= START - 8  # a line longer than what was read
        return True
    if ": " in first or first.endswith(":"):
        return False
    fields = (next(csv.reader(io.StringIO(first), delimiter=mark), []) for mark in ",\t;")
    return any(len(row) > 1 and any(field.strip() for field in row) for row in fields)


def start_of_stdin() -> bytes:
    """The first bytes of stdin, which can be read again."""
    stream = sys.stdin.buffer
    if not stream.seekable():
        return cast(io.BufferedReader, stream).peek(START)[:START]
    start = stream.read(START)
    stream.seek(-len(start), os.SEEK_CUR)
    return start
