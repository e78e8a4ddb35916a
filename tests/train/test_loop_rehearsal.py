"""If replayed steps differ from launched ones, the graph is dropped and training is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.loop import UnlikeLaunched, largest_difference, rehearse
from mutransfer_cli.train.slots import Job, Slots
from tests.conftest import CPU
from tests.sweep.running import table
from tests.train.replay import Tape, taped

Prepare = Callable[[dict[str, Any]], Sweep]
Run = Callable[..., Any]


def without(name: str) -> Callable[..., Any]:
    """A stand-in for `captured` whose graph leaves out the operations with a name."""

    def capture(step: Callable[[], Any], beside: Any) -> tuple[Tape, Any]:
        tape, result = taped(step, beside)
        tape.operations = [
            (torch.ops.aten.alias.default, frozen[:1], structure)
            if func._schema.name == name
            else (func, frozen, structure)
            for func, frozen, structure in tape.operations
        ]
        return tape, result

    return capture


def frozen_eval(step: Callable[[], Any], beside: Any) -> tuple[Any, Any]:
    """A stand-in whose graph of an eval batch does nothing."""
    tape, result = taped(step, beside)
    if beside is not None:
        tape.operations.clear()
    return tape, result


def frozen_step(step: Callable[[], Any], beside: Any) -> tuple[Any, Any]:
    """A stand-in whose graph of a step does nothing."""
    tape, result = taped(step, beside)
    if beside is None:
        tape.operations.clear()
        tape.results.clear()
    return tape, result


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    tiny["train"] |= {"eval_batches": 3}
    tiny["sweep"] = {"widths": [32], "axes": {"lr": [2**-9, 2**-7, 1e300]}}
    return prepare(tiny)


def slots(sweep: Sweep) -> tuple[Slots, list[Job]]:
    jobs = sweep.jobs(sweep.trials[32])
    trainer = sweep.trainer(32, DeviceText.on(CPU, sweep.corpus), Execution(False, captured=True))
    return Slots(trainer.ensemble, trainer.text, trainer.train, jobs[0], len(jobs)), jobs


def test_a_faithful_graph_passes_and_leaves_the_slots_empty(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutransfer_cli.train.slots.captured", taped)
    empty, jobs = slots(sweep)
    rehearse(empty, jobs)
    assert empty.busy == []


@pytest.mark.parametrize("graph", [frozen_step, frozen_eval])
def test_a_graph_that_does_not_do_the_step_is_seen(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, graph: Any
) -> None:
    monkeypatch.setattr("mutransfer_cli.train.slots.captured", graph)
    with pytest.raises(UnlikeLaunched, match=r"losses of the first 3 steps differ by inf|1\.0e"):
        rehearse(*slots(sweep))


def test_only_trials_that_have_not_exploded_are_compared() -> None:
    expected = torch.tensor(
        [[5.0, 4.0, 12.0], [5.0, 9.0, 30.0], [5.0, torch.nan, torch.nan]], dtype=torch.float64
    )
    assert largest_difference(expected * 1.5, expected) == pytest.approx(0.5)
    rounded = expected.clone()
    rounded[0] *= 1 + 1e-6
    rounded[1:, 1:] = 7.0  # chaotic by then
    assert largest_difference(rounded, expected) == pytest.approx(1e-6)
    rounded[2, 0] = torch.nan
    assert largest_difference(rounded, expected) == torch.inf


def test_a_width_whose_graph_is_wrong_trains_launched(
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command runs on a CPU that claims to capture graphs."""
    spec = write_spec(tiny)
    assert run("sweep-proxy", spec, "-o", tmp_path / "launched").exit_code == 0
    monkeypatch.setattr("mutransfer_cli.sweep.choice.with_capture", lambda execution, *_: execution)
    monkeypatch.setattr("mutransfer_cli.train.slots.captured", frozen_step)
    result = run("sweep-proxy", spec, "-o", tmp_path / "captured")
    assert result.exit_code == 0, result.stderr
    for width in (16, 24, 32):
        lines = result.stderr.splitlines()
        (line,) = [line for line in lines if line.startswith(f"width {width}: a worker")]
        assert "trials failed in a CUDA graph, UnlikeLaunched: losses of the first 3 steps" in line
        assert "; they go on launched step by step, " in line
    assert table(tmp_path / "captured") == table(tmp_path / "launched")
