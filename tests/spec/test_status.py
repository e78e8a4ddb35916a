"""Statuses of runs."""

from __future__ import annotations

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.status import statuses, word
from mutransfer_cli.spec.tables import Table


def table(*cells: str) -> Table:
    return Table("t.csv", "line", pd.DataFrame({"State": cells}, index=range(2, 2 + len(cells))))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("TrialState.COMPLETE", "complete"),
        (" Early stopped ", "early-stopped"),
        ("OUT_OF_MEMORY", "out-of-memory"),
    ],
)
def test_words_have_one_form(cell: str, expected: str) -> None:
    assert word(cell) == expected


@pytest.mark.parametrize("cell", ["finished", "COMPLETE", "success", "ok", "TERMINATED"])
def test_finished_runs_stay(cell: str) -> None:
    ran, diverged, left_out = statuses(table(cell), "State")
    assert (ran.tolist(), diverged.tolist(), dict(left_out)) == ([True], [False], {})


@pytest.mark.parametrize(
    "cell",
    [
        *("running", "pending", "queued", "preempted", "crashed", "crash", "failed", "killed"),
        *("error", "oom", "timeout", "pruned", "early-stopped"),
    ],
)
def test_others_are_left_out_and_counted(cell: str) -> None:
    ran, _, left_out = statuses(table("finished", cell, cell), "State")
    assert ran.tolist() == [True, False, False]
    assert left_out == {cell: 2}


def test_diverged_runs_stay_as_such() -> None:
    ran, diverged, _ = statuses(table("ok", "Diverged"), "State")
    assert (ran.tolist(), diverged.tolist()) == ([True, True], [False, True])


@pytest.mark.parametrize("cell", ["", "CA", "3"])
def test_a_word_that_is_not_known_is_refused_with_its_line(cell: str) -> None:
    with pytest.raises(InputError, match=f"t.csv line 3: State: expected a .* found '{cell}'"):
        statuses(table("finished", cell), "State")


def test_some_run_has_finished() -> None:
    with pytest.raises(InputError, match=r"no row has a status .*\(2 running, 1 crashed\)"):
        statuses(table("running", "crashed", "running"), "State")
