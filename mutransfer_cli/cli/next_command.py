"""Files at the wrong place: what they are, and what to give or to run instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    from mutransfer_cli.spec.kinds import Kind

RUNS = "give a sweep's folder or a table of runs"
SPEC = "give a sweep spec in YAML, or the name of a shipped one"
EXPONENTS = "give the exponents file that `mutransfer fit-exponents` writes"
FIT = "run `mutransfer fit-exponents {}` first, and give the exponents file that it writes"
UNSWEPT = "run `mutransfer sweep-proxy {}` first, and give its folder"
FITTED = "it is fitted already; run `mutransfer transfer {} --width WIDTH`"
OWN_PROTOCOL = "it holds its protocol itself; run `mutransfer fit-exponents {}`"
TRAINED = "give the spec that it was trained from; this one is for `mutransfer fit-exponents {}`"
CHECKED = "it holds no runs; run `mutransfer check {}`, or add runs with --records"
SCHEMA_OF: Mapping[Kind, str] = {
    "sweep": "trial",
    "records": "trial",
    "spec": "sweep",
    "protocol": "protocol",
    "exponents": "exponents",
    "recipe": "recipe",
    "check": "check",
}

# what each kind is for; {} is the file as a shell writes it
FOR: Mapping[Kind, str] = {
    "sweep": "`mutransfer fit-exponents {}`",
    "folder": "`mutransfer fit-exponents {}`, if it holds runs",
    "records": "`mutransfer fit-exponents {}`",
    "table": "`mutransfer fit-exponents {}`",
    "spec": "`mutransfer sweep-proxy {}`",
    "protocol": "`mutransfer fit-exponents TABLE --protocol {}`",
    "exponents": "`mutransfer transfer {} --width WIDTH`",
    "recipe": "`mutransfer check {}`",
    "trainer": "your trainer",
    "page": "a browser",
    "config": "`mutransfer init --hf {}`",
}


@dataclass(frozen=True)
class Place:
    """An argument or an option that takes a file.

    Attributes:
        takes: kinds that it can use; what is of no known kind is for its reader to judge.
        give: what it takes, for any other kind; what that kind is for is said after it.
        instead: what to do with a kind, in place of that; {} is the file as a shell writes it.
    """

    takes: tuple[Kind, ...]
    give: str
    instead: Mapping[Kind, str] = field(default_factory=dict)


PLACES: Mapping[str, Place] = {
    "spec": Place(
        ("spec",),
        SPEC,
        {
            "sweep": TRAINED,
            "records": TRAINED,
            "config": "run `mutransfer init --hf {}`, which writes a spec for it",
        },
    ),
    "fit-exponents": Place(
        ("sweep", "folder", "records", "table", "empty", "binary"),
        RUNS,
        {
            "spec": UNSWEPT,
            "protocol": "give it with --protocol beside a table of runs",
            "exponents": FITTED,
        },
    ),
    "transfer": Place(
        ("exponents",),
        EXPONENTS,
        {
            "sweep": FIT,
            "folder": FIT,
            "records": FIT,
            "table": FIT,
            "spec": "run `mutransfer sweep-proxy {} | mutransfer fit-exponents` first, and give "
            "the exponents file that they write",
            "protocol": "run `mutransfer fit-exponents TABLE --protocol {}` first, and give the "
            "exponents file that it writes",
            "recipe": "it holds for one width; for another one give the exponents file behind it",
            "config": f"{EXPONENTS}, and this one with --model",
            "empty": f"nothing reached it; {EXPONENTS}",
        },
    ),
    "check": Place(
        ("sweep", "records", "spec", "exponents", "recipe", "empty"),
        "give a recipe, exponents, records or a sweep spec",
        {
            "folder": "run `mutransfer check --records {}`, if it holds runs",
            "table": "run `mutransfer check --records {}`",
            "protocol": "run `mutransfer check --records TABLE --protocol {}`",
            "check": "give the file that was checked",
            "trainer": "give the recipe itself, as `mutransfer transfer` writes it without --to",
            "config": "give a recipe, and this one with --model",
        },
    ),
    "report": Place(
        ("sweep", "folder", "records", "table"),
        RUNS,
        {
            "spec": UNSWEPT,
            "protocol": "run `mutransfer report TABLE --protocol {}`",
            "exponents": "it holds no runs; give the sweep's folder or the table that was fitted",
            "check": f"put it beside a sweep's records as check.yaml, and {RUNS}",
        },
    ),
    "--records": Place(
        ("sweep", "folder", "records", "table"),
        RUNS,
        {
            "spec": UNSWEPT,
            "protocol": "give it with --protocol, and a table with --records",
            "exponents": CHECKED,
            "recipe": CHECKED,
        },
    ),
    "--records, --spec": Place(
        ("sweep", "folder", "records"), "with --spec give the folder to train into"
    ),
    "--protocol": Place(
        ("protocol",),
        "give a protocol, such as `mutransfer init --table TABLE` writes",
        {
            "sweep": OWN_PROTOCOL,
            "records": OWN_PROTOCOL,
            "table": "run `mutransfer init --table {}`, which writes a first protocol for it",
        },
    ),
    "--model": Place(
        ("config",),
        "give the target's config.json, package.module:function, or a YAML file with the `model` "
        "of a spec",
    ),
    "--hf": Place(("config",), "give the config.json of a Hugging Face causal LM"),
    "--table": Place(
        ("folder", "table", "binary"),
        "give a table of runs",
        {"sweep": OWN_PROTOCOL, "records": OWN_PROTOCOL, "exponents": FITTED},
    ),
    "function": Place((), "give a function, such as package.module:function"),
    "--alignment": Place(
        (), "give full, none, or a YAML file such as {readout: {alpha: 1, omega: 0.8, u: 1}}"
    ),
    "schema": Place(
        (),
        "give one of sweep, protocol, trial, exponents, recipe, check",
        {kind: f"run `mutransfer schema {name}`" for kind, name in SCHEMA_OF.items()},
    ),
    "docs": Place((), "give a topic; `mutransfer docs` lists them"),
    "doctor": Place((), "`mutransfer doctor` takes no file"),
    "init": Place(
        (),
        "give nothing, or a model or a table with --model, --hf or --table",
        {"table": "give it with --table", "config": "give it with --hf"},
    ),
    "mutransfer": Place((), "begin with a command; `mutransfer --help` lists them"),
}


def accepted(source: Path | None, place: str) -> Kind:
    """The kind of a source (None is stdin), which the place can use.

    Args:
        place: a key of `PLACES`.

    Raises:
        InputError: the source is of another kind, or cannot be read.
    """
    import shlex

    from mutransfer_cli.spec.kinds import NAMES, kind_of
    from mutransfer_cli.spec.sources import find_spec

    is_spec = source is not None and not source.exists() and find_spec(str(source)) is not None
    kind, there = "spec" if is_spec else kind_of(source), PLACES[place]
    if kind in there.takes or kind == "unknown":
        return kind
    instead = there.instead.get(kind)
    if instead is None:
        instead = there.give + (f"; this one is for {FOR[kind]}" if kind in FOR else "")
    where, written = ("stdin", "FILE") if source is None else (source, shlex.quote(str(source)))
    raise InputError(f"{where}: is {NAMES[kind]}; {instead.replace('{}', written)}")


def refuse_file(name: str, place: str) -> None:
    """Refuse the path of a file that the place cannot use; a name of no file passes.

    Where only words are expected, a word passes that happens to be the name of a folder.

    Raises:
        InputError: it is one.
    """
    is_word = not PLACES[place].takes and name.isidentifier() and os.path.isdir(name)
    if os.path.exists(name) and not is_word:
        accepted(Path(name), place)


def refuse_all_but_spec(name: str) -> None:
    """Refuse a file that is no sweep spec; a shipped spec may have the name of a folder.

    Raises:
        InputError: it is one.
    """
    from mutransfer_cli.spec.sources import find_spec

    found = find_spec(name)
    refuse_file(name if found is None else str(found[0]), "spec")
