"""`mutransfer check` with tables of own results, as the source or at a larger width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_next_command import PROTOCOL
from tests.cli.test_own_table import write_table

Run = Callable[..., Any]


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "protocol.yaml"
    path.write_text(PROTOCOL)
    return path


@pytest.mark.parametrize(("drift", "exit_code", "verdict"), [(0.0, 0, "pass"), (-0.5, 3, "fail")])
def test_a_table_with_its_protocol(
    run: Run, protocol: Path, tmp_path: Path, drift: float, exit_code: int, verdict: str
) -> None:
    path = write_table(tmp_path / "runs.csv", drift=drift)
    result = run("check", "--records", path, "--protocol", protocol)
    assert result.exit_code == exit_code
    document = yaml.safe_load(result.stdout)
    assert document["source"] == str(path)
    assert {gate["gate"]: gate["verdict"] for gate in document["gates"]} == {
        "exponent": verdict,
        "transfer": "pass",
    }
    assert "static, coordinates and spectrum: not judged" in result.stderr


def test_without_a_protocol_only_transfer_is_judged(run: Run, tmp_path: Path) -> None:
    path = write_table(tmp_path / "runs.csv")
    result = run("check", "--records", path)
    assert result.exit_code == 0
    assert [gate["gate"] for gate in yaml.safe_load(result.stdout)["gates"]] == ["transfer"]
    assert "exponent: not judged, as no protocol" in result.stderr
    result = run("check", "--records", write_table(tmp_path / "few.csv", (64, 128, 256)))
    assert result.exit_code == 2
    assert "transfer: not judged, as it takes 4 widths or more (--protocol)" in result.stderr


def test_from_stdin(run: Run, tmp_path: Path) -> None:
    path = write_table(tmp_path / "runs.csv")
    result = run("check", "--records", "-", "--gates", "transfer", stdin=path.read_text())
    assert result.exit_code == 0
    assert "source: stdin" in result.stdout


def test_a_table_at_a_larger_width_judges_exponents_and_recipes(
    run: Run, protocol: Path, tmp_path: Path
) -> None:
    small = write_table(tmp_path / "small.csv")
    same = write_table(tmp_path / "same.csv", (1024,))
    moved = write_table(tmp_path / "moved.csv", (1024,), drift=-0.5)
    exponents, recipe = tmp_path / "exponents.yaml", tmp_path / "recipe.yaml"
    fit = ("fit-exponents", small, "--protocol", protocol, "-o", exponents)
    assert run(*fit).exit_code == 0
    assert run("transfer", exponents, "--width", 1024, "-o", recipe).exit_code == 0
    for source in (exponents, recipe):
        asked = ("check", source, "--gates", "transfer", "--protocol", protocol, "--records")
        assert run(*asked, same).exit_code == 0
        assert run(*asked, moved).exit_code == 3
    piped = ("check", "--gates", "transfer", "--protocol", protocol, "--records", moved)
    assert run(*piped, stdin=recipe.read_text()).exit_code == 3
    result = run("check", recipe, "--records", same)
    assert result.exit_code == 2
    assert "--records: their protocol is not known, and that of the source is" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--records", "TABLE", "--gates", "spectrum"),
            "not a question for a table of own",
        ),
        (("--records", "TABLE", "--model", "config.json"), "--model: is not for a table of own"),
        (("--records", "TABLE", "--spec", "quickstart"), "--spec: is not for a table of own"),
        (("--records", "TABLE", "--seeds", "2"), "--seeds: is for gates that train"),
        (
            ("--records", "TABLE", "--group", "a"),
            "--group: is for tables that are fitted",
        ),
        (("--records", "TABLE", "--metric", "x"), "has no column 'x'"),
        (("--records", "TABLE", "--held-out", "128"), "inside the fitted widths, up to 512"),
        (("EXPONENTS", "--metric", "x"), "--metric: is for tables of own results, and"),
        (("EXPONENTS", "--records", "TABLE", "--spec", "quickstart"), "the folder to train into"),
        (("EXPONENTS", "--records", "EXPONENTS"), "is an exponents file; it holds no runs"),
    ],
)
def test_what_cannot_be_asked(
    run: Run, protocol: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    files = {"TABLE": tmp_path / "runs.csv", "EXPONENTS": tmp_path / "exponents.yaml"}
    write_table(files["TABLE"])
    fit = ("fit-exponents", files["TABLE"], "--protocol", protocol, "-o", files["EXPONENTS"])
    assert run(*fit).exit_code == 0
    result = run("check", *(files.get(argument, argument) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_records_of_a_sweep_are_not_joined_by_a_table(
    made: Callable[..., Any], write_records: Callable[..., Path], run: Run, tmp_path: Path
) -> None:
    larger = write_table(tmp_path / "larger.csv", (96,))
    result = run("check", write_records(made()), "--records", larger)
    assert result.exit_code == 2
    assert "is a table of runs; a larger width of a sweep needs its records" in result.stderr
