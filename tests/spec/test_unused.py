"""Columns that the fit does not use."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.unused import (
    is_progress,
    notes_on,
    refuse_steps_and_settings,
    refuse_uneven,
    run_columns,
    tells_apart,
)

RATES = [2.0**-x for x in range(4, 10)]
KEY = ["width", "lr"]


def frame(times: int = 1) -> pd.DataFrame:
    """Runs at two widths and six rates, each so many times."""
    rows = [(w, lr, 3.0) for w in (64, 128) for lr in RATES for _ in range(times)]
    index = pd.MultiIndex.from_tuples([(0, 2 + at) for at in range(len(rows))])
    return pd.DataFrame(rows, index=index, columns=["width", "lr", "loss"])


def others(table: pd.DataFrame, **columns: list[Any]) -> pd.DataFrame:
    """Further columns, whose values are repeated over the rows."""
    repeated = {name: (values * len(table))[: len(table)] for name, values in columns.items()}
    return pd.DataFrame(repeated, index=table.index, dtype=object)


@pytest.mark.parametrize("column", ["step", "_step", "trainer/global_step", "epoch", "Iteration"])
def test_steps_are_known_by_their_names(column: str) -> None:
    assert is_progress(column)
    assert not is_progress("max_steps")


def test_settings_are_told_from_names_times_and_measurements() -> None:
    table = frame(2)
    columns = others(
        table,
        optimizer=["adam", "muon"],
        depth=[4, 8],
        constant=[1],
        run_id=[f"r{at}" for at in range(24)],
        created_at=["today", "tomorrow"],
        data_seed=[0, 1],
        grad_norm=[0.1, 0.2],
        other_loss=[3.1, 3.2],
        measured=[at / 7 for at in range(24)],
    )
    assert list(tells_apart(columns, table)) == ["optimizer", "depth"]


def refused(table: pd.DataFrame, **columns: list[Any]) -> InputError:
    telling = tells_apart(others(table, **columns), table)
    with pytest.raises(InputError) as found:
        refuse_steps_and_settings(table, telling, KEY, ["t.csv line"])
    return found.value


def test_the_steps_of_a_log_are_refused() -> None:
    error = refused(frame(2), step=[100, 200])
    assert str(error).startswith(
        "t.csv line 2 and t.csv line 3: several rows of width 64, lr 0.0625, with step 100 and 200"
    )
    assert error.remedy == "last step"
    assert refused(frame(2), epoch=[1, 1], step=[100, 200]).remedy == "last step"


def test_a_setting_that_differs_within_a_cell_is_refused() -> None:
    error = refused(frame(2), optimizer=["adam", "muon"])
    assert "with optimizer adam and muon: fit each value on its own" in str(error)
    assert error.remedy == ("by optimizer", 'where "optimizer=adam"', "columns seed=optimizer")


def test_steps_that_jitter_are_equal() -> None:
    table = frame(2)
    assert tells_apart(others(table, step=[10_000, 10_001]), table).empty


def test_runs_that_ended_early_are_refused() -> None:
    table = frame()
    telling = tells_apart(others(table, step=[100, 1000, 1000]), table)
    with pytest.raises(InputError, match=r"step differs at width 64 \(100 and 1000\)") as found:
        refuse_uneven(table, telling, ["width"])
    assert found.value.remedy == 'where "step=1000"'
    diverged = table.assign(loss=table["loss"].where(pd.Series([False, True, True] * 4).to_numpy()))
    refuse_uneven(diverged, telling, ["width"])


def test_a_setting_in_words_that_differs_within_a_width_is_refused() -> None:
    table = frame()
    telling = tells_apart(others(table, blocks=[4, 4, 8]), table)
    with pytest.raises(InputError, match=r"blocks differs at width 64 .4 and 8."):
        refuse_uneven(table, telling, ["width"])
    telling = tells_apart(others(table, norm=["pre", "post"]), table)
    with pytest.raises(InputError, match=r"norm differs at width 64 .pre and post."):
        refuse_uneven(table, telling, ["width"])
    refuse_uneven(table.assign(seed=["a", "b"] * 6), telling, ["width"])


def test_what_was_not_used_is_named() -> None:
    table = frame()
    columns = others(table, dropout=[0.1, 0.2, 0.3, 0.1, 0.2, 0.4], d_ff=[256] * 6 + [512] * 6)
    within, along = notes_on(table, tells_apart(columns, table), ["width"])
    assert within.startswith("not used, but different within a width: dropout;")
    assert along.startswith("not used, but different from width to width: d_ff;")


def test_a_column_of_numbers_that_follows_the_rate_says_nothing_new() -> None:
    table = frame()
    columns = others(table, log2_lr=list(range(-4, -10, -1)))
    assert notes_on(table, tells_apart(columns, table), ["width"]) == []


def test_runs_are_named_by_a_column_that_repeats() -> None:
    table = frame(2)
    columns = others(table, trial_id=["a", "b"], name=[f"r{at}" for at in range(24)])
    assert run_columns(columns) == ["trial_id"]
