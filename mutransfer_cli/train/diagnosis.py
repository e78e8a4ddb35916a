"""Measurements of the trials in slots while they train, without effect on the training.

Shapes: T slots, D of them measured together, M measurements, Q columns, n values of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mutransfer_cli.data.corpus import DeviceText, eval_offsets
from mutransfer_cli.diagnose.forward import Places, log_alignment_ratio, watched
from mutransfer_cli.diagnose.sizes import (
    Column,
    Measurement,
    relative_update,
    rms,
    sample,
    top_by_name,
)
from mutransfer_cli.optim.stack import Stack
from mutransfer_cli.proxies.batch import Batch
from mutransfer_cli.proxies.reading import fan_in_axis
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.ensemble import Ensemble, Key, Trials

PROBE = "probe"  # seeds the random numbers of the probe
PROBE_TOKENS = 64  # about; whole sequences are taken


def probe_batch(text: DeviceText, train: TrainSpec, tokens: int = PROBE_TOKENS) -> Batch:
    """Batch whose activations are measured, [B, ...]: the same for all trials and widths.

    Args:
        tokens: about how many tokens it should hold.
    """
    offsets = eval_offsets(text.corpus, train).flatten()[: max(1, tokens // train.context)]
    return text.batch(text.eval, offsets, train.context)


class Diagnosis:
    """Measures trials after given numbers of steps.

    Args:
        trials: the trials in the slots.
        probe: batch of the observed forward passes, [B, ...].
        steps: numbers of steps after which a trial is measured, ascending from 0, its init.

    Attributes:
        measured: [T, M, Q] float64; NaN where nothing was measured.
        first: sample of each block's output at init, [T, n], by name of the block.
    """

    def __init__(
        self, ensemble: Ensemble, trials: Trials, probe: Batch, steps: Sequence[int]
    ) -> None:
        self.ensemble, self.trials, self.probe, self.steps = ensemble, trials, probe, steps
        self.index = {step: index for index, step in enumerate(steps)}
        self.places = Places.of(ensemble.model)
        self.weights = [name for name, stack in trials.params.items() if stack.dim() > 2]
        self.matrices = [name for name in self.weights if holds_matrices(ensemble.model, name)]
        self.seen: dict[Key, Tensor] = {}
        self.seen = self._look(self._taken(slice(1)))
        self.columns: list[Column] = [
            *(("alignment", name) for kind, name in self.seen if kind == "alignment"),
            *(("top_singular_value", name) for name in self.matrices),
            *(("relative_update", name) for name in self.weights),
            *(("gradient_rms", name) for name in trials.params),
            *(("activation_rms", name) for kind, name in self.seen if kind == "activation_rms"),
            *(("activation_change_rms", name) for kind, name in self.seen if kind == "sample"),
        ]
        count = len(trials.state.step)
        self.first = {
            name: found.new_full((count, found.shape[1]), torch.nan)
            for (kind, name), found in self.seen.items()
            if kind == "sample"
        }
        shape = (count, len(steps), len(self.columns))
        self.measured = torch.full(shape, torch.nan, dtype=torch.float64, device=ensemble.device)

    def init(self, slots: Sequence[int]) -> None:
        """Measure trials before their first step."""
        rows = self._rows(slots)
        seen = self._of_state(self._taken(rows))
        for name, first in self.first.items():
            first[rows] = seen["sample", name]
        self._write(rows, [0] * len(slots), seen)

    def before(self, slots: Sequence[int]) -> Stack:
        """Copies of the weights before a step that will be measured."""
        rows = self._rows(slots)
        return {name: self.trials.params[name].detach()[rows].clone() for name in self.weights}

    def after(self, steps: Mapping[int, int], before: Stack, gradients: Stack) -> None:
        """Measure trials after a step.

        Args:
            steps: number of steps done, by slot.
            before: result of `before` for these slots.
            gradients: clipped gradients of the step, [T, ...].
        """
        rows = self._rows(list(steps))
        params = self._taken(rows)
        seen = self._of_state(params)
        for name, old in before.items():
            seen["relative_update", name] = relative_update(old, params[name])
        for name, gradient in gradients.items():
            seen["gradient_rms", name] = rms(gradient.detach()[rows])
        for name, first in self.first.items():
            seen["activation_change_rms", name] = rms(seen["sample", name] - first[rows])
        self._write(rows, [self.index[done] for done in steps.values()], seen)

    def measurements(self, slot: int, steps_done: int) -> list[Measurement]:
        """Measurements of the trial in a slot up to its current step."""
        found = [
            Measurement.of(step, self.columns, row)
            for step, row in zip(self.steps, self.measured[slot].tolist(), strict=True)
            if step <= steps_done
        ]
        return [measurement for measurement in found if measurement.values]

    def state(self) -> dict[str, Tensor]:
        """Everything kept about the trials, by name, [T, ...]; the tensors themselves."""
        samples = {f"diagnostics.first.{name}": stack for name, stack in self.first.items()}
        return {f"diagnostics.measured.{self.steps[1]}": self.measured, **samples}

    def completed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A slot's saved state, with NaN for measurements that the run which saved it did not make
        or made after other steps."""
        found = dict(state)
        for name, stack in self.state().items():
            if name not in found or found[name].shape != stack.shape[1:]:
                found[name] = torch.full_like(stack[0], torch.nan, device="cpu")
        return found

    def _rows(self, slots: Sequence[int]) -> slice | Tensor:
        if len(slots) == len(self.trials.state.step):
            return slice(None)
        return torch.tensor(slots, device=self.ensemble.device)

    def _taken(self, rows: slice | Tensor) -> Stack:
        return {name: stack.detach()[rows] for name, stack in self.trials.params.items()}

    def _of_state(self, params: Stack) -> dict[Key, Tensor]:
        """Quantities that depend on the weights alone, [D] each; samples [D, n]."""
        seen = self._look(params)
        for name, top in top_by_name({name: params[name] for name in self.matrices}).items():
            seen["top_singular_value", name] = abs(self.trials.multipliers[name]) * top
        return seen

    def _look(self, params: Stack) -> dict[Key, Tensor]:
        return self.ensemble.watch(params, self.trials.multipliers, self.probe, self._look_at_one)

    def _look_at_one(self, run: Callable[[], Tensor]) -> dict[Key, Tensor]:
        with watched(self.places) as seen:
            run()
        found: dict[Key, Tensor] = {}
        for name, calls in seen.products.items():
            found["alignment", name] = log_alignment_ratio(calls)
        for name, output in seen.outputs.items():
            found["activation_rms", name] = rms(output.unsqueeze(0))[0]
            found["sample", name] = sample(output)
        return as_before(found, self.seen) if self.seen else found

    def _write(self, rows: slice | Tensor, indices: list[int], seen: dict[Key, Tensor]) -> None:
        nothing = self.measured.new_full((len(indices),), torch.nan)
        values = [seen.get(column, nothing) for column in self.columns]
        row = torch.stack([value.to(self.measured.dtype) for value in values], 1)
        each = torch.arange(len(self.measured), device=row.device)[rows]
        self.measured[each, torch.tensor(indices, device=row.device)] = row


def holds_matrices(model: nn.Module, name: str) -> bool:
    """Whether a weight with at least two axes is a matrix or a stack of matrices, not a
    convolution."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    return getattr(owner, leaf).dim() == 2 or fan_in_axis(owner, leaf) is None


def as_before(found: Mapping[Key, Tensor], known: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """The known keys and shapes; NaN for what a model that branches on values left out this time.

    Args:
        found: [...] by key.
        known: [1, ...] by key.
    """
    return {
        key: found[key]
        if key in found and found[key].shape == before.shape[1:]
        else before.new_full(before.shape[1:], torch.nan)
        for key, before in known.items()
    }
