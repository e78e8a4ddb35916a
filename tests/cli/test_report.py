"""`mutransfer report`: its input and output paths, and its errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.runs import write_run

Run = Callable[..., Any]
WriteSpec = Callable[[Any], Path]


def test_a_real_sweep_as_a_page(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["sweep"] = {"widths": [16, 32], "axes": {"lr": [2**-8, 2**-7]}}
    folder, page = tmp_path / "run", tmp_path / "page.html"
    assert run("sweep-proxy", write_spec(tiny), "-o", folder).exit_code == 0
    result = run("report", folder, "-o", page)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"report: {page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "Change of activations" in page.read_text()


def test_without_matplotlib_it_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("report", write_run(tmp_path / "run", widths=[32]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "run `pip install 'mutransfer-cli[plot]'`" in result.stderr


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (lambda path: None, "run: cannot be read (No such file or directory); check the path"),
        (lambda path: path.write_text("x"), "run: has no rows; give one row per run"),
        (
            lambda path: path.mkdir(),
            "run: is a folder, which holds no records; give a sweep's folder or a table of runs",
        ),
    ],
)
def test_what_is_no_run(
    there: Callable[[Path], object], said: str, run: Run, tmp_path: Path
) -> None:
    there(tmp_path / "run")
    result = run("report", tmp_path / "run")
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_broken_line_beside_the_records_is_named(run: Run, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", widths=[32])
    (folder / "curves.jsonl").write_text("{}\n")
    result = run("report", folder)
    assert result.exit_code == 2
    assert "curves.jsonl line 1: is not a curve" in result.stderr


def test_a_check_that_is_none_is_named(run: Run, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", widths=[32])
    (folder / "check.yaml").write_text("schema: mutransfer.recipe/1\n")
    result = run("report", folder)
    assert result.exit_code == 2
    assert "check.yaml" in result.stderr
