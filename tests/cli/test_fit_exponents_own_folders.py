"""`mutransfer fit-exponents` on folders and databases of own runs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import yaml
from typer.testing import CliRunner, Result

from mutransfer_cli.cli.app import app
from tests.sources.bowl import EXPONENT, runs

DUMP = Path(__file__).parents[1] / "spec" / "readers" / "recorded" / "optuna.sql"


def fit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["fit-exponents", *map(str, arguments)])


def holds_the_exponent(result: Result) -> bool:
    assert result.exit_code == 0, result.output
    found = yaml.safe_load(result.stdout)["axes"]["lr"]["exponent"]
    return bool(found["low"] <= EXPONENT <= found["high"])


def test_values_in_the_names_of_folders(tmp_path: Path) -> None:
    for run in runs():
        folder = tmp_path / f"width{run.width}_lr{run.lr}"
        folder.mkdir()
        (folder / "log.csv").write_text(f"step,val_loss\n300,{run.loss()}\n")
    pattern = "width{width}_lr{lr}/log.csv"
    assert holds_the_exponent(fit(tmp_path, "--path-pattern", pattern))
    wrong = fit(tmp_path, "--path-pattern", "v{width}")
    assert wrong.exit_code == 2
    assert "--path-pattern v{width}: fits none of the files" in wrong.stderr


def test_a_hydra_multirun_says_which_runs_have_no_result(tmp_path: Path) -> None:
    for number, run in enumerate(runs()):
        job = tmp_path / "multirun" / "2026-11-30" / str(number)
        (job / ".hydra").mkdir(parents=True)
        config = f"model: {{width: {run.width}}}\noptim: {{lr: {run.lr}}}\n"
        (job / ".hydra" / "config.yaml").write_text(config)
        if number:
            (job / "metrics.json").write_text(json.dumps({"val_loss": run.loss()}))
    result = fit(tmp_path / "multirun")
    assert holds_the_exponent(result)
    assert "1 runs without results are left out (2026-11-30/0)" in result.stderr


def test_an_optuna_study(tmp_path: Path) -> None:
    """Trials are stored with the positions of categorical values; one here was pruned."""
    path = tmp_path / "study.db"
    schema = [line for line in DUMP.read_text().splitlines() if line.startswith("CREATE")]
    choices = '{"name": "CategoricalDistribution", "attributes": {"choices": [512, 256, 128, 64]}}'
    rate = '{"name": "FloatDistribution", "attributes": {}}'
    with closing(sqlite3.connect(path)) as database:
        database.executescript("".join(schema))
        database.execute("insert into studies values (1, 'bowl')")
        database.execute("insert into study_directions values (1, 'MINIMIZE', 1, 0)")
        for key, run in enumerate([*runs(), next(runs())]):
            pruned = key == 28
            loss = 0.0 if pruned else run.loss()
            state = "PRUNED" if pruned else "COMPLETE"
            position = [512, 256, 128, 64].index(run.width)
            database.execute(
                "insert into trials values (?, ?, 1, ?, null, null)", (key, key, state)
            )
            values = [
                (2 * key, key, "w", position, choices),
                (2 * key + 1, key, "lr", run.lr, rate),
            ]
            database.executemany("insert into trial_params values (?, ?, ?, ?, ?)", values)
            row = (key, key, loss)
            database.execute("insert into trial_values values (?, ?, 0, ?, 'FINITE')", row)
        database.commit()
    assert holds_the_exponent(fit(path, "--columns", "width=params.w"))
