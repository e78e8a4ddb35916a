"""Declared protocols, and the differences of two protocols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.protocol import (
    DeclaredProtocol,
    Protocol,
    completed,
    difference,
    load_protocol,
)
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated

DECLARED: dict[str, Any] = {
    "schema": "mutransfer.protocol/1",
    "parameterization": {"name": "mup", "base_width": 64},
    "optimizer": {"name": "adamw"},
    "train": {"batch": 32, "steps": 100},
}
WriteSpec = Callable[[Any], Path]


def test_the_table_completes_a_declared_protocol(write_spec: WriteSpec) -> None:
    path = write_spec(DECLARED)
    plain = load_protocol(path, None)
    assert (plain.optimizer.weight_decay, plain.given_convention) == (0, None)
    assert completed(plain, path, None, False) == plain
    found = completed(load_protocol(path, "independent"), path, 0.1, False)
    assert (found.optimizer.weight_decay, found.given_convention) == (0.1, "independent")
    assert (found.rule.decay_convention, plain.rule.decay_convention) == (
        "independent",
        "lr_coupled",
    )
    assert found.hash != plain.hash


@pytest.mark.parametrize(
    ("optimizer", "rule", "decay", "varies", "sentence"),
    [
        ({"weight_decay": 0.1}, {}, 0.2, False, "is 0.1 and every row of the table has 0.2"),
        ({"weight_decay": 0.1}, {}, None, True, "is 0.1 and the rows of the table differ in it"),
        (
            {},
            {"weight_decay": "none"},
            None,
            True,
            "parameterization.weight_decay none has no decay",
        ),
        ({"name": "adam"}, {}, None, True, "adam has no decay, and weight_decay varies"),
    ],
)
def test_a_protocol_that_contradicts_the_table_is_refused(
    write_spec: WriteSpec,
    optimizer: dict[str, Any],
    rule: dict[str, Any],
    decay: float | None,
    varies: bool,
    sentence: str,
) -> None:
    changed = {
        "optimizer": DECLARED["optimizer"] | optimizer,
        "parameterization": DECLARED["parameterization"] | rule,
    }
    path = write_spec(DECLARED | changed)
    with pytest.raises(InputError, match=sentence):
        completed(load_protocol(path, None), path, decay, varies)


def test_the_hash_of_a_declared_protocol_is_what_it_was() -> None:
    found = validated(DeclaredProtocol, DECLARED, "x")
    assert found.hash == "1084bbebdadd7570"
    assert validated(DeclaredProtocol, found.model_dump(by_alias=True), "x") == found


@pytest.mark.parametrize(
    ("rule", "values", "applied"),
    [
        (None, None, "constant"),
        ("linear_width", None, "constant"),
        ("sqrt_width", None, "constant"),
        ("linear_width", "base", "linear_width"),
        ("1/2", "applied", "1/2"),
        ("constant", None, "constant"),
        ("none", None, "none"),
    ],
)
def test_weight_decay_is_scaled_only_where_rule_and_values_are_declared(
    rule: str | None, values: str | None, applied: str
) -> None:
    section = DECLARED["parameterization"] | ({} if rule is None else {"weight_decay": rule})
    given = {} if values is None else {"weight_decay_values": values}
    found = validated(DeclaredProtocol, DECLARED | {"parameterization": section} | given, "x")
    assert (found.scaling.weight_decay, str(found.rule.weight_decay)) == (applied, applied)
    assert found.scales_decay == (values is not None or rule in ("constant", "none"))
    assert found.parameterization.weight_decay == (rule or "linear_width"), "as it is written"
    again = validated(DeclaredProtocol, found.model_dump(by_alias=True), "x")
    assert (again, again.scaling) == (found, found.scaling)


def test_values_of_weight_decay_without_a_rule_are_refused() -> None:
    message = "^x: weight_decay_values base: parameterization.weight_decay names no rule"
    with pytest.raises(InputError, match=message):
        validated(DeclaredProtocol, DECLARED | {"weight_decay_values": "base"}, "x")


def test_a_rule_that_contradicts_the_optimizer_is_refused_though_it_is_not_applied() -> None:
    section = DECLARED["parameterization"] | {"weight_decay": "sqrt_width"}
    changed = {"parameterization": section, "optimizer": {"name": "sgd"}}
    with pytest.raises(InputError, match="observed in the steady state of AdamW"):
        _ = validated(DeclaredProtocol, DECLARED | changed, "x").rule


def test_two_conventions_contradict_each_other(write_spec: WriteSpec) -> None:
    rule = DECLARED["parameterization"] | {"decay_convention": "independent"}
    path = write_spec(DECLARED | {"parameterization": rule})
    assert load_protocol(path, "independent").given_convention == "independent"
    with pytest.raises(
        InputError, match=r"^decay_convention lr_coupled: .* says independ"
    ) as found:
        load_protocol(path, "lr_coupled")
    assert found.value.setting == "decay_convention"


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"warmup": 100}, "train.warmup must be below steps, found 100 of 100"),
        ({"schedule": "linear", "decay_fraction": 0.1}, "decay_fraction: belongs to schedule wsd"),
        ({"schedule": "wsd", "warmup": 90}, "its 20 steps and a warmup of 90 do not fit into 100"),
    ],
)
def test_a_declared_schedule_fits_its_steps(train: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        validated(DeclaredProtocol, DECLARED | {"train": DECLARED["train"] | train}, "x")
    wsd = {"train": DECLARED["train"] | {"schedule": "wsd"}}
    assert validated(DeclaredProtocol, DECLARED | wsd, "x").train.decay_fraction == 0.2


def test_a_difference_names_every_key(tiny: dict[str, Any]) -> None:
    data = DataProtocol(source="text", sha256="0" * 64, bytes=1000, eval_fraction=0.1)
    there = Protocol.of(validated(SweepSpec, tiny, "x"), data, 256)
    tiny["train"]["steps"] += 1
    tiny["model"]["attention_scale"] = "1/sqrt(d_head)"
    here = Protocol.of(validated(SweepSpec, tiny, "x"), data, 256)
    steps = there.train.steps
    assert difference(there, here) == (
        "model.attention_scale: 1/d_head there, 1/sqrt(d_head) here; "
        f"train.steps: {steps} there, {steps + 1} here"
    )
    assert difference(there, there) == ""
    assert there.hash != here.hash
    assert (there.loss_unit, there.batch_tokens) == (
        "nats",
        there.train.batch * there.train.context,
    )
