from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.options import TableOptions

SEVERAL = ("by", "size")
NOTHING: Any = dict.fromkeys(field.name for field in fields(TableOptions))
NOTHING |= dict.fromkeys(SEVERAL, ())


def options(**given: Any) -> TableOptions:
    return TableOptions(**NOTHING | given)


def test_those_given_are_known_by_name() -> None:
    assert options().given == []
    assert options(columns="width=dim", by=("depth",)).given == ["columns", "by"]


def test_records_take_a_metric_only() -> None:
    assert options().metric_of_records() == "eval_loss"
    assert options(metric="train_loss").metric_of_records() == "train_loss"
    with pytest.raises(InputError, match=r"^protocol: is for tables of own results, and") as error:
        options(metric="train_loss", protocol=Path("p.yaml")).metric_of_records()
    assert error.value.setting == "protocol"
    with pytest.raises(InputError, match=r"^metric val: records have eval_loss and train_loss"):
        options(metric="val").metric_of_records()


def test_other_sources_refuse_them() -> None:
    options().refuse("this is a recipe")
    with pytest.raises(InputError, match=r"^metric: is for tables of own results, and this is a"):
        options(metric="x").refuse("this is a recipe")


@pytest.mark.parametrize(
    ("given", "resamples", "sentence"),
    [
        ({"optima": True, "keep": "last:row"}, 0, "keep: is for losses, and a table of best"),
        ({"optima": True}, 5, "resamples: is for losses, and a table of best"),
        ({"grid_spacing": 1.0}, 0, "grid_spacing: is for a table of best values"),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], resamples: int, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        options(**given).refuse_contradictions(resamples)


def test_the_row_to_keep_names_a_column() -> None:
    assert options(keep="last: created_at").choices().keep == "created_at"
    for keep in ("last", "first:row"):
        with pytest.raises(InputError, match=f"^keep {keep}: expected last:COLUMN"):
            options(keep=keep).choices()
