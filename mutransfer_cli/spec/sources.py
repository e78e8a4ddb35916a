"""Where commands read from: folders, files, stdin; specs by path or shipped name."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.model import FactorySpec, HfSpec, is_factory
from mutransfer_cli.spec.records import TRIAL_SCHEMA, Records, parse_records
from mutransfer_cli.spec.sweep import SweepSpec, chosen, variants_of
from mutransfer_cli.spec.yaml_io import load_yaml, read_text
from mutransfer_cli.strict import nearest, validated

PACKAGE = Path(__file__).parent.parent
TRIALS = "trials.jsonl"
START = 64  # bytes


def load_records(
    sources: Sequence[Path | None], warn: Callable[[str], None], earlier: Records | None = None
) -> Records:
    """All records of several sources (None is stdin) of one protocol, added to earlier ones.

    Raises:
        InputError: nothing there, a malformed line, or protocols that differ.
    """
    found = earlier
    for source in sources:
        path = source / TRIALS if source is not None and source.is_dir() else source
        where = "stdin" if path is None else str(path)
        records = read_records(path, earlier=found)
        if records is None:
            raise InputError(f"{where}: holds no records; run `mutransfer sweep-proxy` first")
        if records.torn:
            warn(f"warning: {where}: the last line is cut short and was skipped")
        found = records
    assert found is not None, "there is at least one source"
    return found


def read_records(path: Path | None, earlier: Records | None = None) -> Records | None:
    """The records of a file (None is stdin), added to earlier ones; None without a whole line."""
    if path is None:
        return parse_records(sys.stdin.buffer, "stdin", earlier)
    try:
        with path.open("rb") as lines:
            return parse_records(lines, str(path), earlier)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def holds_records(source: Path | None) -> bool:
    """Whether a source (None is stdin) is a sweep's folder, or begins as its records do.

    Nothing at all is taken for records.

    Raises:
        InputError: it cannot be read.
    """
    if source is None:
        start = _start_of_stdin()
    elif source.is_dir():
        return True
    else:
        try:
            with source.open("rb") as lines:
                start = lines.read(START)
        except OSError as error:
            raise InputError(
                f"{source}: cannot be read ({error.strerror}); check the path"
            ) from error
    return not start.strip() or TRIAL_SCHEMA.encode() in start or b'"kind": "trial"' in start


def _start_of_stdin() -> bytes:
    """Its first bytes, which stay there to be read."""
    stream = sys.stdin.buffer
    if not stream.seekable():
        return cast(io.BufferedReader, stream).peek(START)[:START]
    start = stream.read(START)
    stream.seek(-len(start), os.SEEK_CUR)
    return start


def load_spec(name: str, variant: str | None = None) -> tuple[SweepSpec, Path]:
    """A spec by path, or by the name of a shipped one, and the file it came from.

    All its variants are validated, whichever is asked for.

    Raises:
        InputError: no such file or variant, or one that is no spec.
    """
    path = _find_spec(name)
    variants = variants_of(load_yaml(read_text(path), str(path)), str(path))
    asked = chosen(variants, variant, str(path))
    specs = {
        key: validated(SweepSpec, document, f"{path}: variants.{key}" if key else str(path))
        for key, document in variants.items()
        if key is not None or document is asked
    }
    return specs[variant], path


def run_name(spec: str, path: Path, variant: str | None) -> str:
    """What the folder of a spec's runs is called.

    Args:
        spec, path: as `load_spec` got and gave them.
    """
    name = path.stem if Path(spec).is_file() else spec
    return name if variant is None else f"{name}-{variant}"


def load_model(name: str) -> tuple[FactorySpec | HfSpec, Path]:
    """A model by its config.json, its `package.module:function`, or a YAML file that holds the
    `model` of a spec; with the folder that its paths count from.

    Raises:
        InputError: none of these.
    """
    path = Path(name)
    if not path.exists() and is_factory(name):
        return FactorySpec(factory=name), Path()
    found = load_yaml(read_text(path), name)
    if isinstance(found, dict) and "model_type" in found:
        return HfSpec(hf=path.name), path.parent
    if not isinstance(found, dict) or not {"factory", "hf"} & found.keys():
        raise InputError(
            f"{name}: is neither a config.json of a causal LM nor a `model` with factory or hf"
        )
    kind: type[FactorySpec | HfSpec] = FactorySpec if "factory" in found else HfSpec
    return validated(kind, found, name), path.parent


def _find_spec(name: str) -> Path:
    path, shipped = Path(name), shipped_recipes()
    try:
        is_file, exists = path.is_file(), path.exists()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    if is_file:
        return path
    if name in shipped:
        return shipped[name]
    if exists:
        raise InputError(f"{name}: is not a file; give a spec in YAML")
    raise InputError(
        f"{name}: no such spec; give a YAML file or a shipped name{nearest(name, shipped)}"
    )


def shipped_recipes() -> dict[str, Path]:
    # an installed wheel holds recipes/ inside the package, a checkout beside it
    folders = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return {} if folder is None else {_name(p, folder): p for p in sorted(folder.rglob("*.yaml"))}


def _name(path: Path, folder: Path) -> str:
    """everett/global-mup; a file that is called as its folder goes by that."""
    inner = path.relative_to(folder).with_suffix("")
    return (inner.parent if inner.name == inner.parent.name else inner).as_posix()
