"""Measurements of a few steps: the split of a change, the frame, and the faults that it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from mutransfer_cli.check.coordinates import width_slopes
from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.perceptron import MLP
from mutransfer_cli.rules.plan import AxisName, PlannedParameter
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.coordinates import (
    COLUMNS,
    Coordinates,
    control_spec,
    coordinates_at,
    few_steps,
    measure_control,
    measure_coordinates,
)
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.diagnosis import probe_batch
from tests.conftest import CPU

WIDTHS, SEEDS = (16, 32, 64, 128), (0, 1)
AXES: dict[AxisName, float] = {"lr": 2**-7}
Slopes = dict[tuple[str, str], float]


def spec_of(raw: dict[str, Any], **parts: Any) -> SweepSpec:
    return validated(SweepSpec, raw | parts, "test")


def slopes(values: pd.DataFrame) -> Slopes:
    """Mean slopes over seeds of the positive values, by quantity and name."""
    found = {}
    for quantity, rows in values[values["value"] > 0].groupby("quantity"):
        for name, slope in width_slopes(rows).groupby("name").mean().items():
            found[str(quantity), str(name)] = float(slope)
    return found


def measured(
    spec: SweepSpec, folder: Path, fault: Callable[[PlannedParameter, float], PlannedParameter]
) -> Slopes:
    """Measure with a fault in the plan, a function of a parameter and of width over base width."""
    sweep = Sweep.prepare(few_steps(spec, WIDTHS, SEEDS, AXES), folder)
    base_width, text = spec.parameterization.base_width, DeviceText.on(CPU, sweep.corpus)
    found = []
    for width, trials in sweep.trials.items():
        plan = tuple(fault(p, width / base_width) for p in sweep.trial_plan(trials[0]))
        found.append(coordinates_at(sweep, text, width, SEEDS, plan))
    return slopes(pd.concat(found))


def none(planned: PlannedParameter, width_mult: float) -> PlannedParameter:
    return planned


def test_the_two_ways_to_change_of_a_linear_network(tiny_mlp: dict[str, Any]) -> None:
    """The network is y = V W U z; its hidden matrix W has the input x = U z.

    The two changes of W's output add up to the whole change; the input matrix has only one.
    """
    spec = spec_of(tiny_mlp)
    sweep = Sweep.prepare(few_steps(spec, [16], [3], {"lr": 0.05}, steps=2), Path())
    text = DeviceText.on(CPU, sweep.corpus)
    ensemble = sweep.trainer(16, text).ensemble
    assert isinstance(ensemble.model, MLP)
    ensemble.model.activation = nn.Identity()
    plan = sweep.trial_plan(sweep.trials[16][0])
    trained = Coordinates(ensemble, plan, [3], probe_batch(text, sweep.protocol.train, 32))
    z = trained.probe[:, :8]

    def matrices() -> list[torch.Tensor]:
        params, factors = trained.trials.params, trained.trials.multipliers
        return [factors[p.name] * params[p.name][0].detach().clone() for p in plan]

    U0, W0, V0 = matrices()
    for rows in text.train[:16].view(2, 1, 8, -1):
        trained.step(rows)
    U, W, V = matrices()
    (sizes,) = trained.sizes()

    def rms(x: torch.Tensor) -> float:
        return float(x.square().mean().sqrt())

    x0, x = z @ U0.T, z @ U.T
    effective, propagated = x @ (W - W0).T, (x - x0) @ W0.T
    assert torch.allclose(effective + propagated, x @ W.T - x0 @ W0.T, atol=1e-6)
    name = plan[1].name
    assert sizes["effective", name] == pytest.approx(rms(effective), rel=1e-5)
    assert sizes["propagated", name] == pytest.approx(rms(propagated), rel=1e-5)
    assert sizes["init", name] == pytest.approx(rms(x0 @ W0.T), rel=1e-5)
    assert sizes["propagated", plan[0].name] == 0
    y0, y = x0 @ W0.T @ V0.T, x @ W.T @ V.T
    assert sizes["change", "readout"] == pytest.approx(rms(y - y0), rel=1e-5)
    assert sizes["activation", "readout"] == pytest.approx(rms(y), rel=1e-5)


def test_the_frame(tiny: dict[str, Any], tmp_path: Path) -> None:
    few = few_steps(spec_of(tiny), [16, 32], SEEDS, AXES, steps=2)
    found = measure_coordinates(few, tmp_path)
    assert list(found.columns) == COLUMNS
    assert not found.duplicated(["quantity", "name", "width", "seed"]).any()
    assert set(found["width"]) == {16, 32}
    kinds = found.groupby("name")["kind"].first()
    assert kinds["embedding"] == "embedding"
    assert kinds["blocks.0"] == kinds["blocks.0.up.weight"] == "hidden"
    assert kinds["readout"] == kinds["readout.weight"] == "readout"
    assert kinds["attention.0.scores * sqrt(d_head)"] == "scores"
    at_init = found[(found["quantity"] == "init") & (found["kind"] == "readout")]
    assert set(at_init["expected"]) == {-0.5}
    assert set(found.drop(at_init.index)["expected"]) == {0.0}


def test_a_right_model_moves_alike_and_a_control_does_not(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    spec = spec_of(tiny)
    right = measured(spec, tmp_path, none)
    wrong = measured(control_spec(spec), tmp_path, none)
    up = ("effective", "blocks.0.up.weight")
    assert abs(right[up]) < 0.25
    assert wrong[up] > 0.4
    assert abs(wrong["change", "embedding"]) < 0.25


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 2**-7), ("muon", 2**-7), ("sgd", 0.5)])
def test_hidden_layers_of_the_control_move_with_width(
    tiny: dict[str, Any], tmp_path: Path, optimizer: str, lr: float
) -> None:
    spec = spec_of(tiny, optimizer={"name": optimizer})
    few = few_steps(spec, WIDTHS, SEEDS, {"lr": lr})
    found = slopes(measure_control(few, tmp_path))
    assert found["effective", "blocks.0.up.weight"] > 0.4


def without_multiplier(planned: PlannedParameter, width_mult: float) -> PlannedParameter:
    return replace(planned, multiplier=1.0) if planned.role == "readout" else planned


def with_falling_embedding(planned: PlannedParameter, width_mult: float) -> PlannedParameter:
    return replace(planned, lr=planned.lr / width_mult) if planned.role == "embedding" else planned


def with_small_init(planned: PlannedParameter, width_mult: float) -> PlannedParameter:
    wrong = planned.name == "blocks.0.up.weight"
    return (
        replace(planned, init_std=(planned.init_std or 0) / width_mult**0.5) if wrong else planned
    )


def with_mup_twice(planned: PlannedParameter, width_mult: float) -> PlannedParameter:
    return replace(planned, lr=planned.lr / width_mult) if planned.role == "hidden" else planned


@pytest.mark.parametrize(
    ("fault", "where", "slope"),
    [
        (without_multiplier, ("init", "readout"), 0.0),  # correct: -1/2
        (with_falling_embedding, ("change", "embedding"), -1.0),
        (with_small_init, ("init", "blocks.0.up.weight"), -0.5),
        (with_mup_twice, ("effective", "blocks.0.up.weight"), -1.0),
    ],
)
def test_a_fault_shows_where_it_is(
    tiny: dict[str, Any],
    tmp_path: Path,
    fault: Callable[[PlannedParameter, float], PlannedParameter],
    where: tuple[str, str],
    slope: float,
) -> None:
    assert measured(spec_of(tiny), tmp_path, fault)[where] == pytest.approx(slope, abs=0.15)


@pytest.mark.parametrize(("scale", "slope"), [("1/d_head", 0.0), ("1/sqrt(d_head)", 0.5)])
def test_attention_where_heads_grow(
    tiny: dict[str, Any], tmp_path: Path, scale: str, slope: float
) -> None:
    model = {"depth": 1, "heads": 2, "head_size": None, "attention_scale": scale}
    found = measured(spec_of(tiny, model=model), tmp_path, none)
    assert found["init", "attention.0.scores * sqrt(d_head)"] == pytest.approx(slope, abs=0.15)


def test_a_width_that_the_model_cannot_have(tiny: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"widths: found 20, which model\.head_size 8"):
        few_steps(spec_of(tiny), [16, 20], SEEDS, AXES)
