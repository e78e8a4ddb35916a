"""`fit-exponents` on a table of runs that this tool did not train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

Run = Callable[..., Any]
WIDTHS = (64, 128, 256, 512)
COLUMNS = "width=dim,lr=base_lr,loss=val_loss,seed=run"


def table(exponents: dict[str, float], widths: tuple[int, ...] = WIDTHS) -> pd.DataFrame:
    """Runs of several variants whose best rate scales as width^exponent, with renamed columns."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "variant": variant,
                "dim": width,
                "base_lr": 2.0**x,
                "run": run,
                "val_loss": 2.5
                + 0.04 * (x + 6 - exponent * np.log2(width / 64)) ** 2
                + random.normal(0, 0.002),
            }
            for variant, exponent in exponents.items()
            for width in widths
            for x in np.arange(-10.0, -2.0, 0.5)
            for run in (0, 1)
        ]
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    table({"a": -0.5}).to_csv(path, index=False)
    return path


def fitted(run: Run, *args: object, **options: Any) -> Any:
    result = run("fit-exponents", *args, "--json", **options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_csv_of_own_runs(run: Run, csv: Path) -> None:
    document = fitted(run, csv, "--columns", COLUMNS)
    exponent = document["axes"]["lr"]["exponent"]
    assert exponent["low"] < -0.5 < exponent["high"]
    assert document["metric"] == "val_loss"
    assert document["protocol"] is None
    assert "groups" not in document


def test_stdin_and_json_lines_are_the_same(run: Run, csv: Path) -> None:
    from_file = fitted(run, csv, "--columns", COLUMNS)
    assert fitted(run, "-", "--columns", COLUMNS, stdin=csv.read_text()) == from_file
    lines = pd.read_csv(csv).to_json(orient="records", lines=True, double_precision=15)
    from_lines = fitted(run, "--columns", COLUMNS, stdin=lines)
    exponents = [document["axes"]["lr"]["exponent"] for document in (from_lines, from_file)]
    assert exponents[0] == pytest.approx(exponents[1], rel=1e-9)


def test_each_group_is_fitted_on_its_own(run: Run, tmp_path: Path) -> None:
    """A variant with too few widths is refused without affecting the others."""
    path = tmp_path / "runs.csv"
    two = table({"c": 0.0}, widths=(64, 128))
    pd.concat([table({"a": -0.5, "b": 0.0}), two]).to_csv(path, index=False)
    groups = fitted(run, path, "--columns", COLUMNS, "--by", "variant")["groups"]
    for name, exponent in (("a", -0.5), ("b", 0.0)):
        axis = groups[name]["axes"]["lr"]
        assert axis["status"] == "ok"
        assert axis["exponent"]["low"] < exponent < axis["exponent"]["high"]
    assert groups["c"]["axes"]["lr"]["status"] == "insufficient"
    assert groups["c"]["axes"]["lr"]["exponent"] is None


def test_when_every_group_is_refused_the_exit_code_is_4_and_the_output_is_there(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "runs.csv"
    table({"a": 0.0, "b": 0.0}, widths=(64, 128)).to_csv(path, index=False)
    result = run("fit-exponents", path, "--columns", COLUMNS, "--by", "variant", "--json")
    assert result.exit_code == 4
    assert set(json.loads(result.stdout)["groups"]) == {"a", "b"}


def test_a_nan_loss_is_a_diverged_run(run: Run, csv: Path) -> None:
    runs = pd.read_csv(csv)
    runs.loc[runs["base_lr"] > 2**-3.6, "val_loss"] = np.nan
    runs.to_csv(csv, index=False)
    document = fitted(run, csv, "--columns", COLUMNS)
    assert document["trials"]["diverged"] == int(runs["val_loss"].isna().sum()) > 0
    assert document["axes"]["lr"]["status"] == "ok"


def test_rows_that_repeat_a_run_need_a_decision(run: Run, csv: Path) -> None:
    runs = pd.read_csv(csv)
    again = runs.iloc[[0]].assign(val_loss=9.0, ended=1)
    pd.concat([again, runs.assign(ended=2)]).to_csv(csv, index=False)
    result = run("fit-exponents", csv, "--columns", COLUMNS)
    assert result.exit_code == 2
    assert "(--keep last:COLUMN)" in result.stderr
    document = fitted(run, csv, "--columns", COLUMNS, "--keep", "last:ended")
    assert document["axes"]["lr"]["status"] == "ok"
    assert document["rows_left_out"] == {"before the last ended": 1}
    result = run("fit-exponents", csv, "--columns", COLUMNS, "--keep", "last")
    assert result.exit_code == 2
    assert "--keep last: expected last:COLUMN with a column that says which row" in result.stderr


def test_a_missing_column_names_those_found(run: Run, csv: Path) -> None:
    result = run("fit-exponents", csv)
    assert result.exit_code == 2
    assert "has no column 'width'" in result.stderr
    assert "dim, base_lr" in result.stderr
