"""`mutransfer check`: its exit codes and its output for CI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from mutransfer_cli.spec.records import Records

Make = Callable[..., Records]
Write = Callable[..., Path]
Run = Callable[..., Any]
SMALL, LARGE = (16, 24, 32, 48), (96,)


@pytest.mark.parametrize(
    ("law", "exit_code", "verdict"),
    [
        ({}, 0, "pass"),
        ({"exponent": -0.5}, 3, "fail"),
        ({"noise": 0.01}, 4, "inconclusive"),
        ({"astray": -2.0}, 3, "fail"),
    ],
)
def test_the_exit_code_is_the_verdict(
    made: Make, write_records: Write, run: Run, law: dict[str, float], exit_code: int, verdict: str
) -> None:
    result = run("check", write_records(made(**law)))
    assert result.exit_code == exit_code
    document = yaml.safe_load(result.stdout)
    assert (document["schema"], document["verdict"]) == ("mutransfer.check/1", verdict)
    assert f"verdict: {verdict}" in result.stderr


def test_exponents_and_recipes_with_a_held_out_sweep(
    made: Make, write_records: Write, run: Run, tmp_path: Path
) -> None:
    exponents, recipe = tmp_path / "exponents.yaml", tmp_path / "recipe.yaml"
    small = write_records(made(widths=SMALL), "small.jsonl")
    assert run("fit-exponents", small, "-o", exponents).exit_code == 0
    assert run("transfer", exponents, "--width", 96, "-o", recipe).exit_code == 0
    good = write_records(made(widths=LARGE), "good.jsonl")
    bad = write_records(made(widths=LARGE, astray=-2.0), "bad.jsonl")
    for source in (exponents, recipe):
        asked = ("check", source, "--gates", "transfer", "--records")
        assert run(*asked, good).exit_code == 0
        assert run(*asked, bad).exit_code == 3


def test_from_a_pipe_as_json(made: Make, write_records: Write, run: Run) -> None:
    records = write_records(made()).read_text()
    result = run("check", "--gates", "exponent", "--json", stdin=records)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["source"] == "stdin"


def test_ci_gets_annotations_a_summary_and_junit(
    made: Make, write_records: Write, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, junit = tmp_path / "summary.md", tmp_path / "junit.xml"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    path = write_records(made(exponent=-0.5))
    result = run("check", path, "--github", "--junit", junit)
    assert result.exit_code == 3
    assert (
        f"::error file={path},title=mutransfer check%3A exponent::exponent of lr" in result.stderr
    )
    lines = summary.read_text().splitlines()
    assert lines[:2] == ["before", "## mutransfer check: fail"]
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    yaml.safe_load(result.stdout)


def test_without_a_summary_it_is_said(made: Make, write_records: Write, run: Run) -> None:
    result = run("check", write_records(made()), "--github")
    assert "GITHUB_STEP_SUMMARY is not set" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--gates", "all"), "--gates all: unknown; there are static"),
        (("--gates", "static"), "--gates static: not a question for a sweep's records"),
        (("--tolerance", "exponent"), "--tolerance exponent: expected GATE=NUMBER"),
        (("--tolerance", "exponent=-1"), "expected GATE=NUMBER"),
        (("--held-out", "32"), "inside the fitted widths"),
        (("--gates", "coordinates"), "give its sweep spec with --spec"),
        (("--model", "config.json"), "--model: is not for a sweep's records, as"),
        (("--group", "a"), "--group: is not for a sweep's records, as"),
        (("--held-out", "512"), "--held-out 512: give the sweep at that width with --records"),
        (("--budget", "0"), "--budget 0: expected minutes"),
        (("--widths", "0,8,16,32"), "--widths 0,8,16,32: expected widths separated by commas"),
        (("--widths", ""), "--widths : expected widths"),
        (("--seeds", "4"), "--seeds: is for gates that train; give their sweep spec"),
        (("--budget", "5"), "--budget: is for gates that train"),
    ],
)
def test_what_cannot_be_asked(
    made: Make, write_records: Write, run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run("check", write_records(made()), *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
