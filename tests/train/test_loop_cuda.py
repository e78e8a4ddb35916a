"""Properties of training that only a CUDA device can show."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.doctor import Report, examine
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.capture import AsksTheHost, captured
from mutransfer_cli.train.cost import trial_cost
from mutransfer_cli.train.device import choose_device
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.group_size import predicted_memory
from mutransfer_cli.train.loop import Trainer, TrialResult
from mutransfer_cli.train.slots import Job
from tests.proxies.options import OPTIONS
from tests.train.trained import train_all, train_jobs

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

Prepare = Callable[[dict[str, Any]], Sweep]
Results = dict[str, TrialResult]
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
GRAPH = Execution(compiled=True, captured=True)
EAGER_GRAPH = Execution(compiled=False, captured=True)


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


@pytest.mark.parametrize("name", OPTIONS)
def test_so_it_does_with_every_option_of_the_built_in_model(
    tiny: dict[str, Any], prepare: Prepare, name: str
) -> None:
    """The step runs in a graph, which no option may break."""
    tiny["model"] |= OPTIONS[name]
    tiny["train"] |= {"z_loss": 1e-3}
    tiny["sweep"] = {"widths": [32], "axes": {"lr": [2**-9, 2**-7]}}
    sweep = prepare(tiny)
    torch.testing.assert_close(
        losses(sweep, choose_device("cuda", "fp32"), compiled=False),
        losses(sweep, CPU, compiled=False),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_so_it_does_samples(tiny_mlp: dict[str, Any], prepare: Prepare, compiled: bool) -> None:
    tiny_mlp["model"] |= {"depth": 2, "norm": "rms"}
    tiny_mlp["sweep"] = {"widths": [32], "axes": {"lr": {"from": "2^-9", "to": "2^-6"}}}
    sweep, cuda = prepare(tiny_mlp), choose_device("cuda", "fp32")
    torch.testing.assert_close(
        losses(sweep, cuda, compiled), losses(sweep, CPU, compiled=False), rtol=1e-4, atol=1e-4
    )


def trainer_of(sweep: Sweep, execution: Execution) -> Trainer:
    text = DeviceText.on(choose_device("cuda", "fp32"), sweep.corpus)
    return sweep.trainer(32, text, execution)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_in_a_graph_is_the_step(sweep: Sweep, compiled: bool) -> None:
    jobs = sweep.jobs(sweep.trials[32])
    in_a_graph, launched = (
        train_jobs(trainer_of(sweep, Execution(compiled, captured)), jobs, 2)
        for captured in (True, False)
    )
    torch.testing.assert_close(in_a_graph.train_losses, launched.train_losses)
    torch.testing.assert_close(in_a_graph.eval_losses, launched.eval_losses)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_measured_in_a_graph_is_what_is_measured_without(
    sweep: Sweep, compiled: bool
) -> None:
    """Gradients are read from the graph's memory, which does not change the graph."""
    jobs, steps = sweep.jobs(sweep.trials[32]), (0, 3, sweep.protocol.train.steps)
    plain = train_jobs(trainer_of(sweep, Execution(compiled, captured=True)), jobs, 2)
    in_a_graph, launched = (
        measured_jobs(trainer_of(sweep, Execution(compiled, captured)), jobs, steps)
        for captured in (True, False)
    )
    for index, job in enumerate(jobs):
        torch.testing.assert_close(
            in_a_graph[job.id].train_losses, plain.train_losses[:, index], rtol=0, atol=0
        )
        for one, other in zip(
            in_a_graph[job.id].measurements, launched[job.id].measurements, strict=True
        ):
            assert one.step == other.step
            for quantity, values in other.values.items():
                assert one.values[quantity] == pytest.approx(values, rel=1e-2), quantity


def measured_jobs(trainer: Trainer, jobs: list[Job], steps: tuple[int, ...]) -> Results:
    results: Results = {}
    trainer.run(jobs, 2, results.update, measured_steps=steps)
    return results


def test_compilation_is_not_repeated_for_other_trials(sweep: Sweep) -> None:
    trainer = trainer_of(sweep, GRAPH)
    jobs = sweep.jobs(sweep.trials[32])
    train_jobs(trainer, jobs, len(jobs))
    others = [Job(job.id, job.plan, 1) for job in jobs[::-1]]
    with torch.compiler.set_stance("fail_on_recompile"):
        again = train_jobs(trainer, others, len(jobs))
    assert again.eval_losses.isfinite().all()


@pytest.mark.parametrize("captured", [False, True])
def test_trials_are_the_same_bit_for_bit_on_streamed_batches(
    sweep: Sweep, captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more trials than slots, and the host gathers batches ahead of the device."""
    jobs, execution = sweep.jobs(sweep.trials[32]), Execution(False, captured)
    resident = train_jobs(trainer_of(sweep, execution), jobs, 2)
    monkeypatch.setattr("mutransfer_cli.data.corpus.MOST_OF_DEVICE", 0.0)
    trainer = trainer_of(sweep, execution)
    assert trainer.text.train.device == CPU
    streamed = train_jobs(trainer, jobs, 2)
    assert torch.equal(streamed.train_losses, resident.train_losses)
    assert torch.equal(streamed.eval_losses, resident.eval_losses)


@pytest.mark.parametrize("most", [0.0, 1.0])
@pytest.mark.parametrize("captured", [False, True])
def test_a_step_never_waits_for_the_host(
    sweep: Sweep, captured: bool, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds with the text on the device and with batches streamed to it."""
    monkeypatch.setattr("mutransfer_cli.data.corpus.MOST_OF_DEVICE", most)
    jobs = sweep.jobs(sweep.trials[32])
    slots = trainer_of(sweep, Execution(compiled=False, captured=captured)).slots(jobs, 2)
    slots.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        slots.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_that_asks_the_host_is_found_before_its_capture() -> None:
    x = torch.ones(3, device=choose_device("cuda", "fp32"))
    with pytest.raises(AsksTheHost, match=r"test_cuda.py:\d+ .*item.* waits for a value"):
        captured(lambda: x.sum().item(), None)


@pytest.mark.processes
def test_every_rung_of_this_machine_works() -> None:
    *_, report = examine(choose_device("cuda", "fp32"))
    assert isinstance(report, Report)
    assert report.healthy, report.rungs


def test_the_peak_of_a_group_is_predicted_from_smaller_ones(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    """The prediction is within 15% at a width where weights and activations both matter."""
    tiny["model"] = {"depth": 2, "head_size": 32}
    tiny["train"] |= {"batch": 8, "context": 128}
    tiny["data"] = {"source": "stdlib"}
    tiny["sweep"] = {"widths": [256], "axes": {"lr": [2.0**-k for k in range(8, 16)]}}
    sweep = prepare(tiny)
    text = DeviceText.on(choose_device("cuda", "fp32"), sweep.corpus)
    jobs, cost = sweep.jobs(sweep.trials[256]), trial_cost(sweep.protocol, 256)
    measured = {
        size: sweep.trainer(256, text, EAGER_GRAPH).step_cost(jobs[:size]) for size in (1, 2, 8)
    }
    peak = measured.pop(8).memory
    assert predicted_memory(measured, cost, 8) == pytest.approx(peak, rel=0.15)


def test_deterministic_runs_are_equal_bit_for_bit_wherever_they_are_cut(
    sweep: Sweep, tmp_path: Path
) -> None:
    """Each run has its own process, because the mode cannot be reset."""
    program = f"""
import sys, torch
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.train.cut_on_cuda import train
print(train(Path({str(tmp_path)!r}), int(sys.argv[1])))
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, str(cut)], check=True, capture_output=True, text=True
        ).stdout
        for cut in (0, 0, 6)
    ]
    assert outputs[0] == outputs[1] == outputs[2]


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
