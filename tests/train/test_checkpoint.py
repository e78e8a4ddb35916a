"""An interrupted run continues where it was and ends with the same losses bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train import checkpoint
from mutransfer_cli.train.checkpoint import Checkpoint, Shape, begun_steps
from mutransfer_cli.train.loop import Trainer, TrialResult
from mutransfer_cli.train.slots import Job
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTH, SLOTS, CUT = 30, 16, 3, 20


class Cut(Exception):
    pass


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    tiny["train"] |= {"steps": STEPS}
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": [2.0**k for k in range(-9, -4)]}}
    return prepare(tiny)


class Run:
    """One process: a trainer, a checkpoint file, and its results."""

    def __init__(self, sweep: Sweep, path: Path, protocol_hash: str = "protocol") -> None:
        text = DeviceText.on(CPU, sweep.corpus)
        self.trainer: Trainer = sweep.trainer(WIDTH, text)
        self.said: list[str] = []
        self.checkpoint = Checkpoint(path, protocol_hash, 1e9, self.said.append)
        self.results: dict[str, TrialResult] = {}
        self.steps = 0

    def train(self, jobs: list[Job], slots: int = SLOTS, cut: int | None = None) -> None:
        def check() -> None:
            if self.steps == cut:
                raise Cut
            self.steps += 1

        self.checkpoint.read({job.id for job in jobs})
        self.trainer.run(jobs, slots, self.results.update, check=check, checkpoint=self.checkpoint)


@pytest.fixture
def whole(sweep: Sweep, tmp_path: Path) -> dict[str, TrialResult]:
    run = Run(sweep, tmp_path / "none.pt")
    run.train(sweep.jobs(sweep.trials[WIDTH]))
    return run.results


def assert_same(found: dict[str, TrialResult], whole: dict[str, TrialResult]) -> None:
    assert found.keys() == whole.keys()
    for key, result in whole.items():
        assert torch.equal(found[key].train_losses, result.train_losses)
        assert found[key].eval_loss == result.eval_loss


@pytest.mark.parametrize("slots", [SLOTS, 2, 5])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_is_cut_off_ends_as_one_that_was_not(
    tiny: dict[str, Any], sweep: Sweep, prepare: Prepare, tmp_path: Path, optimizer: str, slots: int
) -> None:
    """The number of slots may differ, as it does after running out of memory."""
    tiny["optimizer"] = {"name": optimizer, "weight_decay": 0.1}
    sweep = prepare(tiny)
    jobs, path = sweep.jobs(sweep.trials[WIDTH]), tmp_path / "checkpoint.pt"
    undisturbed = Run(sweep, tmp_path / "none.pt")
    undisturbed.train(jobs)
    first = Run(sweep, path)
    with pytest.raises(Cut):
        first.train(jobs, cut=CUT)
    assert not first.results
    second = Run(sweep, path)
    second.train(jobs, slots)
    assert_same(second.results, undisturbed.results)
    assert not second.said
    if slots == SLOTS:
        assert second.steps == 2 * STEPS - CUT, "nothing is trained twice"


def test_with_fewer_slots_nothing_that_was_trained_is_lost(
    sweep: Sweep, tmp_path: Path, whole: dict[str, TrialResult]
) -> None:
    """Two of three trials in training find a slot; one waits when the run is cut off again."""
    jobs, path = sweep.jobs(sweep.trials[WIDTH]), tmp_path / "checkpoint.pt"
    runs = [Run(sweep, path) for _ in range(3)]
    with pytest.raises(Cut):
        runs[0].train(jobs, cut=CUT)
    with pytest.raises(Cut):
        runs[1].train(jobs, slots=2, cut=1)
    runs[2].train(jobs, slots=1)
    assert_same(runs[2].results, whole)
    trained = SLOTS * CUT + 2 * 1
    assert runs[2].steps == len(jobs) * STEPS - trained


def test_the_shape_of_the_run_is_kept(sweep: Sweep, tmp_path: Path) -> None:
    jobs, path = sweep.jobs(sweep.trials[WIDTH]), tmp_path / "checkpoint.pt"
    with pytest.raises(Cut):
        Run(sweep, path).train(jobs, slots=2, cut=CUT)
    assert Run(sweep, path).checkpoint.read({jobs[0].id}) == Shape(slots=2, compiled=False)


def test_what_was_recorded_meanwhile_is_not_trained_again(
    sweep: Sweep, tmp_path: Path, whole: dict[str, TrialResult]
) -> None:
    jobs, path = sweep.jobs(sweep.trials[WIDTH]), tmp_path / "checkpoint.pt"
    with pytest.raises(Cut):
        Run(sweep, path).train(jobs, cut=CUT)
    rest = jobs[1:]
    second = Run(sweep, path)
    second.train(rest)
    assert_same(second.results, {job.id: whole[job.id] for job in rest})


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "is not a complete checkpoint"),
        (lambda path: path.write_bytes(b""), "is not a complete checkpoint"),
        (
            lambda path: torch.save({"schema": "other"}, path),
            "is not a checkpoint of schema",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_all_starts_again(
    sweep: Sweep,
    tmp_path: Path,
    whole: dict[str, TrialResult],
    harm: Callable[[Path], object],
    sentence: str,
) -> None:
    jobs, path = sweep.jobs(sweep.trials[WIDTH]), tmp_path / "checkpoint.pt"
    with pytest.raises(Cut):
        Run(sweep, path).train(jobs, cut=CUT)
    harm(path)
    second = Run(sweep, path)
    second.train(jobs)
    assert_same(second.results, whole)
    (said,) = second.said
    assert sentence in said
    assert said.endswith("its trials start again")


def test_a_checkpoint_of_another_protocol_is_refused(
    sweep: Sweep, tmp_path: Path, whole: dict[str, TrialResult]
) -> None:
    jobs, path = sweep.jobs(sweep.trials[WIDTH]), tmp_path / "checkpoint.pt"
    with pytest.raises(Cut):
        Run(sweep, path, "another").train(jobs, cut=CUT)
    second = Run(sweep, path, "protocol")
    second.train(jobs)
    assert_same(second.results, whole)
    assert "belongs to protocol another, not to protocol; its trials" in second.said[0]


def test_a_disk_that_refuses_stops_no_training(
    sweep: Sweep, tmp_path: Path, whole: dict[str, TrialResult]
) -> None:
    run = Run(sweep, tmp_path / "no" / "such" / "folder.pt")
    run.checkpoint.due = 0.0
    run.train(sweep.jobs(sweep.trials[WIDTH]))
    assert_same(run.results, whole)
    assert "no checkpoint could be written (No such file or directory)" in run.said[0]


def test_it_is_not_written_when_nothing_is_in_training(
    sweep: Sweep,
    whole: dict[str, TrialResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checkpoint can fall due after the last trial too."""
    monkeypatch.setattr(checkpoint, "MOST_TIME", float("inf"))
    run = Run(sweep, tmp_path / "checkpoint.pt")
    run.checkpoint.due, run.checkpoint.every = 0.0, 0.0
    run.train(sweep.jobs(sweep.trials[WIDTH]))
    assert run.results.keys() == whole.keys()


def test_it_is_written_when_due_and_not_at_all_when_never(sweep: Sweep, tmp_path: Path) -> None:
    jobs = sweep.jobs(sweep.trials[WIDTH][:1])
    often = Run(sweep, tmp_path / "often.pt")
    often.checkpoint.due = 0.0
    often.train(jobs)
    assert often.checkpoint.path.exists()
    often.checkpoint.remove()
    assert not list(tmp_path.glob("*often*"))
    never = Run(sweep, tmp_path / "never.pt")
    never.checkpoint.every = float("inf")
    with pytest.raises(Cut):
        never.train(jobs, cut=CUT)
    assert not never.checkpoint.path.exists()


def test_the_steps_of_begun_trials_are_read_without_their_weights(
    sweep: Sweep, tmp_path: Path
) -> None:
    path = tmp_path / "c.pt"
    assert begun_steps(path) == ()
    with pytest.raises(Cut):
        Run(sweep, path).train(sweep.jobs(sweep.trials[WIDTH]), cut=CUT)
    assert begun_steps(path) == (CUT,) * SLOTS
    path.write_bytes(path.read_bytes()[:-100])
    assert begun_steps(path) == ()
