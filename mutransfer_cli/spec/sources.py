"""Where commands read from: folders, files, stdin; specs by path or shipped name."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.kinds import TRIALS, kind_of, refuse_other
from mutransfer_cli.spec.matrix import rows_of, variants_of
from mutransfer_cli.spec.model import FactorySpec, HfSpec, is_factory
from mutransfer_cli.spec.records import Records, parse_records
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import cannot_read, load_yaml, read_text
from mutransfer_cli.strict import nearest, validated

PACKAGE = Path(__file__).parent.parent


def load_records(
    sources: Sequence[Path | None], warn: Callable[[str], None], earlier: Records | None = None
) -> Records:
    """Read the records of several files or folders (None is stdin), added to `earlier` ones.

    Raises:
        InputError: a source without records, a malformed line, or protocols that differ.
    """
    found = earlier
    for source in sources:
        path = source / TRIALS if source is not None and source.is_dir() else source
        where = "stdin" if path is None else str(path)
        records = read_records(path, earlier=found)
        if records is None:
            raise InputError(f"{where}: holds no records; run `mutransfer sweep-proxy` first")
        if records.torn:
            warn(f"{where}: the last line is cut short and was skipped")
        found = records
    assert found is not None, "there is at least one source"
    return found


def read_records(path: Path | None, earlier: Records | None = None) -> Records | None:
    """Read the records of a file (None is stdin), added to `earlier` ones; None without a line."""
    if path is None:
        return parse_records(sys.stdin.buffer, "stdin", earlier)
    try:
        with path.open("rb") as lines:
            return parse_records(lines, str(path), earlier)
    except OSError as error:
        raise cannot_read(path, error) from error


def holds_records(source: Path | None) -> bool:
    """Whether a source (None is stdin) is a sweep's folder, begins like its records, or is empty.

    Raises:
        InputError: it cannot be read.
    """
    return kind_of(source) in ("sweep", "records", "empty")


def load_spec(name: str, variant: str | None = None) -> tuple[SweepSpec, Path]:
    """Load a spec, with the file it came from.

    All variants of the spec are validated, whichever is asked for.

    Args:
        name: a path or the name of a shipped spec; `my/matrix/small` is the row `small` of
            `my/matrix.yaml`.

    Raises:
        InputError: there is no such file, row or variant, or it is not a valid spec.
    """
    path, row = existing_spec(name)
    refuse_other(path, "a sweep spec in YAML, or the name of a shipped one", "spec")
    document, where = load_yaml(read_text(path), str(path)), str(path)
    rows = rows_of(document, where)
    if row is None and rows:
        first = f"{name.removesuffix('.yaml')}/{next(iter(rows))}"
        raise InputError(f"{path}: holds several specs; name one, such as {first}")
    if row is not None:
        if row not in rows:
            raise no_row(name, path, rows)
        return spec_of(rows[row], str(path), variant, f"row {row}"), path
    return spec_of(document, where, variant), path


def spec_of(document: Any, where: str, variant: str | None = None, part: str = "") -> SweepSpec:
    """The spec in a document; all its variants are validated, whichever is asked for.

    Args:
        where: begins every error message.
        part: the part of the file that the document is, such as `row small`.

    Raises:
        InputError: there is no such variant, or it is not a valid spec.
    """
    whole = f"{where}: {part}" if part else where
    variants = variants_of(document, where, part)
    if variant not in variants:
        names = [known for known in variants if known is not None]
        hint = nearest(str(variant), names) if names else "; the spec has none"
        raise InputError(f"variant {variant}: unknown in {whole}{hint}", setting="variant")
    specs = {
        key: validated(SweepSpec, document, where, _inside(part, key))
        for key, document in variants.items()
        if key is not None or variant is None
    }
    return specs[variant]


def _inside(part: str, variant: str | None) -> str:
    """The part of a file that a variant is: `row small: variants.cpu`."""
    return ": ".join(name for name in (part, variant and f"variants.{variant}") if name)


def find_spec(name: str) -> tuple[Path, str | None] | None:
    """Find the file of a spec and, for one of its rows, the name of the row.

    Args:
        name: as for `load_spec`.

    Raises:
        InputError: the name cannot be a path.
    """
    path, shipped = Path(name), shipped_files()
    outer = path.parent.as_posix()
    try:
        if path.is_file():
            return path, None
        if name in shipped:
            return shipped[name], None
        if outer in shipped:
            return shipped[outer], path.name
        own = Path(f"{outer}.yaml")
        return (own, path.name) if own.is_file() else None
    except OSError as error:
        raise cannot_read(name, error) from error


def existing_spec(name: str) -> tuple[Path, str | None]:
    """`find_spec` of a spec that has to be there.

    Raises:
        InputError: it is not.
    """
    found = find_spec(name)
    if found is not None:
        return found
    if Path(name).exists():
        raise InputError(f"{name}: is not a file; give a spec in YAML")
    hint = _three(name, shipped_recipes())
    raise InputError(f"{name}: no such spec; give a YAML file or a shipped name; {hint}")


def no_row(name: str, path: Path, rows: Iterable[str]) -> InputError:
    """The error for a name of which only the file is there.

    Args:
        rows: the names that the file has.
    """
    row = Path(name).name
    return InputError(f"{name}: no such spec; {path} has no row {row!r}; {_three(row, rows)}")


def _three(word: str, valid: Iterable[str]) -> str:
    """The nearest three of many names, as a question, and the command that lists all."""
    *others, last = difflib.get_close_matches(word, list(valid), n=3, cutoff=0.4) or [""]
    close = f"{', '.join(others)} or {last}" if others else last
    return f"{f'did you mean {close}? ' if close else ''}`mutransfer recipes` lists all"


def run_name(spec: str, path: Path, variant: str | None) -> str:
    """The name of the folder for a spec's runs, such as `everett/adam-full-mup-cpu`.

    Args:
        spec: the name that `load_spec` was given.
        path: the file that it returned.
    """
    is_row = not Path(spec).is_file() and Path(spec).name != path.stem
    name = f"{path.stem}/{Path(spec).name}" if is_row else path.stem
    return name if variant is None else f"{name}-{variant}"


def shipped_files() -> dict[str, Path]:
    """The shipped files of specs by name; a file named like its folder has the folder's name."""
    found = {}
    for folder in recipes_folders():
        for path in sorted(folder.rglob("*.yaml")):
            inner = path.relative_to(folder).with_suffix("")
            found[(inner.parent if inner.name == inner.parent.name else inner).as_posix()] = path
    return found


def recipes_folders() -> list[Path]:
    """The folder of the shipped specs and of their models' code, if there is one."""
    # an installed wheel holds recipes/ inside the package, a checkout beside it
    folders = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
    return [folder for folder in folders if folder.is_dir()][:1]


def shipped_recipes() -> dict[str, Path]:
    """Every shipped spec by the name that `load_spec` takes, with its file."""
    found: dict[str, Path] = {}
    for name, path in shipped_files().items():
        rows = rows_of(load_yaml(read_text(path), str(path)), str(path))
        found |= dict.fromkeys([f"{name}/{row}" for row in rows] or [name], path)
    return found


def own_function(name: str, setting: str) -> str:
    """`package.module:function` for that, or for `package/module.py:function`.

    Raises:
        InputError: another form, or a file that cannot be imported from the current folder.
    """
    path, colon, function = name.rpartition(":")
    if not path.endswith(".py"):
        if is_factory(name):
            return name
        raise InputError(
            f"{setting} {name}: expected my_file.py:function or package.module:function",
            setting=setting,
        )
    if not Path(path).is_file():
        raise InputError(f"{setting} {name}: there is no file {path}", setting=setting)
    inner = Path(os.path.relpath(path))
    found = ".".join(inner.with_suffix("").parts) + colon + function
    if not is_factory(found):
        raise InputError(
            f"{setting} {name}: functions are imported from the current folder; change to the "
            "folder of your code and name the file from there",
            setting=setting,
        )
    return found


def load_model(name: str) -> tuple[FactorySpec | HfSpec, Path]:
    """Load a model, with the folder that its paths count from.

    Args:
        name: a config.json, a function as for `own_function`, or a YAML file with the `model` of a
            spec.

    Raises:
        InputError: it is none of these.
    """
    path = Path(name)
    if not path.exists() and (is_factory(name) or ".py:" in name):
        return FactorySpec(factory=own_function(name, "model")), Path()
    found = load_yaml(read_text(path), name)
    if isinstance(found, dict) and "model_type" in found:
        return HfSpec(hf=path.name), path.parent
    if not isinstance(found, dict) or not {"factory", "hf"} & found.keys():
        raise InputError(
            f"{name}: is neither a config.json of a causal LM nor a `model` with factory or hf"
        )
    kind: type[FactorySpec | HfSpec] = FactorySpec if "factory" in found else HfSpec
    return validated(kind, found, name), path.parent
