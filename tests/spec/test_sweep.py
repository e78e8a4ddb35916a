from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.muon import MuonSpec
from mutransfer_cli.rules.choices import ADAMW, FULL, Alignment, LayerAlignment
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated


def load(raw: dict[str, Any]) -> SweepSpec:
    return validated(SweepSpec, raw, "spec.yaml")


def test_an_lr_axis_is_a_list_or_a_range(tiny: dict[str, Any]) -> None:
    tiny["sweep"]["axes"]["lr"] = ["3e-4", 0.01, "2^-5"]
    assert load(tiny).sweep.axes["lr"] == (3e-4, 0.01, 2**-5)
    tiny["sweep"]["axes"]["lr"] = {"from": "2^-9", "to": "2^-3", "per_octave": 1}
    assert load(tiny).sweep.axes["lr"] == tuple(2.0**k for k in range(-9, -2))
    tiny["sweep"]["axes"]["lr"] = {"from": "2^-4", "to": "2^-3", "per_octave": 2}
    assert load(tiny).sweep.axes["lr"] == (2**-4, 2**-3.5, 2**-3)


def test_a_range_that_begins_lower_holds_the_same_rates(tiny: dict[str, Any]) -> None:
    def rates(start: str) -> tuple[float, ...]:
        tiny["sweep"]["axes"]["lr"] = {"from": start, "to": "2^-3.2", "per_octave": 1.25}
        return load(tiny).sweep.axes["lr"]

    assert rates("2^-8.8")[1:] == rates("2^-8")


def test_the_attention_scale_follows_the_parameterization_unless_given(
    tiny: dict[str, Any],
) -> None:
    assert load(tiny).attention_scale == "1/d_head"
    tiny["parameterization"]["name"] = "standard"
    assert load(tiny).attention_scale == "1/sqrt(d_head)"
    tiny["model"]["attention_scale"] = "1/d_head"
    assert load(tiny).attention_scale == "1/d_head"


def test_wsd_decays_over_a_fifth_unless_said(tiny: dict[str, Any]) -> None:
    tiny["train"]["schedule"] = "wsd"
    found = load(tiny)
    assert found.train.decay_fraction == 0.2
    assert load(found.model_dump(mode="json", by_alias=True)) == found
    assert "decay_fraction" in found.train.model_dump()
    tiny["train"] |= {"steps": 20, "decay_fraction": "2^-2"}
    assert load(tiny).train.decay_fraction == 0.25


def test_clipping_can_be_off(tiny: dict[str, Any]) -> None:
    tiny["train"]["clip"] = None
    assert load(tiny).train.clip is None


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("train.stepz", 5, r"train: unknown key 'stepz'; did you mean 'steps'\?"),
        ("widths", [1], r"unknown key 'widths'"),
        ("sweep.axes.lr", [0.1, -0.1], r"sweep.axes.lr: expected positive values, found -0.1"),
        ("sweep.axes.lr", [0], r"sweep.axes.lr: expected positive values, found 0"),
        ("sweep.axes.lr", [], r"sweep.axes.lr: expected at least 1 value, found"),
        ("sweep.axes.lr", ["nan"], r"sweep.axes.lr.0: .*finite"),
        ("sweep.axes.lr", [0.1, 0.1], r"sweep.axes.lr: 0.1 is listed twice"),
        ("sweep.axes.lr", {"from": 1, "to": 0.1}, r"`to` must be above `from`, found 1 to 0.1"),
        ("sweep.axes.lr", {"from": 1, "too": 2}, r"unknown key 'too'; did you mean 'to'\?"),
        ("sweep.axes.lr", 0.1, r"sweep.axes.lr: expected a list or"),
        (
            "sweep.widths",
            [16, 20],
            r"sweep.widths: found 20, which .* 8 does not divide; .*16 or 24",
        ),
        ("parameterization.base_width", 4, r"base_width: found 4, .*use 8"),
        (
            "parameterization.name",
            "muP",
            r"parameterization.name: unknown 'muP'; did you mean 'mup'",
        ),
        ("model.head_size", 7, r"model.head_size: must be even"),
        ("data.source", "tex", r"data.source: unknown 'tex'; did you mean 'text'"),
        ("data.source", "stdlib", r"data: unknown key 'path'"),
        ("train.warmup", 10, r"train.warmup must be below steps, found 10 of 10"),
        ("train.decay_fraction", 0.5, r"train.decay_fraction: belongs to schedule wsd; leave"),
        (
            "train",
            {"steps": 9, "schedule": "wsd", "decay_fraction": 1},
            r"decay_fraction: expected a number below 1",
        ),
        (
            "train",
            {"steps": 10, "warmup": 5, "schedule": "wsd", "decay_fraction": 0.6},
            r"decay_fraction 0.6: its 6 steps and a warmup of 5 do not fit into 10 steps",
        ),
        (
            "train",
            {"steps": 10, "schedule": "wsd", "decay_fraction": 0.01},
            r"decay_fraction 0.01: is less than a step of 10",
        ),
        ("train.schedule", "wds", r"train.schedule: unknown 'wds'; did you mean 'wsd'"),
        ("train.z_loss", -1, r"train.z_loss: expected at least 0, found -1"),
        ("train.steps", "ten", r"train.steps: expected a whole number such as .*found 'ten'"),
        ("optimizer.betas", [0.9, 1], r"optimizer.betas.1: expected a number below 1"),
        ("optimizer.name", "adan", r"optimizer.name: unknown optimizer 'adan'; .*'adam'"),
        ("optimizer", "adamw", r"optimizer: expected a mapping of keys, found 'adamw'"),
        ("optimizer", {"name": "adam_atan2", "eps": 1e-8}, r"optimizer: unknown key 'eps'"),
        ("optimizer", {"name": "adam", "weight_decay": 0.1}, r"adam has none; use name: adamw"),
        (
            "optimizer.lr_mult",
            {"vector": 2},
            r"optimizer.lr_mult.vector: unknown 'vector' .valid: embedding, hidden",
        ),
        (
            "parameterization.weight_decay",
            "linear",
            r"parameterization.weight_decay: .* linear: unknown",
        ),
        ("parameterization.alignment", "half", r"unknown alignment 'half' \(valid: full, none, or"),
        ("parameterization.alignment", [1, 1], r"unknown alignment \[1, 1\]"),
        (
            "parameterization.alignment",
            {"hidden": {"alpha": 1}},
            r"alignment.hidden.omega is missing",
        ),
        (
            "parameterization.epsilon",
            "none",
            r"spec.yaml: parameterization.epsilon none: adamw divides by sqrt",
        ),
        ("sweep.axes", {"lr_mult.hidden": [1, 2]}, r"sweep.axes.lr is missing"),
        ("sweep.axes", {"lr": [1], "lr_mult.hiden": [1]}, r"did you mean 'lr_mult.hidden'"),
        ("sweep.axes", {"lr": [1], "lr_mult.vector": [1]}, r"unknown axis 'lr_mult.vector'"),
        ("schema", "mutransfer.sweep/9", r"expected `schema: mutransfer.sweep/1`, found .*/9"),
    ],
)
def test_a_wrong_value_is_named(tiny: dict[str, Any], path: str, value: Any, sentence: str) -> None:
    node = tiny
    *parents, last = path.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    with pytest.raises(InputError, match=sentence):
        load(tiny)


def test_counts_may_be_short(tiny: dict[str, Any]) -> None:
    tiny["sweep"]["widths"] = ["1k", 64]
    tiny["train"]["eval_batches"] = "2k"
    assert load(tiny).sweep.widths == (1_000, 64)
    assert load(tiny).train.eval_batches == 2_000
    tiny["sweep"]["axes"]["lr"] = ["1k"]
    with pytest.raises(InputError, match=r"sweep.axes.lr.0: expected a number such as 0.001"):
        load(tiny)


def test_every_wrong_key_is_reported_at_once(tiny: dict[str, Any]) -> None:
    tiny["train"]["batch"] = 0
    tiny["train"]["context"] = -1
    with pytest.raises(InputError, match=r"train.batch(.|\n)*train.context"):
        load(tiny)


def test_an_optimizer_has_its_own_settings(tiny: dict[str, Any]) -> None:
    tiny["optimizer"] = {"name": "muon", "momentum": 0.9, "lr_adjustment": "match_rms_adamw"}
    found = load(tiny)
    assert found.optimizer == MuonSpec(
        name="muon", momentum=0.9, lr_adjustment="match_rms_adamw", betas=(0.9, 0.95)
    )
    rule = found.parameterization.rule(found.optimizer)
    assert (rule.optimizer.name, rule.lr_adjustment) == ("muon", "match_rms_adamw")


def test_the_parameterization_section_is_the_rule(tiny: dict[str, Any]) -> None:
    tiny["parameterization"] |= {
        "alignment": {"readout": {"alpha": 0.9, "omega": 0.5, "u": "0.8"}},
        "lr_rule": "global",
        "weight_decay": 0.5,
        "decay_convention": "independent",
        "readout_decay": "none",
        "epsilon": "per_layer",
    }
    found = load(tiny)
    readout = LayerAlignment(Fraction(9, 10), Fraction(1, 2), Fraction(4, 5))
    assert found.parameterization.rule(found.optimizer) == Rule(
        "mup",
        ADAMW,
        Alignment(FULL.hidden, readout),
        lr_rule="global",
        weight_decay=Fraction(1, 2),
        decay_convention="independent",
        readout_decay="none",
        epsilon="per_layer",
    )
    again = validated(SweepSpec, found.model_dump(mode="json", by_alias=True), "again")
    assert again == found


def test_at_most_two_factors_beside_the_rate(tiny: dict[str, Any]) -> None:
    """A common factor on all three roles would be the rate again."""
    axes = {"lr": [0.1, 0.2]} | {f"lr_mult.{role}": [1, 2] for role in ("embedding", "hidden")}
    tiny["sweep"]["axes"] = axes
    assert load(tiny).sweep.axes["lr_mult.hidden"] == (1.0, 2.0)
    tiny["sweep"]["axes"] = axes | {"lr_mult.readout": [1]}
    assert load(tiny).sweep.axes["lr_mult.readout"] == (1.0,)
    tiny["sweep"]["axes"] = axes | {"lr_mult.readout": [1, 2]}
    with pytest.raises(InputError, match="lr with all three lr_mult is unidentified"):
        load(tiny)


def test_a_factor_is_swept_or_fixed_not_both(tiny: dict[str, Any]) -> None:
    tiny["sweep"]["axes"]["lr_mult.hidden"] = [1, 2]
    tiny["optimizer"] = {"lr_mult": {"hidden": 2}}
    with pytest.raises(InputError, match=r"lr_mult.hidden: is also fixed in optimizer.lr_mult"):
        load(tiny)
