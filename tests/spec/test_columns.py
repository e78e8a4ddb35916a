"""Which column of a table holds what."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.columns import (
    Names,
    is_logarithm,
    meaning,
    parse_columns,
    parts,
    power_of,
    resolve,
)
from mutransfer_cli.spec.tables import Table


def names(columns: dict[str, list[Any]], **named: str) -> Names:
    """The columns found in a table of `width` and `lr` and some more, of one row each."""
    cells = pd.DataFrame({"width": [64], "lr": [0.1], **columns}, dtype=object)
    return resolve(Table("t.csv", "line", cells), named, None, False, False)


def test_columns_are_written_as_pairs() -> None:
    text = "width=dim, lr = base=lr,lr_mult.hidden=config/h"
    assert parse_columns(text) == {"width": "dim", "lr": "base=lr", "lr_mult.hidden": "config/h"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("widht=dim", "unknown name 'widht'; did you mean 'width'"),
        ("", "expected NAME=COLUMN"),
        ("width=dim,", "expected NAME=COLUMN between commas, found ''"),
        ("width=", "found 'width='"),
        ("=dim", "found '=dim'"),
        ("width", "found 'width'"),
        ("lr=a,width=b,lr=c", "lr is given twice"),
        ("lr=a,loss=a", "'a' is given twice"),
    ],
)
def test_wrong_columns_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^columns: .*{sentence}"):
        parse_columns(text)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("model.n_embd", ["model", "n_embd"]),
        ("config/learningRate", ["config", "learning_rate"]),
        ("params_lr", ["params", "lr"]),
        ("Learning Rate", ["learning_rate"]),
        ("", [""]),
    ],
)
def test_names_have_parts(column: str, expected: list[str]) -> None:
    assert parts(column) == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("hidden_size", "width"),
        ("config.model.n_layer", "depth"),
        ("params_lr", "lr"),
        ("optim.learning_rate", "lr"),
        ("train.lr", "lr"),
        ("train/lr", None),
        ("summary.lr", None),
        ("max_iters", "steps"),
        ("max_steps", "steps"),
        ("batch_size", "batch"),
        ("tokens", "tokens"),
        ("n_head", "heads"),
        ("State", "status"),
        ("dim", None),
    ],
)
def test_settings_are_known_by_their_usual_names(column: str, expected: str | None) -> None:
    assert meaning(column) == expected


@pytest.mark.parametrize("column", ["log_lr", "neg_log2_lr", "lr_log10", "config/ln_lr", "log2lr"])
def test_logarithms_are_known_by_their_names(column: str) -> None:
    assert is_logarithm(column)
    assert not is_logarithm("logs/lr")


def test_powers_name_a_column() -> None:
    assert power_of("2^x", ["x"]) == ("x", 2.0, 1.0)
    assert power_of("10^-log_lr", ["log_lr"]) == ("log_lr", 10.0, -1.0)
    assert power_of("2^x", ["2^x"]) == ("2^x", None, 1.0)
    assert power_of("lr", ["x"]) == ("lr", None, 1.0)


def test_what_was_recognised_is_told() -> None:
    found = names({"metrics.val_loss": [3], "n_layer": [4], "batch_size": [8]})
    assert found.columns == {
        **{"width": "width", "lr": "lr", "loss": "metrics.val_loss"},
        **{"depth": "n_layer", "batch": "batch_size"},
    }
    assert found.found == {
        "depth": "n_layer",
        "batch": "batch_size",
        "loss": "metrics.val_loss",
    }


def test_a_second_size_is_kept_beside_the_first() -> None:
    found = names({"loss": [3], "batch_size": [8], "global_batch_size": [64]})
    assert found.columns["batch"] == "batch_size"
    assert found.sizes == {"global_batch_size": "global_batch_size"}


def test_two_columns_of_one_meaning_hold_the_same() -> None:
    assert names({"loss": [3], "config.lr": ["1e-1"]}).columns["lr"] == "lr"
    with pytest.raises(InputError, match=r"line 0: lr could be 'lr' \(0.1\) or 'config.lr' \(2\)"):
        names({"loss": [3], "config.lr": [2]})
    assert names({"loss": [3], "config.lr": [2]}, lr="config.lr").columns["lr"] == "config.lr"


def test_an_empty_column_means_nothing() -> None:
    assert "depth" not in names({"loss": [3], "n_layer": [None]}).columns


def test_a_logarithm_in_place_of_the_rate_is_named() -> None:
    cells = pd.DataFrame({"width": [64], "log2_lr": [-7], "loss": [3]})
    with pytest.raises(InputError, match=r"no column 'lr'; .*by lr=2\^log2_lr"):
        resolve(Table("t.csv", "line", cells), {}, None, False, False)


def test_settings_may_be_nested_deeper() -> None:
    """The names between `config` and the last one are those of the user's own groups."""
    assert meaning("config.run.optim.lr") == "lr"
    assert meaning("metrics.run.lr") is None
