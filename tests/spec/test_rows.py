"""The rows of one table."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.columns import resolve
from mutransfer_cli.spec.rows import Choices, Part, read_part
from mutransfer_cli.spec.tables import Table


def part(rows: list[dict[str, Any]], **options: Any) -> Part:
    table = Table("t.csv", "line", pd.DataFrame(rows, index=range(2, 2 + len(rows)), dtype=object))
    choices = Choices(**options)
    names = resolve(table, choices.columns, choices.metric, choices.maximize, choices.optima)
    return read_part(table, names, choices)


def row(width: Any = 64, lr: Any = 0.1, loss: Any = 3, **more: Any) -> dict[str, Any]:
    return {"width": width, "lr": lr, "loss": loss, **more}


def test_other_columns_stay_under_their_own_names() -> None:
    found = part([row(seed=1, d_ff=256)])
    assert found.frame.to_dict("list") == {"width": [64], "lr": [0.1], "loss": [3.0], "seed": ["1"]}
    assert found.others.to_dict("list") == {"d_ff": [256]}
    assert not found.left_out


def test_rows_that_are_left_out_are_counted_by_reason() -> None:
    rows = [row(State="ok"), row("", State="ok"), row(lr=None, State="ok"), row(State="running")]
    found = part([*rows, row(lr=1, State="ok")], where="not lr = 1")
    assert found.left_out == {"not in where": 1, "running": 1, "without width": 1, "without lr": 1}
    assert list(found.frame.index) == [2]


def test_some_row_has_a_width() -> None:
    with pytest.raises(InputError, match=r"t.csv: width is empty in every row"):
        part([row("")])
    with pytest.raises(InputError, match="no row has both a width and a learning rate"):
        part([row(""), row(lr="")])


def test_groups_of_several_columns_are_their_combinations() -> None:
    found = part([row(optimizer="adam", n_layer="4.0")], by=("optimizer", "n_layer"))
    assert found.frame["optimizer, n_layer"].tolist() == ["adam, 4"]
    assert part([row(n_layer=4)], by=("depth",)).frame["depth"].tolist() == ["4"]


def test_a_power_of_a_column_is_a_rate() -> None:
    rows = [{"width": 64, "loss": 3, "x": 3}]
    assert part(rows, columns={"lr": "2^-x"}).frame["lr"].tolist() == [0.125]
    assert part(rows, columns={"lr": "10^x"}).frame["lr"].tolist() == [1000]


@pytest.mark.parametrize(
    ("rates", "sign"), [([-7, -6.5], ""), ([12, 11, 10, 9], "-"), ([3, 3.5, 4, 4.5], "-")]
)
def test_rates_that_are_logarithms_are_refused(rates: list[float], sign: str) -> None:
    with pytest.raises(InputError, match="which looks like a logarithm; write the rate") as found:
        part([row(lr=lr) for lr in rates])
    assert found.value.remedy == f"columns lr=2^{sign}lr"


@pytest.mark.parametrize("rates", [[1, 2, 4, 8], [0.1, 0.2, 0.3, 0.4], [1, 2, 3], [5]])
def test_high_rates_can_be_rates(rates: list[float]) -> None:
    assert part([row(lr=lr) for lr in rates]).frame["lr"].tolist() == rates


def test_what_orders_rows_is_read_beside_them() -> None:
    found = part([row(loss="", step=1), row(loss="nan", step=2)], last="step", keep="row")
    assert found.orders["step"].tolist() == [1, 2]
    assert found.orders["row"].tolist() == [0, 1]
    assert found.recorded.tolist() == [False, True]
    with pytest.raises(InputError, match="no column 'stp' that says which row is the last"):
        part([row(step=1)], last="stp")
