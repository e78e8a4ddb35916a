"""Slots: the positions of a stack of trials, through which the trials of a queue pass.

Each slot has its own step, batches and hyperparameters, all in tensors: a trial that ends or
diverges makes room for the next one without a new shape, compilation or address.

Shapes: T slots, N batches, B sequences or samples of a batch, S context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, place_of, train_offsets
from mutransfer_cli.diagnose.sizes import Measurement
from mutransfer_cli.optim.stack import Stack
from mutransfer_cli.proxies.batch import Batch, mapped
from mutransfer_cli.proxies.noise import Draw, Noisy, stream_generator
from mutransfer_cli.rules.schedule import schedule_factors
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.capture import captured
from mutransfer_cli.train.diagnosis import PROBE, Diagnosis, probe_batch
from mutransfer_cli.train.ensemble import Ensemble, Plan, Trials


class Batches:
    """Batches from one part of the text; a step gathers them on the device.

    A part that is streamed lies on the host. Its batches are copied before the step that reads
    them, always to the same tensors, so that a captured step finds them there.

    Attributes:
        offsets: start of each sequence, or index of each sample, [T, N, B], on the device of the
            part.
        place: the batches copied last, [T, B, ...]; None unless the part is streamed.
        seeds: of the random numbers of each slot.

    Args:
        draws: the random numbers that the model asks for on the batch of one slot.
        purpose: what they are for; with the seed and the index of the batch it seeds them.
    """

    def __init__(
        self,
        text: DeviceText,
        part: Batch,
        offsets: Tensor,
        context: int,
        draws: Sequence[Draw] = (),
        purpose: str = "noise",
    ) -> None:
        self.text, self.part, self.context = text, part, context
        self.draws, self.purpose, self.seeds = draws, purpose, [0] * len(offsets)
        self.offsets = offsets.to(place_of(part))
        self.each = torch.arange(len(offsets), device=self.offsets.device)
        self.place: Batch | None = None
        if text.streamed:
            first = self._gathered(torch.zeros(len(offsets), dtype=torch.int64))
            self.place = mapped(lambda x: x.to(text.device), first)
        self.noise = mapped(lambda x: x.to(text.device), self._drawn([0] * len(offsets)))

    def load(self, index: Sequence[int]) -> None:
        """Queue the copy of each slot's streamed batch and random numbers, by the batch's index,
        behind the queued steps.

        The host need not wait: torch reuses pinned memory only after the copy from it is done.
        """
        within = torch.tensor(index).clamp(max=self.offsets.shape[1] - 1)
        if self.place is not None:
            self._copy(self.place, self._gathered(within))
        if self.draws:
            self._copy(self.noise, self._drawn(within.tolist()))

    def read(self, index: Tensor) -> Batch:
        """The batch of each slot, [T, B, ...], by its index [T]; never waits for the device.

        Streamed batches are those that `load` copied last.
        """
        batch = self._gathered(index) if self.place is None else self.place
        return Noisy(batch, self.noise) if self.draws else batch

    def _copy(self, place: Batch, batch: Batch) -> None:
        if self.text.device.type == "cuda":
            batch = mapped(Tensor.pin_memory, batch)
        mapped(lambda place, x: place.copy_(x, non_blocking=True), place, batch)

    def _drawn(self, index: Sequence[int]) -> tuple[Tensor, ...]:
        """The random numbers of each slot's batch, [T, ...] each; drawn once for equal seeds."""
        keys = list(zip(self.seeds, index, strict=True))
        drawn = {}
        for seed, batch in keys if self.draws else ():
            if (seed, batch) not in drawn:
                numbers = stream_generator(seed, f"{self.purpose}:{batch}")
                drawn[seed, batch] = [draw.numbers(numbers) for draw in self.draws]
        each = [[drawn[key][place] for key in keys] for place in range(len(self.draws))]
        return tuple(torch.stack(numbers) for numbers in each)

    def _gathered(self, index: Tensor) -> Batch:
        return self.text.gather(self.part, self.offsets[self.each, index], self.context)


def schedule_tensor(train: TrainSpec) -> Tensor:
    """Factor on the peak lr at each step, float32 [steps]."""
    factors = schedule_factors(train.steps, train.warmup, train.schedule, train.decay_fraction)
    return torch.tensor(factors, dtype=torch.float64).float()


@dataclass(frozen=True)
class Job:
    """One trial to train."""

    id: str
    plan: Plan
    seed: int


class Slots:
    """Trials side by side, each at its own step.

    Args:
        like: a job whose plan has the same structure as those of all later jobs.
        count: T.
        measured_steps: numbers of steps after which trials are measured, from 0; may be empty.

    Attributes:
        jobs: the job of each slot; None for an empty slot, which trains on with learning rate 0.
        steps_done: number of steps of each slot; the host's copy of `position`.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        text: DeviceText,
        train: TrainSpec,
        like: Job,
        count: int,
        measured_steps: Sequence[int] = (),
    ) -> None:
        self.ensemble, self.text, self.train = ensemble, text, train
        device, dtype = ensemble.device, ensemble.dtype
        self.trials: Trials = ensemble.start([like.plan] * count, [like.seed] * count)
        self.factors = schedule_tensor(train).to(device)
        self.position = torch.zeros(count, dtype=torch.int64, device=device)
        self.running = torch.zeros(count, dtype=torch.int64, device=device)
        starts = torch.zeros(
            count, train.steps, train.batch, dtype=torch.int64, device=place_of(text.train)
        )
        first = text.batch(text.train, starts[0, 0], train.context)
        draws = ensemble.draws(first)
        self.batches = Batches(text, text.train, starts, train.context, draws)
        self.history = torch.full((count, train.steps), torch.nan, device=device, dtype=dtype)
        self.columns = torch.arange(train.steps, device=device)
        fixed = eval_offsets(text.corpus, train).expand(count, -1, -1)
        self.eval_batches = Batches(text, text.eval, fixed, train.context, draws, "eval noise")
        self.eval_index = torch.zeros((), dtype=torch.int64, device=device)
        self.eval_total = torch.zeros(count, device=device, dtype=dtype)
        self.jobs: list[Job | None] = [None] * count
        self.steps_done = [0] * count
        self.graphs: tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph] | None = None
        self.gradients: Stack = {}
        if ensemble.execution.captured:
            # while the slots are empty: the warm-up steps change their content
            step, self.gradients = captured(self._step, beside=None)
            self.graphs = step, captured(self._evaluate_batch, beside=step)[0]
        elif ensemble.execution.compiled:
            self._step()  # compiles
        self.diagnosis: Diagnosis | None = None
        if measured_steps:
            probe = ensemble.with_noise(probe_batch(text, train), PROBE)
            self.diagnosis = Diagnosis(ensemble, self.trials, probe, measured_steps)

    @property
    def busy(self) -> list[int]:
        """The slots that hold a job."""
        return [slot for slot, job in enumerate(self.jobs) if job is not None]

    def step(self) -> None:
        """Train every slot for one step; waits for the device only to measure a trial."""
        if self.diagnosis is None:
            self.run_step()
            return
        if new := [slot for slot in self.busy if self.steps_done[slot] == 0]:
            self.diagnosis.init(new)
        ahead = {slot: self.steps_done[slot] + 1 for slot in self.busy}
        due = {slot: steps for slot, steps in ahead.items() if steps in self.diagnosis.index}
        before = self.diagnosis.before(list(due)) if due else {}
        gradients = self.run_step()
        if due:
            self.diagnosis.after(due, before, gradients)

    def run_step(self, launched: bool = False) -> Stack:
        """Run a step without measurements; return its gradients, which the next step overwrites.

        Args:
            launched: launch each operation even if there is a graph.
        """
        self.batches.load(self.steps_done)
        if self.graphs is None or launched:
            return self._step()
        self.graphs[0].replay()
        return self.gradients

    def run_eval_batch(self, batch: int, launched: bool = False) -> None:
        """Add the losses of all slots on an eval batch to `eval_total`; call batches in order."""
        self.eval_batches.load([batch] * len(self.jobs))
        if self.graphs is None or launched:
            self._evaluate_batch()
        else:
            self.graphs[1].replay()

    def _step(self) -> Stack:
        """Take a step that touches only this object's tensors and never waits for the device."""
        index = self.position.clamp(max=self.train.steps - 1)
        schedule = self.factors[index] * self.running
        losses, gradients = self.ensemble.step(self.trials, self.batches.read(index), schedule)
        now = (self.columns == index.unsqueeze(1)) & self.running.bool().unsqueeze(1)
        torch.where(now, losses.unsqueeze(1), self.history, out=self.history)
        self.position.add_(self.running)
        return gradients

    def _evaluate_batch(self) -> None:
        """Evaluate the next batch under the same conditions as `_step`."""
        # a zero-dimensional index would ask the host for its value
        batch = self.eval_batches.read(self.eval_index.expand(len(self.jobs)))
        self.eval_total.add_(self.ensemble.evaluate(self.trials, batch))
        self.eval_index.add_(1).remainder_(self.train.eval_batches)

    def advance(self, steps: int) -> None:
        """Count steps that were run, on the host."""
        for slot in self.busy:
            self.steps_done[slot] += steps

    @torch.no_grad()
    def fill(self, slot: int, job: Job) -> None:
        """Start a job in a slot: initial weights, fresh optimizer state, its own rates and data."""
        alone = dict(self._tensors(self.ensemble.start([job.plan], [job.seed])))
        for name, stack in self._tensors(self.trials):
            stack[slot].copy_(alone[name][0])
        self.history[slot] = torch.nan
        self._occupy(slot, job, 0)

    @torch.no_grad()
    def clear(self, slot: int) -> None:
        """Empty a slot, which then trains on with learning rate 0."""
        self.jobs[slot], self.steps_done[slot] = None, 0
        self.running[slot] = 0

    def losses(self, slot: int) -> Tensor:
        """Training losses of the steps done, on the host."""
        return self.history[slot, : self.steps_done[slot]].to("cpu", copy=True)

    def measurements(self, slot: int) -> list[Measurement]:
        """Measurements at the steps done."""
        return self.diagnosis.measurements(slot, self.steps_done[slot]) if self.diagnosis else []

    def diverged(self) -> list[bool]:
        """Whether each slot has had a loss that is not finite; waits for the device.

        All losses so far count, because a trial may recover between two looks.
        """
        done = self.columns < self.position.unsqueeze(1)
        bad = (done & ~self.history.isfinite()).any(1).tolist()
        return [job is not None and found for job, found in zip(self.jobs, bad, strict=True)]

    def evaluate(self) -> list[float]:
        """Mean eval loss of each slot, on the same batches for all."""
        self.eval_total.zero_()
        self.eval_index.zero_()
        for batch in range(self.train.eval_batches):
            self.run_eval_batch(batch)
        losses: list[float] = (self.eval_total / self.train.eval_batches).tolist()
        return losses

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes, by name, [T, ...]; the tensors themselves."""
        measured = self.diagnosis.state() if self.diagnosis else {}
        return {**dict(self._tensors(self.trials)), "history": self.history, **measured}

    def completed(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A slot's saved state, completed with what this run keeps in addition."""
        return self.diagnosis.completed(state) if self.diagnosis else state

    @torch.no_grad()
    def restore(self, slot: int, state: Mapping[str, Tensor], job: Job, steps_done: int) -> None:
        """Continue a job from a slot's part of `state`."""
        for name, stack in self.state().items():
            stack[slot].copy_(state[name])
        self._occupy(slot, job, steps_done)

    def _occupy(self, slot: int, job: Job, steps: int) -> None:
        starts = train_offsets(self.text.corpus, self.train, job.seed)
        self.batches.offsets[slot].copy_(starts)
        self.batches.seeds[slot] = job.seed
        self.position[slot], self.running[slot] = steps, 1
        self.jobs[slot], self.steps_done[slot] = job, steps

    @staticmethod
    def _tensors(trials: Trials) -> Iterator[tuple[str, Tensor]]:
        """Every stack of the trials by name: weights, optimizer state, hyperparameters."""
        for name, stack in trials.params.items():
            yield f"params.{name}", stack
        for name, slots in trials.state.slots.items():
            for slot, stack in slots.items():
                yield f"slots.{name}.{slot}", stack
        yield "step", trials.state.step
        for group in trials.groups:
            for key in ("lr", "weight_decay", "eps"):
                yield f"groups.{'+'.join(group.names)}.{key}", getattr(group, key)
