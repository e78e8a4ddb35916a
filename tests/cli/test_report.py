"""`mutransfer report`: sweeps and tables in, one page out, and its errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mutransfer_cli.spec.sources import load_records
from mutransfer_cli.sweep.store import Finished, RecordStore
from tests.cli.test_next_command import PROTOCOL
from tests.cli.test_own_table import write_table
from tests.report.pages import Page
from tests.report.runs import write_run

Run = Callable[..., Any]
WriteSpec = Callable[[Any], Path]


def test_a_real_sweep_as_a_page(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["sweep"] = {"widths": [16, 32], "axes": {"lr": [2**-8, 2**-7]}}
    folder, page = tmp_path / "run", tmp_path / "page.html"
    trained = run("sweep-proxy", write_spec(tiny), "-o", folder)
    assert trained.exit_code == 0, trained.stderr
    result = run("report", folder, "-o", page)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"report: {page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "Change of activations" in page.read_text()


def test_a_table_of_own_results(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv", drift=-1.0)
    result = run("report", table, "--width", "2048")
    assert result.exit_code == 0
    page = Page(result.stdout, tmp_path)
    assert "The best learning rate scales as width^-1.00" in page.text
    assert "No protocol says what the rule expects, so there is no verdict" in page.text
    assert {"Loss against learning rate by width", "Optimal learning rate against width"} < set(
        page.pictures
    )
    assert "Best base values at width 2048" in page.tables
    assert {"curves", "diagnostics", "coordinates"}.isdisjoint(page.ids)
    header, *rows = page.tables["72 runs"]
    assert header == ["width", "seed", "lr", "loss"]
    assert len(rows) == len(page.data["trials"]) == 72
    assert page.unnamed == 0
    fit = json.loads(run("fit-exponents", table, "--json").stdout)
    assert page.data["exponents"] == fit


def test_a_protocol_brings_the_verdict(run: Run, tmp_path: Path) -> None:
    table, protocol = write_table(tmp_path / "runs.csv"), tmp_path / "protocol.yaml"
    protocol.write_text(PROTOCOL)
    page = Page(run("report", table, "--protocol", protocol).stdout, tmp_path)
    assert page.data["verdicts"] == {"lr": "pass"}
    assert ["parameterization.base_width", "64"] in page.tables["The protocol"]


def test_diverged_runs_of_a_table(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv")
    table.write_text(table.read_text() + "64,1.0,,0\n64,1.0,inf,1\n")
    page = Page(run("report", table).stdout, tmp_path)
    assert page.tables["74 runs"][-1] == ["64", "1", "1.00", ""]
    assert ["trials", "72 ok, 2 diverged"] in page.tables["Where the numbers come from"]


def test_best_values_alone(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "optima.csv"
    table.write_text("width,lr\n64,0.01\n128,0.005\n256,0.0025\n512,0.00125\n")
    result = run("report", table, "--optima", "--grid-spacing", "0.5")
    assert result.exit_code == 0
    page = Page(result.stdout, tmp_path)
    assert page.pictures.keys() == {
        "The exponent with its interval",
        "Optimal learning rate against width",
    }


def test_from_stdin(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv")
    result = run("report", stdin=table.read_text())
    assert result.exit_code == 0
    assert "mutransfer report: stdin" in result.stdout


@pytest.mark.parametrize("option", [("--metric", "eval_loss"), ("--columns", "width=dim")])
def test_options_for_tables_are_not_for_records(
    option: tuple[str, str], run: Run, tmp_path: Path
) -> None:
    result = run("report", write_run(tmp_path / "run", widths=[32]), *option)
    assert result.exit_code == 2
    assert f"{option[0]}: is for tables of own results, and" in result.stderr


def test_without_matplotlib_it_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("report", write_run(tmp_path / "run", widths=[32]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "run `pip install matplotlib`" in result.stderr


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (lambda path: None, "run: cannot be read (No such file or directory); check the path"),
        (lambda path: path.write_text("x"), "run: has no rows; give one row per run"),
        (lambda path: path.mkdir(), "run: "),
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


def test_a_sweep_that_runs_is_watched_to_its_end(
    tiny_mlp: dict[str, Any],
    write_spec: WriteSpec,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pages written meanwhile load themselves again; the last one, of all trials, does not.

    The records are a real sweep's. They are written again, a width between two pages.
    """
    trained = run("sweep-proxy", write_spec(tiny_mlp), "-o", tmp_path / "trained")
    assert trained.exit_code == 0, trained.stderr
    records = load_records([tmp_path / "trained"], warn=lambda sentence: None)
    folder, page, pages = tmp_path / "run", tmp_path / "page.html", list[str]()
    store = RecordStore(folder, records.header)
    widths = [24, 16, 32]

    def pause(seconds: float) -> None:
        if page.exists():
            pages.append(page.read_text())
        width = widths.pop(0)
        store.append(Finished([trial for trial in records.trials if trial.width == width]))
        if not widths:
            store.__exit__()

    monkeypatch.setattr("mutransfer_cli.cli.report.time", SimpleNamespace(sleep=pause))
    result = run("report", folder, "--watch", "-o", page)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("report: no trial has ended yet\n")
    assert ["7 ok so far" in pages[0], "14 ok so far" in pages[1]] == [True, True]
    assert all('http-equiv="refresh"' in earlier for earlier in pages)
    assert "21 ok" in page.read_text()
    assert 'http-equiv="refresh"' not in page.read_text()
    assert "so far" not in page.read_text()


def test_a_watched_page_needs_a_file_and_a_folder(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv")
    assert "--watch: needs a file for the page" in run("report", table, "--watch").stderr
    piped = run("report", "--watch", "-o", tmp_path / "page.html", stdin="a,b\n1,2\n")
    assert "--watch: stdin cannot be watched" in piped.stderr
    assert piped.exit_code == 2
