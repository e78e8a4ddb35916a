"""Reading and writing YAML and hashing content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mutransfer_cli.errors import InputError, MutransferError, StorageError


def read_text(source: Path | None) -> str:
    """The text of a file, or of stdin for None."""
    where = str(source) if source else "stdin"
    try:
        return source.read_text(encoding="utf-8") if source else sys.stdin.read()
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text (byte {error.start})") from error


def load_yaml(text: str, where: str) -> Any:
    """Parsed YAML (safe_load: nothing in a file ever executes)."""
    if not text.strip():
        raise InputError(f"{where}: is empty; nothing reached it")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{where}{line}: not YAML ({problem}); fix the syntax there") from error


class Unquoted(str):
    """3e-4 or 2^-9 without quotes: numbers to people, text to YAML 1.1.

    Text still, because only its place says which is meant: a hash may look like a number.
    """


class _Loader(yaml.SafeLoader):
    """safe_load that refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is written twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_UNQUOTED = "!unquoted"
_Loader.add_implicit_resolver(
    _UNQUOTED,
    re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+|\^[+-]?(\d+\.?\d*|\.\d+))$"),
    list("+-.0123456789"),
)
_Loader.add_constructor(_UNQUOTED, lambda _, node: Unquoted(node.value))


# libyaml writes large files many times faster; not every PyYAML has it
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Lists of plain values on one line, mappings in the order given."""


def _sequence(dumper: _Dumper, values: Sequence[Any]) -> yaml.Node:
    flow = not any(isinstance(value, dict | list | tuple) for value in values)
    node: yaml.Node = dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)
    return node


_Dumper.add_representer(list, _sequence)
_Dumper.add_representer(tuple, _sequence)


def dump_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def write_result(text: str, target: Path | None) -> None:
    """To stdout for None, else to a file in one step: readers see the old text or the new."""
    if target is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    # a device or a pipe is written into, never replaced
    in_place = target.exists() and not target.is_file()
    temporary = target if in_place else target.with_name(f".{target.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        if not in_place:
            os.replace(temporary, target)
    except OSError as error:
        raise cannot_write(target, error) from error


def append_text(text: str, target: Path) -> None:
    """At the end of a file that others write to as well."""
    try:
        with target.open("a", encoding="utf-8") as lines:
            lines.write(text)
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: OSError) -> MutransferError:
    """A full disk is the machine's fault (exit 1), a wrong path the user's (exit 2)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return StorageError(f"{target}: could not be written ({error.strerror}); free space")
    return InputError(f"{target}: cannot be written ({error.strerror}); give -o a place you own")


def content_hash(data: Any, length: int = 16) -> str:
    """First hex digits of the SHA-256 of the canonical JSON of `data`."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
