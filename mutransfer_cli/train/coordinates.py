"""How far a few steps move what a model computes, and by which way: through a matrix's own update,
or through what came before it (Haas et al. 2025, arXiv 2505.22491, refined coordinate check).

Shapes: T trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mutransfer_cli.diagnose.forward import Places, watched
from mutransfer_cli.diagnose.scores import SeesScores
from mutransfer_cli.diagnose.sizes import rms, sample
from mutransfer_cli.optim.stack import Stack
from mutransfer_cli.proxies.orientation import is_transformers_conv1d
from mutransfer_cli.rules.roles import Role
from mutransfer_cli.train.ensemble import Ensemble, Key, Plan, Trials, effective_weights

Kind = Literal["embedding", "hidden", "readout", "scores"]
Coordinate = tuple[str, str]  # quantity, name of a module or parameter


class Coordinates:
    """Trials of one width, looked at at init and again later.

    Args:
        plan: of all trials, which differ in their seeds alone.
        probe: batch of the forward passes that are looked at, [B, S + 1].

    Attributes:
        kinds: of every name: of which role the output is, or `scores` of attention.
    """

    def __init__(self, ensemble: Ensemble, plan: Plan, seeds: Sequence[int], probe: Tensor) -> None:
        self.ensemble, self.probe = ensemble, probe
        self.places = Places.of(ensemble.model)
        self.trials: Trials = ensemble.start([plan] * len(seeds), seeds)
        self.kinds = kinds(ensemble.model, self.places, plan)
        self.first_weights = self._weights()
        self.first = [self._look(trial) for trial in range(len(seeds))]

    def step(self, tokens: Tensor) -> None:
        """At the peak rate, whatever the schedule; on tokens [T, B, S + 1]."""
        self.ensemble.step(self.trials, tokens, torch.ones(len(tokens), device=tokens.device))

    def sizes(self) -> list[dict[Coordinate, float]]:
        """RMS, for each trial.

        `init`, of what modules and matrices give out; of modules `activation`, the same now, and
        `change`; of matrices the two ways in which their product changes: `effective`, (W - W0) x,
        and `propagated`, W0 (x - x0). inf where it is not finite; NaN where x and x0 are not the
        same rows, as of an expert that other tokens reach.
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
        """Copies of the matrices that multiply, as they act, [T, fan-out, fan-in]."""
        stacks = {name: self.trials.params[name].detach().clone() for name in self.places.layers}
        return {
            name: stack.mT if is_transformers_conv1d(self.places.layers[name][0]) else stack
            for name, stack in effective_weights(stacks, self.trials.multipliers).items()
        }

    def _look(self, trial: int) -> dict[Key, Tensor]:
        """One trial alone: how many rows a matrix gets may depend on the weights."""
        one = slice(trial, trial + 1)
        params = {name: stack.detach()[one] for name, stack in self.trials.params.items()}
        seen = self.ensemble.watch(params, self.trials.multipliers, self.probe, self._look_at_one)
        return {key: stack[0] for key, stack in seen.items()}

    def _look_at_one(self, run: Callable[[], Tensor]) -> dict[Key, Tensor]:
        sees = SeesScores()
        with watched(self.places) as seen, sees:
            run()
        scores = {scores_name(call): x for call, x in enumerate(sees.scores)}
        outputs = seen.outputs | scores
        found: dict[Key, Tensor] = {("output", name): sample(x) for name, x in outputs.items()}
        for name, calls in seen.products.items():
            rows = [call.input.reshape(-1, call.input.shape[-1]) for call in calls]
            found["input", name] = torch.cat(rows)
        return found


def scores_name(call: int) -> str:
    return f"attention.{call}.scores * sqrt(d_head)"


def size(x: Tensor) -> float:
    found = float(rms(x.unsqueeze(0)))
    return found if math.isfinite(found) else math.inf


def kinds(model: nn.Module, places: Places, plan: Plan) -> dict[str, Kind]:
    """Of matrices their role; of modules that of all their matrices, hidden where they differ."""
    roles = {planned.name: planned.role for planned in plan}
    by_id = {id(p): roles[name] for name, p in model.named_parameters() if name in roles}
    found: dict[str, Kind] = {}
    for name, block in places.blocks.items():
        held = {by_id[id(p)] for p in block.parameters() if id(p) in by_id and p.dim() > 1}
        found[name] = only(held)
        if isinstance(block, nn.Embedding):  # where it is tied, the weight is the readout's
            found[name] = "embedding"
    for name in places.layers:
        found[name] = only({roles[name]})
    return found


def only(roles: set[Role]) -> Kind:
    if roles == {"embedding"}:
        return "embedding"
    return "readout" if roles == {"readout"} else "hidden"
