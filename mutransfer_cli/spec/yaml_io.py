"""Text in and out: YAML, JSON lines, files written in one step, and hashes of content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mutransfer_cli.errors import InputError, MutransferError, StorageError
from mutransfer_cli.explain import shown
from mutransfer_cli.located import LocatedList, LocatedMapping, at
from mutransfer_cli.spec.yaml_loader import Loader, Unquoted, refusal
from mutransfer_cli.strict import Model, Strict, own_line


def read_text(source: Path | None) -> str:
    """Read a UTF-8 file, or stdin for None.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    where = str(source) if source else "stdin"
    try:
        return source.read_text(encoding="utf-8") if source else sys.stdin.read()
    except OSError as error:
        raise cannot_read(where, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text (byte {error.start})") from error


def cannot_read(where: Path | str, error: OSError) -> InputError:
    """The error for a file that cannot be read."""
    return InputError(f"{where}: cannot be read ({error.strerror}); check the path")


def load_yaml(text: str, where: str) -> Any:
    """Parse YAML; nothing in a file is ever executed.

    Raises:
        InputError: empty text, wrong syntax, or a key that is written twice.
    """
    if not text.strip():
        raise InputError(f"{where}: is empty; nothing reached it")
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        place, sentence = refusal(error, text)
        raise InputError(at(where, place, "", sentence)) from error


# libyaml writes large files many times faster, but some installations of PyYAML lack it
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Lists of plain values on one line, mappings in the given order."""


def _sequence(dumper: _Dumper, values: Sequence[Any]) -> yaml.Node:
    flow = not any(isinstance(value, dict | list | tuple) for value in values)
    node: yaml.Node = dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)
    return node


_Dumper.add_representer(Unquoted, lambda dumper, text: dumper.represent_str(str(text)))
_Dumper.add_representer(list, _sequence)
_Dumper.add_representer(LocatedList, _sequence)
_Dumper.add_representer(LocatedMapping, yaml.SafeDumper.represent_dict)
_Dumper.add_representer(tuple, _sequence)


def dump_yaml(data: Any) -> str:
    """Write YAML, with lists of plain values on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def flow(data: Any) -> str:
    """Write YAML on one line, such as {name: mup, base_width: 32}."""
    text = yaml.dump(
        data,
        Dumper=_Dumper,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
    )
    return str(text).strip()


def dump(document: Strict, as_json: bool = False) -> str:
    """Write a document that has a `schema` key as YAML, whose keys may be numbers, or as JSON.

    The first line of the YAML tells editors where its JSON Schema is.
    """
    if as_json:
        return json.dumps(document.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    content = document.model_dump(by_alias=True)
    head = f"# yaml-language-server: $schema={schema_file(content['schema'])}\n"
    return head + dump_yaml(content)


def schema_file(schema: str) -> str:
    """The path of a document's JSON Schema, relative to the document, so that both can be moved."""
    return schema.replace("/", "-") + ".schema.json"


def write_result(text: str, target: Path | None) -> None:
    """Write to stdout for None, otherwise replace a file in one step, never leaving half of it.

    Raises:
        StorageError: the disk is full.
        InputError: the path cannot be written.
    """
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
    """Append to a file to which others write as well; errors as in `write_result`."""
    try:
        with target.open("a", encoding="utf-8") as lines:
            lines.write(text)
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: OSError) -> MutransferError:
    """A full disk is the machine's fault (exit 1), a wrong path the user's (exit 2)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return StorageError(f"{target}: could not be written ({error.strerror}); free space")
    reason = f"cannot be written ({error.strerror}); choose a path that you may write to"
    return InputError(f"{target}: {reason}", remedy="output")


def content_hash(data: Any, length: int = 16) -> str:
    """The first hex digits of the SHA-256 of the canonical JSON of `data`."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def json_line(data: dict[str, Any]) -> bytes:
    """A line of JSON; NaN is refused."""
    return json.dumps(data, allow_nan=False).encode() + b"\n"


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        InputError: anything else; NaN and Infinity are not JSON.
    """
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: not a JSON record ({error}); remove or correct the line"
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a JSON object, found {shown(data)}")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; a diverged trial has null losses")


def own_lines(
    path: Path,
    model: type[Model],
    what: str,
    wanted: Callable[[bytes], bool] = lambda line: True,
) -> Iterator[Model]:
    """Read the lines that this package wrote to a file; a missing file has none.

    A last line without a newline was cut short and is skipped.

    Args:
        what: the noun for a line, in messages.
        wanted: selects the lines to parse.

    Raises:
        InputError: the file cannot be read, or a line has another form.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n") or not wanted(line):
                    continue
                record = own_line(model, line)
                if record is None:
                    raise InputError(f"{path} line {number}: is not a {what}; remove the line")
                yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_read(path, error) from error
