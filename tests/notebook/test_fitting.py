from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.cli import fit_exponents as command
from mutransfer_cli.errors import InputError
from mutransfer_cli.notebook.fitting import fit_exponents
from tests.fit.test_from_tables import frame
from tests.report.runs import write_run

HERE = Path(__file__).parent
OF_THE_COMMAND = {"results", "output", "as_json"}


def test_the_arguments_are_the_options_of_the_command() -> None:
    ours = inspect.signature(fit_exponents).parameters.keys() - {"source"}
    assert ours == inspect.signature(command.fit_exponents).parameters.keys() - OF_THE_COMMAND


def test_a_frame_is_read_as_its_file_is(tmp_path: Path) -> None:
    runs = frame().rename(columns={"width": "dim", "loss": "val_loss"}).assign(depth=4)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    options: dict[str, Any] = {"columns": {"width": "dim"}, "where": "depth=4"}
    here, there = fit_exponents(runs, **options), fit_exponents(tmp_path / "runs.csv", **options)
    assert here.exponents == there.exponents
    assert here.notes == there.notes
    assert here.exponents == fit_exponents(runs, columns="width=dim").exponents
    pd.testing.assert_frame_equal(here.trials, there.trials)


@pytest.mark.parametrize("index", [[7] * 28, list("ab") * 14])
def test_any_index_will_do(index: list[Any]) -> None:
    assert fit_exponents(frame().set_axis(index)).exponents == fit_exponents(frame()).exponents


def test_a_named_index_is_a_column() -> None:
    assert fit_exponents(frame().set_index("width")).exponents == fit_exponents(frame()).exponents


def test_several_frames_are_one_table() -> None:
    half = frame()["width"] < 200
    parts = [frame()[half], frame()[~half]]
    assert fit_exponents(parts).exponents == fit_exponents(frame()).exponents


def test_records_are_fitted_as_the_command_does(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "x")
    fit = fit_exponents(str(folder), metric="train_loss")
    assert (fit.name, fit.exponents.metric) == ("x", "train_loss")
    with pytest.raises(InputError, match=r"^by: is for tables of own results"):
        fit_exponents(folder, by="width")
    with pytest.raises(InputError, match="records of a sweep and tables of own results"):
        fit_exponents([folder, frame()])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ([], "expected a DataFrame, .* found an empty list"),
        (3, "expected a DataFrame, .* found 3"),
        ({"width": [1]}, "expected a DataFrame, .* found a dict"),
        (frame().iloc[:0], "DataFrame: has no rows"),
        (pd.concat({"a": frame()}, axis=1), "DataFrame: has columns on several levels"),
        (frame().drop(columns="loss"), "DataFrame"),
        (frame().assign(lr=np.nan), "DataFrame: lr is empty in every row"),
        (frame().assign(lr=-1.0), "DataFrame row 0: lr: expected a learning rate"),
        (HERE / "test_fitting.py", "test_fitting.py"),
        ("none.csv", "none.csv: cannot be read"),
    ],
)
def test_bad_sources_are_refused_in_words(source: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        fit_exponents(source)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"columns": {"with": "dim"}}, "columns: unknown name 'with'"),
        ({"columns": 3}, "columns: expected names with columns, found 3"),
        ({"where": 3}, "where: expected text, found 3"),
        ({"by": 3}, "by: expected the name of a column, or several, found 3"),
        ({"protocol": {}}, "expected the path of a protocol, found a dict"),
        ({"decay_convention": "coupled"}, "decay_convention 'coupled': unknown"),
        ({"scatter_below": 0}, "scatter_below 0: expected a positive number"),
        ({"scatter_below": "much"}, "scatter_below 'much': expected a positive number"),
        ({"resamples": -1}, "resamples: expected a whole number from 0, found -1"),
        ({"grid_spacing": 1.0}, "grid_spacing: is for a table of best values"),
    ],
)
def test_bad_arguments_are_refused_in_words(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        fit_exponents(frame(), **options)
