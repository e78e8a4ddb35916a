"""Records and tables are fitted to the exponents file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.from_records import exponents_of, exponents_of_records, statuses
from mutransfer_cli.spec.records import Records
from tests.fit.test_axes import DECAYS, sweep

Make = Callable[..., Records]


def test_records_bring_their_protocol_and_its_expectation(made: Make) -> None:
    records = made()
    document, trials = exponents_of_records(records)
    protocol = records.header.protocol
    assert document.protocol == protocol
    assert document.protocol_hash == protocol.hash
    assert document.axes["lr"].expected_exponent == protocol.rule.expected_base_lr_exponent
    assert document.base_plan == records.header.base_plan
    assert document.trials == {"ok": len(trials), "diverged": 0, "failed": 0}
    assert (document.metric, document.weight_decay) == ("eval_loss", 0.0)
    assert document.groups == {}


def test_the_training_loss_may_be_fitted_instead(made: Make) -> None:
    document, trials = exponents_of_records(made(), "train_loss")
    assert document.metric == "train_loss"
    assert "train_loss" not in trials
    assert document.axes["lr"].status == "ok"


def test_groups_are_kept_apart_and_have_their_own_weight_decay() -> None:
    groups = {"a": sweep(), "b": sweep(-1.0).assign(weight_decay=0.2)}
    document = exponents_of("loss", {"ok": 1}, fit_axes(groups, ["lr"]), None, by="name")
    assert (document.axes, document.weight_decay) == ({}, None)
    assert {name: group.weight_decay for name, group in document.groups.items()} == {
        "a": 0.1,
        "b": 0.2,
    }
    exponent = document.groups["b"].axes["lr"].exponent
    assert exponent is not None
    assert exponent.value == pytest.approx(-1, abs=0.05)


def test_without_a_protocol_there_is_no_horizon() -> None:
    fits = fit_axes({"": sweep(decays=DECAYS)}, ["lr", "weight_decay"], "lr_coupled")
    document = exponents_of("loss", {"ok": 1}, fits, None, convention="lr_coupled")
    assert document.decay is not None
    assert document.decay.horizon is None
    assert list(document.decay.without_decay) == [32, 64, 128, 256]
    assert document.decay_convention == "lr_coupled"


def test_a_loss_that_is_no_number_counts_as_diverged() -> None:
    assert statuses([1.0, np.nan, 2.0]) == {"ok": 2, "diverged": 1, "failed": 0}
