"""The coordinate check's measurements: a few steps of a few seeds at every width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from mutransfer_cli.data.corpus import DeviceText, train_offsets
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.spec import SweepGrid, SweepSpec
from mutransfer_cli.proxies.build import BuiltIn
from mutransfer_cli.proxies.init import Note, silent
from mutransfer_cli.rules.plan import AxisName, parameter_exponents
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.coordinates import Coordinates
from mutransfer_cli.train.diagnosis import probe_batch
from mutransfer_cli.train.ensemble import Ensemble, Plan
from mutransfer_cli.train.execution import EAGER, allowed

COLUMNS = ["quantity", "name", "kind", "expected", "width", "seed", "value"]
STEPS = 10
PROBE_TOKENS = 512  # about; of whole sequences
# muon's hidden matrices move alike at one rate; sgd's may, where gradients are clipped
ONE_RATE_MAY_DO = ("sgd", "muon")
CPU = torch.device("cpu")


def few_steps(
    spec: SweepSpec,
    widths: Sequence[int],
    seeds: Sequence[int],
    axes: Mapping[AxisName, float],
    steps: int = STEPS,
) -> SweepSpec:
    """A spec of the same model and rule: few steps at the peak rate, all widths on the same data.

    Args:
        axes: base values; lr at least.

    Raises:
        InputError: a width that the built-in model cannot have.
    """
    for width in widths:
        try:
            spec.refuse_width("--widths", width)
        except ValueError as error:
            raise InputError(f"coordinates: {error}") from error
    few = {"steps": steps, "warmup": 0, "schedule": "constant", "decay_fraction": None}
    grid = SweepGrid(
        widths=tuple(widths), axes={axis: (x,) for axis, x in axes.items()}, seeds=tuple(seeds)
    )
    return spec.model_copy(update={"train": spec.train.model_copy(update=few), "sweep": grid})


def measure_coordinates(
    few: SweepSpec,
    folder: Path,
    device: torch.device = CPU,
    note: Note = silent,
    check: Callable[[], None] = lambda: None,
    excess: float = 0.0,
) -> pd.DataFrame:
    """Trains what `few_steps` gives.

    Args:
        folder: of the spec, from which its paths go.
        check: called at every step; raises to stop there.
        excess: a fault: what is added to the exponent of width of the hidden rates.

    Returns:
        One row a quantity, name, width and seed, with columns COLUMNS. kind: embedding, hidden,
        readout or scores. expected: the slope of value in width that is right. value: an RMS as
        `Coordinates.sizes` gives it.

    Raises:
        InputError: all that a sweep refuses.
    """
    sweep = Sweep.prepare(few, folder, note)
    text = DeviceText.on(device, sweep.corpus)
    found = []
    for width in sweep.trials:
        factor = (width / few.parameterization.base_width) ** excess
        plan = hidden_faster(sweep.trial_plan(sweep.trials[width][0]), factor)
        found.append(coordinates_at(sweep, text, width, few.sweep.seeds, plan, check))
    return pd.concat(found, ignore_index=True)


def measure_control(
    few: SweepSpec,
    folder: Path,
    device: torch.device = CPU,
    check: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """`measure_coordinates` of the same model with hidden layers that move with width."""
    excess = 1.0 if few.optimizer.name in ONE_RATE_MAY_DO else 0.0
    return measure_coordinates(control_spec(few), folder, device, silent, check, excess)


def control_spec(spec: SweepSpec) -> SweepSpec:
    """The same with every matrix at one rate and no multiplier.

    The attention scale stays what it was.
    """
    rule = {"name": "standard", "lr_rule": "global", "alignment": "full"}
    model = spec.model
    if spec.attention_scale is not None:
        model = model.model_copy(update={"attention_scale": spec.attention_scale})
    parameterization = spec.parameterization.model_copy(update=rule)
    return spec.model_copy(update={"model": model, "parameterization": parameterization})


def hidden_faster(plan: Plan, factor: float) -> Plan:
    return tuple(replace(p, lr=factor * p.lr) if p.role == "hidden" else p for p in plan)


def coordinates_at(
    sweep: Sweep,
    text: DeviceText,
    width: int,
    seeds: Sequence[int],
    plan: Plan,
    check: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """At one width, the seeds side by side; columns COLUMNS."""
    train, protocol = sweep.protocol.train, sweep.protocol
    model, device = sweep.model(width), text.device
    execution = EAGER
    if not isinstance(protocol.model, BuiltIn):
        tokens = torch.zeros(1, train.context, dtype=torch.int64)
        execution, _ = allowed(model, tokens, EAGER)
    ensemble = Ensemble(model, train, protocol.optimizer, device, execution)
    trained = Coordinates(ensemble, plan, seeds, probe_batch(text, train, PROBE_TOKENS))
    each = [train_offsets(sweep.corpus, train, seed) for seed in seeds]
    for offsets in torch.stack(each, dim=1):
        check()
        trained.step(text.batch(text.train, offsets, train.context))
    at_init = logits_at_init(sweep)
    rows = []
    for seed, sizes in zip(seeds, trained.sizes(), strict=True):
        for (quantity, name), value in sizes.items():
            kind = trained.kinds.get(name, "scores")
            expected = at_init if (quantity, kind) == ("init", "readout") else 0.0
            rows.append((quantity, name, kind, expected, width, seed, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def logits_at_init(sweep: Sweep) -> float:
    """Exponent of their size: a sum of independent terms, n^(1/2) times weight and multiplier."""
    for parameter in sweep.base_plan:
        if parameter.role == "readout":
            # what the model's own code multiplies by, the rule takes from its multiplier
            x = parameter_exponents(sweep.protocol.rule, replace(parameter, own_multiplier=0.0))
            return 0.5 + float(x.init_std + x.multiplier)
    return 0.0
