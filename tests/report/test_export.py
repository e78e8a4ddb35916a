"""Figures and tables of a page as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.report.export import export, file_name, tables
from mutransfer_cli.report.page import all_figures
from mutransfer_cli.report.run import Run
from tests.cli.test_own_table import write_table

INCHES = 3.3  # a column of a paper
RunOf = Callable[..., Run]


def test_every_figure_is_a_picture_for_a_column_and_every_table_a_csv(
    run_of: RunOf, tmp_path: Path
) -> None:
    run, folder = run_of(), tmp_path / "paper" / "figures"
    figures = all_figures(run)
    assert figures
    count = export(run, figures, folder, 4096)
    found = {path.name for path in folder.iterdir()}
    assert len(found) == count == 2 * len(figures) + len(tables(run, 4096))
    assert {"bowls-lr.svg", "bowls-lr.pdf", "optima-lr.pdf", "optima.csv", "trials.csv"} <= found
    root = ElementTree.parse(folder / "bowls-lr.svg").getroot()
    assert root.attrib["width"] == f"{INCHES * 72:g}pt"
    assert (folder / "bowls-lr.pdf").read_bytes().startswith(b"%PDF-")


def test_the_tables_hold_the_fit_at_full_precision(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of()
    export(run, [], tmp_path, 4096)
    axis = run.document.axes["lr"]
    optima = pd.read_csv(tmp_path / "optima.csv").set_index("width")
    for width, at in axis.optimum.items():
        assert optima.loc[width, "value"] == pytest.approx(at.value, rel=1e-12)
        assert optima.loc[width, "status"] == at.status
    exponent = pd.read_csv(tmp_path / "exponents.csv").iloc[0]
    assert axis.exponent is not None
    assert exponent["exponent"] == pytest.approx(axis.exponent.value, rel=1e-12)
    forecast = pd.read_csv(tmp_path / "forecast.csv").iloc[0]
    assert forecast["value"] == pytest.approx(2 ** axis.at(4096).value)
    assert forecast["low"] < forecast["value"] < forecast["high"]
    assert len(pd.read_csv(tmp_path / "trials.csv")) == sum(run.document.trials.values())


def test_names_are_those_of_files() -> None:
    assert file_name("bowls-lr_mult.hidden") == "bowls-lr_mult.hidden"
    assert file_name("a b/c") == "a-b-c"


def test_a_folder_that_cannot_be_made_is_refused(run_of: RunOf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        export(run_of(), [], tmp_path / "file" / "figures", None)


def test_the_command_says_how_many_files_are_where(run: Callable[..., Any], tmp_path: Path) -> None:
    table, folder = write_table(tmp_path / "runs.csv"), tmp_path / "figures"
    result = run("report", table, "--figures", folder, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.stderr
    assert f"figures: {len(list(folder.iterdir()))} files in {folder}" in result.stderr
    assert {"bowls-lr.pdf", "optima.csv", "trials.csv"} <= {one.name for one in folder.iterdir()}
    several = run("report", table, table, "--figures", folder)
    assert several.exit_code == 2
    assert "--figures: is for one sweep or table" in several.stderr
