"""Made-up measurements of known slope get the right verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.check.coordinates import coordinates_gate
from mutransfer_cli.check.measure import Gate

WIDTHS, SEEDS = (64, 128, 256, 512), (0, 1, 2)
PLACES = {
    ("init", "blocks.0"): "hidden",
    ("init", "readout"): "readout",
    ("activation", "embedding"): "embedding",
    ("change", "embedding"): "embedding",
    ("activation", "blocks.0"): "hidden",
    ("activation", "blocks.1"): "hidden",
    ("change", "blocks.0"): "hidden",
    ("change", "blocks.1"): "hidden",
    ("effective", "blocks.0.up.weight"): "hidden",
    ("effective", "blocks.1.up.weight"): "hidden",
    ("propagated", "blocks.0.up.weight"): "hidden",
    ("propagated", "blocks.1.up.weight"): "hidden",
    ("init", "attention.0.scores"): "scores",
    ("change", "attention.0.scores"): "scores",
    ("activation", "readout"): "readout",
    ("change", "readout"): "readout",
    ("effective", "readout.weight"): "readout",
    ("propagated", "readout.weight"): "readout",
}
Place = tuple[str, str]
CONTROL = {("effective", f"blocks.{block}.up.weight"): 1.0 for block in (0, 1)}


def frame(
    slopes: dict[Place, float] | None = None,
    noise: float = 0.02,
    widths: tuple[int, ...] = WIDTHS,
    seeds: tuple[int, ...] = SEEDS,
) -> pd.DataFrame:
    """Powers of the width, with exponent 0 except for `slopes`, and noise in octaves."""
    rng = np.random.default_rng(0)
    rows = [
        (quantity, name, kind, width, seed)
        for (quantity, name), kind in PLACES.items()
        for width in widths
        for seed in seeds
    ]
    found = pd.DataFrame(rows, columns=["quantity", "name", "kind", "width", "seed"])
    slope = [(slopes or {}).get((row[0], row[1]), 0.0) for row in rows]
    octaves = np.log2(found["width"]) * slope + noise * rng.standard_normal(len(rows))
    return found.assign(expected=0.0, value=2.0**octaves)


def judged(values: pd.DataFrame, control: pd.DataFrame | None = None) -> Gate:
    return coordinates_gate(values, frame(CONTROL) if control is None else control)


def failing(found: Gate) -> list[str]:
    return [one.quantity for one in found.measures if one.verdict == "fail"]


def test_a_model_that_moves_alike_at_all_widths_passes() -> None:
    found = judged(frame())
    assert found.verdict == "pass"
    assert found.evidence["widths"] == "64, 128, 256, 512"
    assert found.evidence["seeds"] == "0, 1, 2"


def test_what_theory_does_not_fix_is_told_and_not_judged() -> None:
    free = [
        ("activation", "readout"),
        ("propagated", "readout.weight"),
        ("change", "attention.0.scores"),
    ]
    found = judged(frame(dict.fromkeys(free, -0.5)))
    assert found.verdict == "pass"
    name = "propagated update of readout.weight, slope in width"
    assert found.evidence[name].startswith("-0.49")


@pytest.mark.parametrize(
    ("place", "slope", "said"),
    [
        (("effective", "readout.weight"), 0.5, "effective update of readout.weight"),
        (("change", "readout"), 0.5, "change of readout"),
        (("change", "embedding"), -0.5, "change of embedding"),
        (("init", "attention.0.scores"), 0.5, "activation at init of attention.*.scores"),
    ],
)
def test_a_slope_of_one_place_is_caught_there(place: Place, slope: float, said: str) -> None:
    found = judged(frame({place: slope}))
    assert found.verdict == "fail"
    assert failing(found) == [f"{said}, slope in width"]


def test_blocks_are_judged_together() -> None:
    found = judged(frame(CONTROL))
    assert failing(found) == ["effective update of blocks.*.up.weight, slope in width"] + [
        f"effective update of blocks.{block}.up.weight, slope in width" for block in (0, 1)
    ]


def test_one_block_that_fails_alone_is_not_lost_in_the_mean() -> None:
    found = judged(frame({("propagated", "blocks.1.up.weight"): -0.48}))
    assert failing(found) == ["propagated update of blocks.1.up.weight, slope in width"]


def test_logits_have_more_room() -> None:
    assert judged(frame({("change", "readout"): -0.27})).verdict == "pass"
    assert judged(frame({("change", "embedding"): -0.27}, noise=0.001)).verdict == "fail"


def test_noise_leaves_it_open_and_says_what_would_decide() -> None:
    found = judged(frame(noise=0.5))
    assert found.verdict == "inconclusive"
    assert any("times the seeds would decide it" in one.sentence for one in found.measures)


@pytest.mark.parametrize(
    ("widths", "seeds"), [((64, 128, 256), SEEDS), (WIDTHS, (0, 1)), ((64,), (0,))]
)
def test_few_widths_or_seeds_decide_nothing(
    widths: tuple[int, ...], seeds: tuple[int, ...]
) -> None:
    found = judged(frame(widths=widths, seeds=seeds))
    assert found.verdict == "inconclusive"
    said = f"it takes 4 widths and 3 seeds, there are {len(widths)} and {len(seeds)}"
    assert said in found.measures[0].sentence


def test_without_a_control_that_fails_nothing_passes() -> None:
    found = judged(frame(), control=frame())
    assert found.verdict == "inconclusive"
    assert "the harness itself is broken: the control, whose rates" in found.measures[-1].sentence


def test_without_a_control_whose_embedding_is_flat_nothing_passes() -> None:
    tilted = frame({**CONTROL, ("change", "embedding"): -0.5})
    found = judged(frame(), control=tilted)
    assert found.verdict == "inconclusive"
    assert "change of embedding, slope in width is -0.4" in found.measures[-1].sentence
    assert coordinates_gate(frame(), tilted, flat_embedding=False).verdict == "pass"


def test_logits_at_init_go_as_the_rule_says() -> None:
    values = frame({("init", "readout"): -0.5})
    at_init = at(values, "init", "readout")
    assert failing(judged(values)) == ["activation at init of readout, slope in width"]
    assert judged(values.assign(expected=np.where(at_init, -0.5, 0.0))).verdict == "pass"


def at(values: pd.DataFrame, quantity: str, name: str) -> pd.Series[bool]:
    return (values["quantity"] == quantity) & (values["name"] == name)


def test_a_matrix_that_starts_at_zero_propagates_nothing() -> None:
    values = frame()
    values.loc[values["quantity"] == "propagated", "value"] = 0.0
    found = judged(values)
    assert found.verdict == "pass"
    name = "propagated update of blocks.*.up.weight, slope in width"
    assert found.evidence[name] == "left out: it is exactly 0 at every width"


def test_what_nothing_trains_fails() -> None:
    values = frame()
    values.loc[at(values, "change", "embedding"), "value"] = 0.0
    found = judged(values)
    assert found.verdict == "fail"
    assert found.findings == (
        "embedding: its change is exactly 0 at every width; nothing trains it",
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.inf, "it is not finite at width 512; take a smaller lr"),
        (np.nan, "the tokens that reach it change in training"),
        (0.0, "it is exactly 0 at width 512 and not at all others"),
    ],
)
def test_what_has_no_slope_is_open(value: float, said: str) -> None:
    values = frame()
    values.loc[at(values, "change", "readout") & (values["width"] == 512), "value"] = value
    found = judged(values)
    assert found.verdict == "inconclusive"
    (one,) = (measure for measure in found.measures if measure.value is None)
    assert said in one.sentence
