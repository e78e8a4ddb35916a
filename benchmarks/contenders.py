"""Contenders of the benchmark of fused sweeps: ways to train the same trials, one interface."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import Case
from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.torch_private import prepare_inductor
from mutransfer_cli.train.capture import captured
from mutransfer_cli.train.cost import trial_cost
from mutransfer_cli.train.ensemble import draw
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.group_size import fastest, most_slots
from mutransfer_cli.train.slots import Job

Name = Literal["a1", "a2", "b", "c", "d"]

DESCRIPTIONS: dict[Name, str] = {
    "a1": "one at a time: the engine with one slot",
    "a2": "one at a time: a plain module compiled, its whole step in a CUDA graph",
    "b": "one at a time: plain eager PyTorch",
    "c": "processes that share the device, each as the best of (a)",
    "d": "fused: the engine, trials in slots",
}


class Contender(Protocol):
    """A way to train.

    Attributes:
        side_by_side: number of trials that one step advances.
    """

    side_by_side: int

    def losses(self, jobs: Sequence[Job], steps: int) -> Tensor:
        """Train each job from its start and return the losses of its first steps, [jobs, steps]."""
        ...

    def run(self, steps: int) -> None:
        """Continue with the jobs that were trained last."""
        ...


def build(name: Name, case: Case) -> Contender:
    device, jobs = case.device(), case.jobs(case.sweep())
    match name:
        case "a1":
            return Engine(case, device, jobs[:1])
        case "a2":
            return Captured(case, device)
        case "b":
            return Eager(case, device)
        case "d":
            return Engine(case, device, jobs)
    raise ValueError(f"{name} is no contender of one process")


class Engine:
    """The sweep's own engine: compiled and captured on CUDA; on a CPU the fastest slot count."""

    def __init__(self, case: Case, device: torch.device, jobs: Sequence[Job]) -> None:
        sweep = case.sweep()
        on_cuda = device.type == "cuda"
        execution = Execution(compiled=on_cuda, captured=on_cuda)
        trainer = sweep.trainer(case.width, DeviceText.on(device, sweep.corpus), execution)
        self.side_by_side = len(jobs)
        if len(jobs) > 1 and not on_cuda:
            # on CUDA all trials: the number of slots compiled beforehand must be the number timed
            cost = trial_cost(sweep.protocol, case.width)
            most = most_slots(sweep.protocol, case.width, cost, device)
            self.side_by_side = fastest(trainer, jobs, len(jobs), cost, most, always=True).slots
        self.slots = trainer.slots(jobs, self.side_by_side)

    def losses(self, jobs: Sequence[Job], steps: int) -> Tensor:
        found = []
        for first in range(0, len(jobs), self.side_by_side):
            group = jobs[first : first + self.side_by_side]
            self._fill(group)
            self.run(steps)
            found += [self.slots.losses(slot) for slot in range(len(group))]
        return torch.stack(found)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.slots.step()
            self.slots.advance(1)

    def _fill(self, jobs: Sequence[Job]) -> None:
        for slot, job in enumerate(jobs):
            self.slots.clear(slot)
            self.slots.fill(slot, job)


class Plain:
    """One trial as an ordinary module: the common base of (a2) and (b)."""

    side_by_side = 1

    def __init__(self, case: Case, device: torch.device) -> None:
        sweep = case.sweep()
        self.corpus, self.train = sweep.corpus, sweep.protocol.train
        assert isinstance(sweep.protocol.optimizer, AdamWSpec)
        self.betas = sweep.protocol.optimizer.betas
        self.device = device
        self.text = torch.from_numpy(self.corpus.train).to(device)
        self.model = sweep.model(case.width).to(device)
        self.parameters = list(self.model.parameters())
        self.offsets = torch.zeros(
            self.train.steps, self.train.batch, dtype=torch.int64, device=device
        )
        self.history = torch.zeros(self.train.steps, device=device)
        self.noise: tuple[int, list[Tensor]] = (-1, [])  # last seed and its noise

    def losses(self, jobs: Sequence[Job], steps: int) -> Tensor:
        found = []
        for job in jobs:
            self.begin(job)
            self.run(steps)
            found.append(self.history[:steps].to("cpu", copy=True))
        return torch.stack(found)

    def begin(self, job: Job) -> None:
        raise NotImplementedError

    def run(self, steps: int) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def load(self, job: Job) -> float:
        """Load the first weights and the data of a job and return its rate."""
        if job.seed != self.noise[0]:
            self.noise = job.seed, draw(job.plan, job.seed)
        for planned, noise in zip(job.plan, self.noise[1], strict=True):
            self.model.get_parameter(planned.name).copy_((planned.init_std or 0.0) * noise)
        self.offsets.copy_(train_offsets(self.corpus, self.train, job.seed))
        (settings,) = {(p.lr, p.weight_decay, p.eps, p.multiplier) for p in job.plan}
        lr, *others = settings
        assert others == [0.0, 1e-8, 1.0], "torch's AdamW is told the rate only"
        return lr

    def loss(self, tokens: Tensor) -> Tensor:
        with self._autocast():
            logits = self.model(tokens[:, :-1])
            return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def _autocast(self) -> AbstractContextManager[object]:
        if self.train.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class Eager(Plain):
    """The plain training loop that most people write."""

    def begin(self, job: Job) -> None:
        lr = self.load(job)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=self.betas, weight_decay=0, fused=True
        )
        self.step = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            tokens = gather(self.text, self.offsets[self.step], self.train.context)
            loss = self.loss(tokens)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters, self.train.clip or torch.inf)
            self.optimizer.step()
            self.history[self.step] = loss.detach()
            self.step += 1


class Captured(Plain):
    """The fastest form of a single trial: compiled, and its whole step one CUDA graph.

    Trials follow each other in the same tensors, so one compilation and one capture serve all.
    """

    def __init__(self, case: Case, device: torch.device) -> None:
        super().__init__(case, device)
        prepare_inductor()
        self.compiled_loss = torch.compile(self.loss, dynamic=False, fullgraph=True)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=torch.tensor(1e-3, device=device),
            betas=self.betas,
            weight_decay=0,
            fused=True,
            capturable=True,
        )
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.begin(case.jobs(case.sweep())[0])
        self.step = captured(self._step, beside=None)[0].replay

    def begin(self, job: Job) -> None:
        lr = self.load(job)
        for group in self.optimizer.param_groups:
            group["lr"].fill_(lr)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()
        self.position.zero_()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def _step(self) -> None:
        offsets = self.offsets.index_select(0, self.position)[0]
        loss = self.compiled_loss(gather(self.text, offsets, self.train.context))
        # not backward(), which would accumulate gradients or keep them across the capture's stream
        gradients = torch.autograd.grad(loss, self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.parameters, self.train.clip or torch.inf)
        self.optimizer.step()
        self.history.index_copy_(0, self.position, loss.detach().view(1))
        self.position.add_(1)
