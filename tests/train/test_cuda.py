"""What only a CUDA device can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mutransfer_cli.data.text import DeviceText
from mutransfer_cli.sweep.prepare import Sweep, choose_device
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.slots import Job
from tests.train.trained import train_all, train_jobs

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

Prepare = Callable[[dict[str, Any]], Sweep]
CPU = torch.device("cpu")


def losses(sweep: Sweep, device: torch.device, compiled: bool) -> torch.Tensor:
    return train_all(sweep, sweep.trials[32], device, compiled).train_losses


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    tiny["sweep"] = {"widths": [32], "axes": {"lr": {"from": "2^-9", "to": "2^-6"}}}
    return prepare(tiny)


@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_trains_as_the_cpu_does(sweep: Sweep, compiled: bool) -> None:
    cuda = choose_device("cuda", "fp32")
    torch.testing.assert_close(
        losses(sweep, cuda, compiled), losses(sweep, CPU, compiled=False), rtol=1e-4, atol=1e-4
    )


def test_compilation_is_not_repeated_for_other_trials(sweep: Sweep) -> None:
    text = DeviceText.on(choose_device("cuda", "fp32"), sweep.corpus)
    trainer = sweep.trainer(32, text, Execution(compiled=True, captured=True))
    jobs = sweep.jobs(sweep.trials[32])
    train_jobs(trainer, jobs, len(jobs))
    others = [Job(job.id, job.plan, 1) for job in jobs[::-1]]
    with torch.compiler.set_stance("fail_on_recompile"):
        again = train_jobs(trainer, others, len(jobs))
    assert again.eval_losses.isfinite().all()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precisions_stay_near_fp32(
    tiny: dict[str, Any], prepare: Prepare, sweep: Sweep, precision: str
) -> None:
    tiny["train"]["precision"] = precision
    lower = prepare(tiny)
    device = choose_device("cuda", precision)
    torch.testing.assert_close(
        losses(lower, device, compiled=True),
        losses(sweep, CPU, compiled=False),
        rtol=3e-2,
        atol=0,
    )
