"""Reading and writing YAML and hashing content.

MERGED:
One JSON object a line.
File models as text."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mutransfer_cli.errors import InputError, MutransferError, StorageError
from mutransfer_cli.strict import Model, Strict, own_line


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


def json_line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, allow_nan=False).encode() + b"\n"


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """
    Raises:
        InputError: not a JSON object; NaN and Infinity are not JSON.
    """
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: not a JSON record ({error}); remove or mend the line"
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(data).__name__}")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; a diverged trial has null losses")


def own_lines(
    path: Path,
    model: type[Model],
    what: str,
    concerns: Callable[[bytes], bool] = lambda line: True,
) -> Iterator[Model]:
    """The lines of a file that we wrote; none where there is no file.

    A last line without its newline, which was cut short, is left out.

    Args:
        what: a line is, in a sentence.
        concerns: whether a line is wanted; the others are not read.

    Raises:
        InputError: the file cannot be read, or a line is none of ours.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n") or not concerns(line):
                    continue
                record = own_line(model, line)
                if record is None:
                    raise InputError(f"{path} line {number}: is no {what}; remove the line")
                yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def dump(document: Strict, as_json: bool = False) -> str:
    """YAML, whose keys may be numbers, or JSON.

    The YAML begins with a line from which editors know its JSON Schema.

    Args:
        document: with a `schema` key.
    """
    if as_json:
        return json.dumps(document.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    content = document.model_dump(by_alias=True)
    return f"# yaml-language-server: $schema={schema_file(content['schema'])}\n" + dump_yaml(
        content
    )


def schema_file(schema: str) -> str:
    """Where the JSON Schema of a document lies: beside it, under a name with its version.

    A relative path counts from the document, so that both can be kept and moved together.
    """
    return schema.replace("/", "-") + ".schema.json"
