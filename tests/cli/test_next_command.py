"""Every command with every kind of file: it works, or one sentence says what to run instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mutransfer_cli.cli.next_command import INSTEAD, accepted
from mutransfer_cli.errors import InputError
from tests.cli.test_own_table import write_table
from tests.conftest import invoke
from tests.report.runs import write_run

PROTOCOL = """schema: mutransfer.protocol/1
parameterization: {name: mup, base_width: 64}
optimizer: {name: adamw}
train: {batch: 8, steps: 100}
"""
SPEC = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
COMMANDS = {
    "sweep-proxy": ["sweep-proxy"],
    "fit-exponents": ["fit-exponents"],
    "transfer": ["transfer", "--width", "4096"],
    "check": ["check"],
    "records": ["check", "--records"],
    "report": ["report"],
}
WORKS = None
ABSENT = "cannot be read (No such file or directory); check the path"
NO_RUNS = "it holds no runs; give a sweep's folder or a table of runs"
RUNS = "give a sweep's folder or a table of runs"
SPECS = "give a sweep spec in YAML, or the name of a shipped one"
SWEEP = "is a sweep spec; run `mutransfer sweep-proxy {}` first, and give its folder"
FIT = "run `mutransfer fit-exponents {}` first, and give the exponents file that it writes"
EXPONENTS = "give the exponents file that `mutransfer fit-exponents` writes"
CHECKED = "give a recipe, exponents, records or a sweep spec"

# by file: what each command says, in the order of COMMANDS; {} is the path
TABLE: dict[str, list[str | None]] = {
    "sweep": ["is not a file; give a spec in YAML", WORKS, FIT, WORKS, WORKS, WORKS],
    "folder": [
        "is not a file; give a spec in YAML",
        "folder",
        f"is a folder; {FIT}",
        "is a folder; run `mutransfer check --records {}`, if it holds runs",
        "folder",
        "folder",
    ],
    "records.jsonl": [
        f"is a file of a sweep's records; {SPECS}",
        WORKS,
        f"is a file of a sweep's records; {FIT}",
        WORKS,
        WORKS,
        WORKS,
    ],
    "table.csv": [
        f"is a table of runs; {SPECS}",
        WORKS,
        f"is a table of runs; {FIT}",
        "is a table of runs; run `mutransfer check --records {}`",
        WORKS,
        WORKS,
    ],
    "exponents.yaml": [
        f"is an exponents file; {SPECS}",
        "it is fitted already; run `mutransfer transfer {} --width WIDTH`",
        WORKS,
        WORKS,
        "it holds no runs; run `mutransfer check {}`, or add runs with --records",
        "it holds no runs; give the sweep's folder or the table that was fitted",
    ],
    "recipe.yaml": [
        f"is a recipe; {SPECS}",
        f"is a recipe; {NO_RUNS}",
        "is a recipe; it holds for one width; for another one give the exponents file behind it",
        WORKS,
        "it holds no runs; run `mutransfer check {}`, or add runs with --records",
        f"is a recipe; {NO_RUNS}",
    ],
    "recipe.py": [
        f"is a file for a trainer; {SPECS}",
        NO_RUNS,
        EXPONENTS,
        "give the recipe itself, as `mutransfer transfer` writes it without --to",
        NO_RUNS,
        NO_RUNS,
    ],
    "check.yaml": [
        f"is the result of a check; {SPECS}",
        f"is the result of a check; {NO_RUNS}",
        f"is the result of a check; {EXPONENTS}",
        "is the result of a check; give the file that was checked",
        f"is the result of a check; {NO_RUNS}",
        f"put it beside a sweep's records as check.yaml, and {RUNS}",
    ],
    "spec.yaml": [
        WORKS,
        SWEEP,
        "run `mutransfer sweep-proxy {} | mutransfer fit-exponents` first",
        WORKS,
        SWEEP,
        SWEEP,
    ],
    "protocol.yaml": [
        f"is a protocol; {SPECS}",
        "is a protocol; give it with --protocol beside a table of runs",
        "is a protocol; run `mutransfer fit-exponents TABLE --protocol {}` first",
        "is a protocol; run `mutransfer check --records TABLE --protocol {}`",
        "is a protocol; give it with --protocol, and a table with --records",
        "is a protocol; run `mutransfer report TABLE --protocol {}`",
    ],
    "page.html": [
        f"is a web page; {SPECS}",
        f"is a web page; {NO_RUNS}",
        f"is a web page; {EXPONENTS}",
        f"is a web page; {CHECKED}",
        f"is a web page; {NO_RUNS}",
        f"is a web page; open it in a browser, or {RUNS}",
    ],
    "empty": [
        "is empty; nothing reached it",
        "holds no records; run `mutransfer sweep-proxy` first",
        "is empty; nothing reached it",
        "holds no records; run `mutransfer sweep-proxy` first",
        f"is empty; {RUNS}",
        f"is empty; {RUNS}",
    ],
    "binary": [
        f"is not a text file; {SPECS}",
        "is not UTF-8 text",
        f"is not a text file; {EXPONENTS}",
        f"is not a text file; {CHECKED}",
        f"is not a text file; {RUNS}",
        f"is not a text file; {RUNS}",
    ],
    "missing": ["no such spec; give a YAML file", ABSENT, ABSENT, ABSENT, ABSENT, ABSENT],
    # training is tried elsewhere; here the name of a shipped spec
    "quickstart": [
        WORKS,
        SWEEP,
        "run `mutransfer sweep-proxy {} | mutransfer fit-exponents` first",
        WORKS,
        SWEEP,
        SWEEP,
    ],
}
TRAINS = {("sweep-proxy", "spec.yaml"), ("check", "spec.yaml")}
TRAINS |= {(command, "quickstart") for command, _ in TRAINS}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of every kind, under the names of TABLE."""
    there = tmp_path_factory.mktemp("files")
    write_run(there / "sweep", measured=False)
    write_table(there / "table.csv")
    (there / "folder").mkdir()
    for name, content in (
        ("records.jsonl", (there / "sweep" / "trials.jsonl").read_bytes()),
        ("protocol.yaml", PROTOCOL.encode()),
        ("spec.yaml", SPEC.read_bytes()),
        ("empty", b""),
        ("binary", b"\x89PNG\r\n\x1a\n\x00\xff\xfe"),
    ):
        (there / name).write_bytes(content)
    exponents = there / "exponents.yaml"
    transfer = ("transfer", exponents, "--width", 512)
    for command in (
        ("fit-exponents", there / "sweep", "-o", exponents),
        (*transfer, "-o", there / "recipe.yaml"),
        (*transfer, "--to", "pytorch", "-o", there / "recipe.py"),
        ("check", there / "sweep", "-o", there / "check.yaml"),
        ("report", there / "sweep", "-o", there / "page.html"),
    ):
        assert invoke(*command).exit_code == 0
    return there


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_works_or_the_next_command_is_named(command: str, name: str, files: Path) -> None:
    said = TABLE[name][list(COMMANDS).index(command)]
    if (command, name) in TRAINS:
        assert said is WORKS
        return
    path = name if name == "quickstart" else files / name
    result = invoke(*COMMANDS[command], path)
    assert "Traceback" not in result.stderr
    if said is WORKS:
        assert (result.exit_code, bool(result.stdout)) == (0, True)
        return
    assert (result.exit_code, result.stdout) == (2, "")
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    assert f"{path}: " in lines[0]
    assert said.replace("{}", str(path)) in lines[0]


@pytest.mark.parametrize(
    ("command", "name", "sentence"),
    [
        ("transfer", "table.csv", "stdin: is a table of runs; run `mutransfer fit-exponents FILE`"),
        ("transfer", "records.jsonl", "run `mutransfer fit-exponents FILE` first"),
        ("fit-exponents", "exponents.yaml", "run `mutransfer transfer FILE --width WIDTH`"),
        ("check", "table.csv", "stdin: is a table of runs; run `mutransfer check --records FILE`"),
        ("report", "exponents.yaml", "stdin: is an exponents file; it holds no runs"),
    ],
)
def test_the_same_through_a_pipe(command: str, name: str, sentence: str, files: Path) -> None:
    result = invoke(*COMMANDS[command], stdin=(files / name).read_bytes())
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


@pytest.mark.parametrize("name", ["sweep/trials.jsonl", "table.csv"])
def test_the_whole_chain_in_a_pipe(name: str, files: Path) -> None:
    fit = invoke("fit-exponents", stdin=(files / name).read_bytes())
    recipe = invoke("transfer", "--width", 512, stdin=fit.stdout)
    assert (fit.exit_code, recipe.exit_code) == (0, 0)
    assert "schema: mutransfer.recipe/1" in recipe.stdout
    nothing = invoke("transfer", "--width", 512, stdin="")
    assert nothing.exit_code == 2
    assert "stdin: is empty; nothing reached it" in nothing.stderr


def test_json_is_recognised_as_well(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "exponents.json"
    fit = ("fit-exponents", files / "sweep", "--json", "-o", path)
    assert invoke(*fit).exit_code == 0
    with pytest.raises(InputError, match="is an exponents file; it is fitted already"):
        accepted(path, "fit-exponents")
    assert accepted(path, "transfer") == "exponents"


def test_commands_are_written_as_a_shell_reads_them(tmp_path: Path) -> None:
    path = write_table(tmp_path / "my runs.csv")
    with pytest.raises(InputError, match=re.escape(f"fit-exponents '{path}'`")):
        accepted(path, "transfer")


def test_no_command_refuses_what_it_reads() -> None:
    reads = {"fit-exponents": "table", "transfer": "exponents", "check": "recipe"}
    for command, kind in (reads | {"report": "table", "records": "table"}).items():
        assert kind not in INSTEAD[command]
