"""The coordinate check's measurements: how far a few steps move what a model computes.

The change of a matrix's product splits into a part by the matrix's own update and a part by what
came before it (Haas et al. 2025, arXiv 2505.22491, refined coordinate check). A few steps of a few
seeds are trained at every width. Shapes: T trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from mutransfer_cli.data.corpus import DeviceText, train_offsets
from mutransfer_cli.data.load import data_vocab
from mutransfer_cli.diagnose.forward import Places, attention_scores, watched
from mutransfer_cli.diagnose.sizes import rms, sample
from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.stack import Stack
from mutransfer_cli.proxies.attention import AttentionCalls
from mutransfer_cli.proxies.batch import Batch
from mutransfer_cli.proxies.build import BuiltIn
from mutransfer_cli.proxies.hf import possible_widths
from mutransfer_cli.proxies.reading import Note, is_transformers_conv1d, silent
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import AxisName, parameter_exponents
from mutransfer_cli.rules.rule import output_exponent
from mutransfer_cli.spec.model import HfProtocol, HfSpec
from mutransfer_cli.spec.protocol import model_protocol
from mutransfer_cli.spec.sweep import SweepGrid, SweepSpec
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.diagnosis import PROBE, probe_batch
from mutransfer_cli.train.ensemble import Ensemble, Key, Plan, Trials, effective_weights
from mutransfer_cli.train.execution import EAGER, allowed
from mutransfer_cli.train.loop import Check
from mutransfer_cli.train.slots import Batches

Kind = Literal["embedding", "hidden", "readout", "scores"]
Coordinate = tuple[str, str]  # quantity, name of a module or parameter

COLUMNS = ["quantity", "name", "kind", "expected", "width", "seed", "value"]
STEPS = 10
WIDTHS = (64, 128, 256, 512)
PROBE_TOKENS = 512  # about; whole sequences are taken
# with one rate for all widths muon's hidden matrices change equally, and clipped sgd's may
ONE_RATE_MAY_DO = ("sgd", "muon")
CPU = torch.device("cpu")


class Coordinates:
    """Trials of one width, observed at init and again later.

    Args:
        plan: the plan of all trials, which differ only in their seeds.
        probe: batch of the observed forward passes, [B, ...].

    Attributes:
        kinds: by name of a module or matrix, the role of its output.
    """

    def __init__(self, ensemble: Ensemble, plan: Plan, seeds: Sequence[int], probe: Batch) -> None:
        self.ensemble, self.probe = ensemble, probe
        self.places = Places.of(ensemble.model)
        self.trials: Trials = ensemble.start([plan] * len(seeds), seeds)
        self.kinds = kinds(ensemble.model, self.places, plan)
        # a tied weight makes products as the readout alone
        self.factors = self.trials.multipliers | {
            planned.name: planned.output_multiplier
            for planned in plan
            if planned.output_multiplier is not None
        }
        self.first_weights = self._weights()
        self.first = [self._look(trial) for trial in range(len(seeds))]

    def step(self, batch: Batch) -> None:
        """Take a step on a batch [T, B, ...], at the peak rate whatever the schedule."""
        peak = torch.ones(len(self.first), device=self.ensemble.device)
        self.ensemble.step(self.trials, batch, peak)

    def sizes(self) -> list[dict[Coordinate, float]]:
        """RMS values of each trial.

        `init` is the output of modules and matrices at init. Modules also have `activation`, the
        output now, and `change`, its difference to init. Matrices have the two parts of the change
        of their product: `effective`, (W - W0) x, and `propagated`, W0 (x - x0). A value is inf if
        it is not finite, and NaN if x and x0 are different rows, as for an expert that other tokens
        reach.
        """
        weights = self._weights()
        return [self._sizes_of(trial, weights) for trial in range(len(self.first))]

    def _sizes_of(self, trial: int, weights: Stack) -> dict[Coordinate, float]:
        first, found = self.first[trial], {}
        for (kind, name), x in self._look(trial).items():
            x0 = first.get((kind, name))
            dx = None if x0 is None or x0.shape != x.shape else x - x0
            if kind == "output":
                found["init", name] = math.nan if x0 is None else size(x0)
                found["activation", name] = size(x)
                found["change", name] = math.nan if dx is None else size(dx)
            else:
                w, w0 = weights[name][trial], self.first_weights[name][trial]
                found["init", name] = math.nan if x0 is None else size(x0 @ w0.mT)
                found["effective", name] = size(x @ (w - w0).mT)
                found["propagated", name] = math.nan if dx is None else size(dx @ w0.mT)
        return found

    def _weights(self) -> Stack:
        """Copies of the layers' matrices with their multipliers, [T, fan-out, fan-in]."""
        stacks = {name: self.trials.params[name].detach().clone() for name in self.places.layers}
        return {
            name: stack.mT if is_transformers_conv1d(self.places.layers[name][0]) else stack
            for name, stack in effective_weights(stacks, self.factors).items()
        }

    def _look(self, trial: int) -> dict[Key, Tensor]:
        """Observe one trial alone: the number of rows for a matrix may depend on the weights."""
        one = slice(trial, trial + 1)
        params = {name: stack.detach()[one] for name, stack in self.trials.params.items()}
        seen = self.ensemble.watch(params, self.trials.multipliers, self.probe, self._look_at_one)
        return {key: stack[0] for key, stack in seen.items()}

    def _look_at_one(self, run: Callable[[], Tensor]) -> dict[Key, Tensor]:
        attention = AttentionCalls(attention_scores)
        with watched(self.places) as seen, attention:
            run()
        scores = {scores_name(call): x for call, x in enumerate(attention.found)}
        outputs = seen.outputs | scores
        found: dict[Key, Tensor] = {("output", name): sample(x) for name, x in outputs.items()}
        for name, calls in seen.products.items():
            rows = [call.input.reshape(-1, call.input.shape[-1]) for call in calls]
            found["input", name] = torch.cat(rows)
        return found


def scores_name(call: int) -> str:
    return f"attention.{call}.scores * sqrt(d_head)"


def size(x: Tensor) -> float:
    """The RMS of x; inf if it is not finite."""
    found = float(rms(x.unsqueeze(0)))
    return found if math.isfinite(found) else math.inf


def kinds(model: nn.Module, places: Places, plan: Plan) -> dict[str, Kind]:
    """Map each name to its kind: a matrix has its role; a module has its matrices' common role,
    otherwise hidden."""
    roles: dict[str, Role] = {planned.name: planned.role for planned in plan if planned.role}
    # as an embedding a tied weight makes no product, and the block below has its own kind
    roles |= {planned.name: "readout" for planned in plan if planned.output_multiplier is not None}
    by_id = {id(p): roles[name] for name, p in model.named_parameters() if name in roles}
    both = {p.name for p in plan if p.output_multiplier == p.multiplier}
    one_multiplier = {id(p) for name, p in model.named_parameters() if name in both}
    found: dict[str, Kind] = {}
    for name, block in places.blocks.items():
        held = {by_id[id(p)] for p in block.parameters() if id(p) in by_id and p.dim() > 1}
        found[name] = only(held)
        if isinstance(block, nn.Embedding):  # if it is tied, its weight has the readout's role
            # with one multiplier for both uses it moves with the logits, which may depend on width
            found[name] = "hidden" if id(block.weight) in one_multiplier else "embedding"
    for name in places.layers:
        found[name] = only({roles[name]})
    return found


def only(roles: set[Role]) -> Kind:
    if roles == {"embedding"}:
        return "embedding"
    return "readout" if roles == {"readout"} else "hidden"


def default_widths(spec: SweepSpec, folder: Path) -> tuple[int, ...]:
    """WIDTHS, or others near them that the config of a spec can have.

    Args:
        folder: folder of the spec, which its relative paths start from.
    """
    if not isinstance(spec.model, HfSpec):
        return WIDTHS
    model = model_protocol(spec, data_vocab(spec.data, folder), folder)
    assert isinstance(model, HfProtocol), "it is made from a config"
    return possible_widths(model, spec.parameterization.base_width, WIDTHS)


def few_steps(
    spec: SweepSpec,
    widths: Sequence[int],
    seeds: Sequence[int],
    axes: Mapping[AxisName, float],
    steps: int = STEPS,
) -> SweepSpec:
    """A spec of the same model and rule with few steps at the peak rate, all on the same data.

    Args:
        axes: base values of the hyperparameters, at least lr.

    Raises:
        InputError: a width that the built-in model cannot have.
    """
    for width in widths:
        try:
            spec.refuse_width("widths", width)
        except ValueError as error:
            raise InputError(str(error), setting="widths") from error
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
    check: Check = lambda: None,
    excess: float = 0.0,
) -> pd.DataFrame:
    """Train the result of `few_steps` and measure it.

    Args:
        folder: folder of the spec, which its relative paths start from.
        excess: a deliberate fault: added to the exponent of width of the hidden rates.

    Returns:
        One row per quantity, name, width and seed, with columns COLUMNS. `kind` is embedding,
        hidden, readout or scores; `expected` is the right slope of the value in width, log-log;
        `value` is an RMS from `Coordinates.sizes`.

    Raises:
        InputError: as for a sweep.
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
    check: Check = lambda: None,
) -> pd.DataFrame:
    """Measure the same model under a faulty rule, under which hidden layers' changes depend on
    width."""
    excess = 1.0 if few.optimizer.facts.family in ONE_RATE_MAY_DO else 0.0
    return measure_coordinates(control_spec(few), folder, device, silent, check, excess)


def control_spec(spec: SweepSpec) -> SweepSpec:
    """The spec with one rate for every matrix and no multiplier; the attention scale stays."""
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
    check: Check = lambda: None,
) -> pd.DataFrame:
    """Train and measure all seeds of one width side by side; columns COLUMNS."""
    train, protocol = sweep.protocol.train, sweep.protocol
    execution = EAGER
    if not isinstance(protocol.model, BuiltIn):
        execution, _ = allowed(sweep.model(width), sweep.example, EAGER)
    ensemble = sweep.ensemble(width, text.device, execution)
    probe = ensemble.with_noise(probe_batch(text, train, PROBE_TOKENS), PROBE)
    trained = Coordinates(ensemble, plan, seeds, probe)
    each = torch.stack([train_offsets(sweep.corpus, train, seed) for seed in seeds])
    first = text.batch(text.train, each[0, 0], train.context)
    batches = Batches(text, text.train, each, train.context, ensemble.draws(first))
    batches.seeds = list(seeds)
    for step in range(train.steps):
        check()
        index = [step] * len(seeds)
        batches.load(index)
        trained.step(batches.read(torch.tensor(index, device=batches.offsets.device)))
    at_init = logits_at_init(sweep)
    rows = []
    for seed, sizes in zip(seeds, trained.sizes(), strict=True):
        for (quantity, name), value in sizes.items():
            kind = trained.kinds.get(name, "scores")
            expected = at_init if (quantity, kind) == ("init", "readout") else 0.0
            rows.append((quantity, name, kind, expected, width, seed, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def logits_at_init(sweep: Sweep) -> float:
    """Exponent in width n of the logits' size at init.

    A logit is a sum of n independent terms, so that it scales as n^(1/2) times weight and
    multiplier.
    """
    rule = sweep.protocol.rule
    for parameter in sweep.base_plan:
        # the whole factor; the rule's multiplier leaves out the part in the model's own code
        x = parameter_exponents(rule, replace(parameter, own_multiplier=0.0))
        if parameter.role == "readout":
            return 0.5 + float(x.init_std + x.multiplier)
        if parameter.is_tied_readout:
            return 0.5 + float(x.init_std + output_exponent(rule))
    return 0.0
