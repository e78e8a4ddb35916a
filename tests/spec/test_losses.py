"""The column that is fitted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.losses import (
    Loss,
    higher_is_better,
    loss_column,
    plain_name,
    refuse_upside_down,
    refuse_zero,
    train_column,
)
from mutransfer_cli.spec.tables import Table


def table(**columns: object) -> Table:
    cells = pd.DataFrame({name.replace("__", "/"): [value] for name, value in columns.items()})
    return Table("t.csv", "line", cells)


@pytest.mark.parametrize("column", ["val_loss", "val/loss", "metrics.val_loss", "Val Loss"])
def test_loggers_put_prefixes_before_names(column: str) -> None:
    assert plain_name(column) == "val_loss"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        *(("acc", True), ("val/accuracy", True), ("top1", True), ("reward", True), ("f1", True)),
        *(("loss", False), ("accumulated", False), ("top1_error", False), ("map_loss", False)),
    ],
)
def test_scores_are_known_by_their_names(column: str, expected: bool) -> None:
    assert higher_is_better(column) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("loss", "eval_loss", "train_loss"), "eval_loss"),
        (("loss", "train_loss"), "loss"),
        (("train_loss", "val__loss"), "val/loss"),
        (("train_loss", "acc"), "train_loss"),
        (("ppl", "acc"), "ppl"),
        (("value", "params_lr"), "value"),
    ],
)
def test_the_evaluation_loss_comes_first(columns: tuple[str, ...], expected: str) -> None:
    assert loss_column(table(**dict.fromkeys(columns, 3)), None, False).column == expected


def test_the_choice_between_losses_is_told() -> None:
    assert loss_column(table(loss=3, eval_loss=3), None, False).said == (
        "loss: the evaluation loss eval_loss, not loss"
    )
    assert loss_column(table(loss=3), None, False).said is None


@pytest.mark.parametrize(
    ("columns", "named", "maximize", "sentence", "remedy"),
    [
        (("val_loss", "test_loss"), None, False, "are evaluation losses", "metric val_loss"),
        (("acc", "x"), None, False, "of which higher is better", ("metric acc", "maximize")),
        (("acc", "x"), "acc", False, "acc is a score of which higher is better", "maximize"),
        (("loss", "x"), "loss", True, "loss is a loss, of which lower is better", None),
        (("ppl", "x"), "ppl", True, "ppl is a loss", None),
        (("x", "y"), None, False, "no column 'loss'; name yours by loss=COLUMN", "columns"),
    ],
)
def test_what_is_no_loss_is_refused(
    columns: tuple[str, str],
    named: str | None,
    maximize: bool,
    sentence: str,
    remedy: str | tuple[str, ...] | None,
) -> None:
    with pytest.raises(InputError, match=sentence) as found:
        loss_column(table(**{columns[0]: 3, columns[1]: 4}), named, maximize)
    assert found.value.remedy == remedy


def test_equal_evaluation_losses_are_one() -> None:
    assert loss_column(table(val_loss=3, test_loss="3.0"), None, False).column == "val_loss"


def test_scores_and_perplexities_become_losses() -> None:
    one = table(x=1)
    values = pd.Series([0.5, math.inf, math.nan])
    assert Loss("x", sign=-1).of(one, values).fillna(9).tolist() == [-0.5, 9, 9]
    assert Loss("x", logarithm=True).of(one, values[1:] + 1).isna().all()
    assert Loss("x", logarithm=True).of(one, pd.Series([math.e])).tolist() == [1]
    with pytest.raises(InputError, match=r"expected a perplexity of 1 or more, found 0.5"):
        Loss("x", logarithm=True).of(one, values[:1])


def test_a_training_loss_that_is_missing_somewhere_is_not_compared() -> None:
    assert train_column(table(loss=3, train_loss=3), "loss", None) == "train_loss"
    assert train_column(table(loss=3, train_loss=None), "loss", None) is None
    assert train_column(table(train_loss=3), "train_loss", None) is None


def losses(*values: float) -> pd.Series[float]:
    return pd.Series(
        values, index=pd.MultiIndex.from_tuples([(0, 2 + i) for i in range(len(values))])
    )


def test_a_loss_of_0_is_suspect_beside_losses_of_3() -> None:
    with pytest.raises(InputError, match=r"t.csv line 4: x: found a loss of exactly 0 .* about 3"):
        refuse_zero(losses(3, 3.1, 0), ["t.csv line"], "x")
    refuse_zero(losses(3, 1e-9, 0), ["t.csv line"], "x")
    refuse_zero(losses(0, 0), ["t.csv line"], "x")


def bowls(sign: float) -> pd.DataFrame:
    rows = [(w, 2.0**x, sign * (x + 8) ** 2) for w in (64, 128) for x in range(-12, -3)]
    return pd.DataFrame(rows, columns=["width", "lr", "loss"])


def test_bowls_upside_down_are_refused() -> None:
    refuse_upside_down(bowls(1), "x", False)
    with pytest.raises(InputError, match=r"x: at 2 of 2 widths .* is higher better\?"):
        refuse_upside_down(bowls(-1), "x", False)
    with pytest.raises(InputError, match=r"is lower better\?"):
        refuse_upside_down(bowls(-1), "x", True)


def test_one_bad_run_turns_no_bowl() -> None:
    table = bowls(1)
    table.loc[np.isclose(table["lr"], 2**-6), "loss"] = 99
    refuse_upside_down(table, "x", False)
