"""Every place that takes a file with every kind of file: it works, or one sentence says what the
file is and what to give or to run instead."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from mutransfer_cli.cli.next_command import PLACES, accepted, refuse_all_but_spec
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.kinds import Kind, kind_of
from tests.cli.test_own_table import write_table
from tests.conftest import Result, invoke
from tests.report.runs import write_run

PROTOCOL = """schema: mutransfer.protocol/1
parameterization: {name: mup, base_width: 64}
optimizer: {name: adamw}
train: {batch: 8, steps: 100}
"""
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64}
SPEC = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"

# the files, with what they are; a shipped spec has a name and no file
KINDS = {
    "sweep": "the folder of a sweep",
    "folder": "a folder",
    "records.jsonl": "a file of a sweep's records",
    "table.csv": "a table of runs",
    "spec.yaml": "a sweep spec",
    "quickstart": "a sweep spec",
    "protocol.yaml": "a protocol",
    "exponents.yaml": "an exponents file",
    "recipe.yaml": "a recipe",
    "check.yaml": "the result of a check",
    "recipe.py": "a file for a trainer",
    "page.html": "a web page",
    "config.json": "the config of a Hugging Face model",
    "empty": "empty",
    "binary": "not a text file",
    "missing": "",
}
# what a file is for, where the place itself has nothing better to say; {} is its path
FOR = {
    "sweep": "`mutransfer fit-exponents {}`",
    "folder": "`mutransfer fit-exponents {}`, if it holds runs",
    "records.jsonl": "`mutransfer fit-exponents {}`",
    "table.csv": "`mutransfer fit-exponents {}`",
    "spec.yaml": "`mutransfer sweep-proxy {}`",
    "quickstart": "`mutransfer sweep-proxy {}`",
    "protocol.yaml": "`mutransfer fit-exponents TABLE --protocol {}`",
    "exponents.yaml": "`mutransfer transfer {} --width WIDTH`",
    "recipe.yaml": "`mutransfer check {}`",
    "recipe.py": "your trainer",
    "page.html": "a browser",
    "config.json": "`mutransfer init --hf {}`",
}
WORKS = None  # and is tried here
ELSEWHERE = "works, and other tests try it, because it trains or imports transformers"
NAME = "a name of no file is for the place's own sentence, which other tests read"
ABSENT = "cannot be read (No such file or directory); check the path"
RUNS = "give a sweep's folder or a table of runs"
SPECS = "give a sweep spec in YAML, or the name of a shipped one"
FIT = "run `mutransfer fit-exponents {}` first, and give the exponents file that it writes"
SWEEP = "run `mutransfer sweep-proxy {}` first, and give its folder"
EXPONENTS = "give the exponents file that `mutransfer fit-exponents` writes"
FITTED = "it is fitted already; run `mutransfer transfer {} --width WIDTH`"
TRAINED = "give the spec that it was trained from; this one is for `mutransfer fit-exponents {}`"
HOLDS = "it holds its protocol itself; run `mutransfer fit-exponents {}`"
CHECK_IT = "it holds no runs; run `mutransfer check {}`, or add runs with --records"
NO_RECORDS = "holds no records; run `mutransfer sweep-proxy` first"
TARGET = (
    "give the target's config.json, package.module:function, or a YAML file with the `model` of a "
    "spec"
)
FUNCTION = "give a function, such as package.module:function"

Said = dict[str, str | None]
AS_SPEC: Said = {
    "sweep": TRAINED,
    "records.jsonl": TRAINED,
    "config.json": "run `mutransfer init --hf {}`, which writes a spec for it",
    "spec.yaml": ELSEWHERE,
    "quickstart": ELSEWHERE,
    "missing": "no such spec; give a YAML file or a shipped name; ",
}
AS_RUNS: Said = {
    **dict.fromkeys(("sweep", "folder", "records.jsonl", "table.csv"), WORKS),
    **dict.fromkeys(("spec.yaml", "quickstart"), SWEEP),
}
AS_PROTOCOL: Said = {
    "sweep": HOLDS,
    "records.jsonl": HOLDS,
    "table.csv": "run `mutransfer init --table {}`, which writes a first protocol for it",
    "protocol.yaml": WORKS,
}
AS_NAME: Said = {"quickstart": NAME, "missing": NAME}
AS_MODEL: Said = {"config.json": ELSEWHERE, "quickstart": ABSENT}
# by place: what is typed, what is to be given there, and what is said of some files instead
TABLE: dict[str, tuple[str, str, Said]] = {
    "sweep-proxy": ("sweep-proxy FILE", SPECS, AS_SPEC),
    "rules": ("rules FILE --width 64", SPECS, AS_SPEC | {"spec.yaml": WORKS, "quickstart": WORKS}),
    "recipes": ("recipes FILE", SPECS, AS_SPEC | {"spec.yaml": WORKS, "quickstart": WORKS}),
    "check --spec": (
        "check exponents.yaml --held-out 256 --spec FILE",
        SPECS,
        AS_SPEC,
    ),
    "fit-exponents": (
        "fit-exponents FILE",
        RUNS,
        AS_RUNS
        | {
            "folder": "folder",  # which holds no runs
            "protocol.yaml": "give it with --protocol beside a table of runs",
            "exponents.yaml": FITTED,
            "empty": NO_RECORDS,
            "binary": "is not UTF-8 text (byte 0); save it as UTF-8",
        },
    ),
    "transfer": (
        "transfer FILE --width 512",
        EXPONENTS,
        {
            **dict.fromkeys(("sweep", "folder", "records.jsonl", "table.csv"), FIT),
            **dict.fromkeys(
                ("spec.yaml", "quickstart"),
                "run `mutransfer sweep-proxy {} | mutransfer fit-exponents` first, and give the "
                "exponents file that they write",
            ),
            "protocol.yaml": "run `mutransfer fit-exponents TABLE --protocol {}` first",
            "exponents.yaml": WORKS,
            "recipe.yaml": "it holds for one width; for another one give the exponents file",
            "config.json": f"{EXPONENTS}, and this one with --model",
            "empty": f"nothing reached it; {EXPONENTS}",
        },
    ),
    "check": (
        "check FILE",
        "give a recipe, exponents, records or a sweep spec",
        {
            **dict.fromkeys(("sweep", "records.jsonl", "exponents.yaml", "recipe.yaml"), WORKS),
            **dict.fromkeys(("spec.yaml", "quickstart"), ELSEWHERE),
            "folder": "run `mutransfer check --records {}`, if it holds runs",
            "table.csv": "run `mutransfer check --records {}`",
            "protocol.yaml": "run `mutransfer check --records TABLE --protocol {}`",
            "check.yaml": "give the file that was checked",
            "recipe.py": "give the recipe itself, as `mutransfer transfer` writes it without --to",
            "config.json": "give a recipe, and this one with --model",
            "empty": NO_RECORDS,
        },
    ),
    "check --records": (
        "check --records FILE",
        RUNS,
        AS_RUNS
        | {
            "folder": "folder",
            "protocol.yaml": "give it with --protocol, and a table with --records",
            "exponents.yaml": CHECK_IT,
            "recipe.yaml": CHECK_IT,
        },
    ),
    "a larger width": (
        "check exponents.yaml --records FILE",
        RUNS,
        AS_RUNS
        | {
            "sweep": ELSEWHERE,
            "folder": "folder",
            "records.jsonl": ELSEWHERE,
            "table.csv": ELSEWHERE,
            "protocol.yaml": "give it with --protocol, and a table with --records",
            "exponents.yaml": CHECK_IT,
            "recipe.yaml": CHECK_IT,
        },
    ),
    "a folder to train into": (
        "check exponents.yaml --spec quickstart --records FILE",
        "with --spec give the folder to train into",
        dict.fromkeys(("sweep", "folder", "records.jsonl", "missing", "quickstart"), ELSEWHERE),
    ),
    "report": (
        "report FILE",
        RUNS,
        AS_RUNS
        | {
            "folder": "folder",
            "protocol.yaml": "run `mutransfer report TABLE --protocol {}`",
            "exponents.yaml": "it holds no runs; give the sweep's folder or the table that was",
            "check.yaml": f"put it beside a sweep's records as check.yaml, and {RUNS}",
        },
    ),
    "the second of several": (
        "report sweep FILE",
        RUNS,
        AS_RUNS
        | {
            **dict.fromkeys(("sweep", "records.jsonl", "table.csv"), ELSEWHERE),
            "folder": "folder",
            "protocol.yaml": "run `mutransfer report TABLE --protocol {}`",
            "exponents.yaml": "it holds no runs; give the sweep's folder or the table that was",
            "check.yaml": f"put it beside a sweep's records as check.yaml, and {RUNS}",
        },
    ),
    "fit-exponents --protocol": (
        "fit-exponents table.csv --protocol FILE",
        "give a protocol, such as `mutransfer init --table TABLE` writes",
        AS_PROTOCOL,
    ),
    "report --protocol": (
        "report table.csv --protocol FILE",
        "give a protocol, such as `mutransfer init --table TABLE` writes",
        AS_PROTOCOL,
    ),
    "check --protocol": (
        "check --records table.csv --protocol FILE",
        "give a protocol, such as `mutransfer init --table TABLE` writes",
        AS_PROTOCOL,
    ),
    "transfer --model": ("transfer exponents.yaml --width 64 --model FILE", TARGET, AS_MODEL),
    "check --model": ("check recipe.yaml --model FILE", TARGET, AS_MODEL),
    "check --optimizer": (
        "check recipe.yaml --model my:build --optimizer FILE",
        FUNCTION,
        AS_NAME,
    ),
    "init --hf": (
        "init --hf FILE",
        "give the config.json of a Hugging Face causal LM",
        {"config.json": ELSEWHERE},
    ),
    "init --table": (
        "init --table FILE",
        "give a table of runs",
        {
            "sweep": HOLDS,
            "records.jsonl": HOLDS,
            "folder": "folder",
            "table.csv": WORKS,
            "exponents.yaml": FITTED,
            "binary": "is not UTF-8 text (byte 0); save it as UTF-8",
        },
    ),
    "init --model": ("init --model FILE", FUNCTION, AS_NAME),
    "init --data": ("init --model my:build --data FILE", FUNCTION, AS_NAME),
    "init": (
        "init FILE",
        "give nothing, or a model or a table with --model, --hf or --table",
        AS_NAME | {"table.csv": "give it with --table", "config.json": "give it with --hf"},
    ),
    "rules --alignment": (
        "rules --parameterization mup --alignment FILE",
        "give full, none, or a YAML file such as {readout: {alpha: 1, omega: 0.8, u: 1}}",
        AS_NAME,
    ),
    "schema": (
        "schema FILE",
        "give one of sweep, protocol, trial, exponents, recipe, check",
        AS_NAME
        | {
            "sweep": "run `mutransfer schema trial`",
            "records.jsonl": "run `mutransfer schema trial`",
            "spec.yaml": "run `mutransfer schema sweep`",
            "protocol.yaml": "run `mutransfer schema protocol`",
            "exponents.yaml": "run `mutransfer schema exponents`",
            "recipe.yaml": "run `mutransfer schema recipe`",
            "check.yaml": "run `mutransfer schema check`",
        },
    ),
    "docs": ("docs FILE", "give a topic; `mutransfer docs` lists them", AS_NAME),
    "doctor": ("doctor FILE", "`mutransfer doctor` takes no file", AS_NAME),
    "mutransfer": (
        "FILE",
        "begin with a command; `mutransfer --help` lists them",
        AS_NAME,
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of every kind, under the names of KINDS."""
    there = tmp_path_factory.mktemp("files")
    write_run(there / "sweep", measured=False)
    write_table(there / "table.csv")
    (there / "folder").mkdir()
    for name, content in (
        ("records.jsonl", (there / "sweep" / "trials.jsonl").read_bytes()),
        ("protocol.yaml", PROTOCOL.encode()),
        ("spec.yaml", SPEC.read_bytes()),
        ("config.json", json.dumps(CONFIG, indent=2).encode()),
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


def typed(place: str, name: str, files: Path) -> list[str]:
    """The arguments at a place, with the paths of the files."""
    words = TABLE[place][0].replace("FILE", name).split()
    return [str(files / word) if word in KINDS and word != "quickstart" else word for word in words]


@cache
def invoked(place: str, name: str, files: Path) -> Result:
    return invoke(*typed(place, name, files))


def expected(place: str, name: str) -> str | None:
    """The words said there of a file; {} is its path."""
    _, give, instead = TABLE[place]
    if name in instead:
        return instead[name]
    if name == "missing":
        return ABSENT
    return f"is {KINDS[name]}; {give}"


def test_every_kind_and_every_place_is_tried(files: Path) -> None:
    there = {kind_of(files / name) for name in KINDS if (files / name).exists()}
    assert there == set(get_args(Kind)) - {"unknown"}
    assert len(TABLE) >= len(PLACES)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("place", TABLE)
def test_a_file_works_or_the_sentence_says_what_to_do(place: str, name: str, files: Path) -> None:
    said = expected(place, name)
    if said in (ELSEWHERE, NAME):
        return
    result = invoked(place, name, files)
    assert "Traceback" not in result.stderr
    if said is WORKS:
        assert (result.exit_code, bool(result.stdout)) == (0, True), result.stderr
        return
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line)
    path = name if name == "quickstart" else str(files / name)
    assert f"{path}: " in line
    assert said.replace("{}", path) in line
    if name not in TABLE[place][2] and name in FOR:
        said += f"; this one is for {FOR[name]}"
        assert said.replace("{}", path) in line


def test_the_commands_named_take_the_file(files: Path) -> None:
    """Whatever a sentence says to run is not refused as well."""
    named = set()
    for place in TABLE:
        for name in KINDS:
            if expected(place, name) in (WORKS, ELSEWHERE, NAME):
                continue
            line = invoked(place, name, files).stderr
            named |= set(re.findall(r"`mutransfer ([^`|]*/[^`|]*?) *[`|]", line))
    assert len(named) > 12
    for command in sorted(named):
        words = command.replace("WIDTH", "512").replace("TABLE", str(files / "table.csv")).split()
        wrong = [wrong_place(words, word) for word in words if word.startswith("/")]
        assert not any(wrong), (command, wrong)


def wrong_place(words: Sequence[str], path: str) -> str:
    """Why a path among the words of a command is refused; empty if it is not."""
    before = words[words.index(path) - 1]
    place = "spec" if before == "sweep-proxy" else before
    try:
        accepted(Path(path), place)
    except InputError as error:
        return str(error)
    return ""


def test_files_are_refused_before_torch_is_imported(files: Path) -> None:
    """Importing it takes longer than everything else together."""
    program = (
        "import json, sys\n"
        "from typer.testing import CliRunner\n"
        "from mutransfer_cli.cli.app import app\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 2, words\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    everywhere = json.dumps([typed(place, "page.html", files) for place in TABLE])
    done = subprocess.run(
        [sys.executable, "-c", program, everywhere], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "name", "sentence"),
    [
        ("transfer", "table.csv", "stdin: is a table of runs; run `mutransfer fit-exponents FILE`"),
        ("transfer", "records.jsonl", "run `mutransfer fit-exponents FILE` first"),
        ("transfer", "empty", "stdin: is empty; nothing reached it; give the exponents file"),
        ("fit-exponents", "exponents.yaml", "run `mutransfer transfer FILE --width WIDTH`"),
        ("check", "table.csv", "stdin: is a table of runs; run `mutransfer check --records FILE`"),
        ("report", "exponents.yaml", "stdin: is an exponents file; it holds no runs"),
    ],
)
def test_the_same_through_a_pipe(command: str, name: str, sentence: str, files: Path) -> None:
    words = TABLE[command][0].replace("FILE", "").split()
    result = invoke(*words, stdin=(files / name).read_bytes())
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


@pytest.mark.parametrize("name", ["sweep/trials.jsonl", "table.csv"])
def test_the_whole_chain_in_a_pipe(name: str, files: Path) -> None:
    fit = invoke("fit-exponents", stdin=(files / name).read_bytes())
    recipe = invoke("transfer", "--width", 512, stdin=fit.stdout)
    assert (fit.exit_code, recipe.exit_code) == (0, 0)
    assert "schema: mutransfer.recipe/1" in recipe.stdout


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


def test_a_word_that_is_a_folder_too_stays_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command, word in (("schema", "recipes"), ("docs", "transfers"), ("fitt", "fitt")):
        (tmp_path / word).mkdir()
        words = [command] if command == word else [command, word]
        assert "; did you mean " in invoke(*words).stderr


def test_a_folder_does_not_hide_the_shipped_spec_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs may lie in `quickstart`, and the sweep is resumed by the name of its spec."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "quickstart", measured=False)
    refuse_all_but_spec("quickstart")
    assert accepted(Path("quickstart"), "fit-exponents") == "sweep"
