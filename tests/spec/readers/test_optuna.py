"""Studies that Optuna 5.0.0 wrote: two complete trials, one pruned, one failed, one waiting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.optuna import read_journal
from mutransfer_cli.spec.readers.sqlite import read_sqlite
from mutransfer_cli.spec.readers.table import Table


def read(path: Path) -> Table:
    return read_journal(path.read_text(), str(path)) if path.suffix == ".log" else read_sqlite(path)


@pytest.fixture(params=["database", "journal"])
def study(
    request: pytest.FixtureRequest,
    database: Callable[..., Path],
    recorded: Callable[[str], Path],
) -> Path:
    return database("optuna") if request.param == "database" else recorded("optuna_journal.log")


def test_every_trial_is_a_row_with_its_state(study: Path) -> None:
    table = read(study)
    cells = table.cells
    assert cells["status"].tolist() == ["complete", "complete", "pruned", "failed", "pending"]
    assert cells["params.width"].tolist()[:4] == [64, 128, 64, 128]  # choices, not their positions
    assert cells["params.lr"].tolist()[:2] == [0.125, 0.0625]
    assert cells["params.depth"].tolist()[:2] == [2, 2]
    assert isinstance(cells["params.depth"].tolist()[0], int)
    assert cells["user_attrs.seed"].tolist()[:2] == [0, 0]
    assert cells["value"].tolist()[:3] == [
        pytest.approx(3.408771501973671),
        pytest.approx(3.3029931002325754),
        None,
    ]
    assert (table.result, table.maximize, table.notes) == ("value", False, ())
    assert table.place(1) == f"{study} run 1"


def test_a_journal_may_end_in_a_cut_line(recorded: Callable[[str], Path]) -> None:
    path = recorded("optuna_journal.log")
    whole = read(path).cells
    path.write_text(path.read_text() + '{"op_code": 4, "stu')
    assert read(path).cells.equals(whole)
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(InputError, match=r"line 1: not an operation of an Optuna journal .*to_csv"):
        read(path)


def test_studies_are_told_apart(database: Callable[..., Path]) -> None:
    second = (
        "insert into studies values (2, 'wide')",
        "insert into study_directions values (2, 'MINIMIZE', 2, 0)",
        "insert into study_user_attributes values (1, 2, 'width', '512')",
        "insert into trials values (9, 0, 2, 'COMPLETE', null, null)",
        "insert into trial_values values (9, 9, 0, null, 'INF_POS')",
    )
    table = read(database("optuna", *second))
    assert table.cells.index[-1] == "wide 0"
    last = table.cells.iloc[-1]
    assert (last["study"], last["study.user_attrs.width"]) == ("wide", 512)
    assert last["value"] == float("inf")
    assert "2 studies are read together (bowl, wide)" in table.notes[0]


def test_directions_are_kept_and_not_mixed(database: Callable[..., Path]) -> None:
    up = "update study_directions set direction = 'MAXIMIZE'"
    assert read(database("optuna", up)).maximize
    other = (
        "insert into studies values (2, 'up')",
        "insert into study_directions values (2, 'MAXIMIZE', 2, 0)",
        "insert into trials values (9, 0, 2, 'COMPLETE', null, null)",
    )
    with pytest.raises(InputError, match=r"its studies \(bowl, up\) minimize and maximize"):
        read(database("optuna", *other))


def test_several_objectives_have_a_column_each(database: Callable[..., Path]) -> None:
    second = (
        "insert into study_directions values (2, 'MINIMIZE', 1, 1)",
        "insert into trial_values values (9, 1, 1, 7.0, 'FINITE')",
    )
    table = read(database("optuna", *second))
    assert table.cells["values.1"].tolist()[0] == 7.0
    assert table.result is None  # the user says which
    names = json.dumps(["val_loss", "seconds"])
    named = f"insert into study_system_attributes values (1, 1, 'study:metric_names', '{names}')"
    assert "values.val_loss" in read(database("optuna", named, *second)).cells
