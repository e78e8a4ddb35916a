"""Measurements match their definitions whatever trains beside a trial, and change no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.diagnose.sizes import Measurement
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.diagnosis import probe_batch
from mutransfer_cli.train.ensemble import Plan, draw, first_values
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loop import TrialResult
from mutransfer_cli.train.slots import Job
from tests.conftest import CPU
from tests.proxies.test_factory import OWN, own_spec
from tests.sweep.test_choice import BranchingSweep

Prepare = Callable[[dict[str, Any]], Sweep]
Array = npt.NDArray[np.float64]
Flat = dict[tuple[int, str, str], float | None]
SMALL = {"widths": [32], "axes": {"lr": [2**-8, 2**-7]}}
WIDTH, STEPS, MEASURED = 32, 12, (0, 4, 8, 12)


def results_of(
    sweep: Sweep,
    jobs: Sequence[Job],
    slots: int,
    measured_steps: Sequence[int] = MEASURED,
    execution: Execution = EAGER,
) -> dict[str, TrialResult]:
    results: dict[str, TrialResult] = {}
    width = next(iter(sweep.trials))
    trainer = sweep.trainer(width, DeviceText.on(CPU, sweep.corpus), execution)
    trainer.run(jobs, slots, results.update, measured_steps=measured_steps)
    return results


def flat(measurements: Sequence[Measurement]) -> Flat:
    """Return all values by step, quantity and name."""
    return {
        (measurement.step, quantity, name): value
        for measurement in measurements
        for quantity, values in measurement.values.items()
        for name, value in values.items()
    }


# comparison with an exact computation


def two_layers(tiny: dict[str, Any], width: int, name: str = "mup", **train: Any) -> dict[str, Any]:
    """A spec of y = W2 W1 x with base width 16 in float64 and plain SGD with clipped gradients."""
    return tiny | {
        "model": {"factory": "tests.proxies.own_models:two_layers"},
        "parameterization": {"name": name, "base_width": 16},
        "optimizer": {"name": "sgd", "momentum": 0.0},
        "train": {"batch": 2, "context": 32, "precision": "fp64", "schedule": "constant"} | train,
        "sweep": {"widths": [width], "axes": {"lr": [0.5]}},
    }


class Pair:
    """The same network in NumPy."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = {p.name.removesuffix(".weight"): p for p in plan}
        self.weights: dict[str, Array] = {
            key: first_values(planned, drawn.double()).numpy()
            for (key, planned), drawn in zip(self.plan.items(), draw(plan, seed), strict=True)
        }

    def effective(self, key: str) -> Array:
        product: Array = self.plan[key].multiplier * self.weights[key]
        return product

    def outputs(self, tokens: Tensor) -> dict[str, Array]:
        hidden = self.effective("embed")[tokens[:, :-1].flatten().numpy()]
        return {"embed": hidden, "head": hidden @ self.effective("head").T}

    def gradients(self, tokens: Tensor, clip: float) -> dict[str, Array]:
        """Gradients of the mean cross-entropy, scaled to a global norm of at most `clip`."""
        inputs, targets = tokens[:, :-1].flatten().numpy(), tokens[:, 1:].flatten().numpy()
        outputs = self.outputs(tokens)
        d_logits = np.exp(outputs["head"])
        d_logits /= d_logits.sum(1, keepdims=True)
        d_logits[np.arange(len(targets)), targets] -= 1
        d_logits /= len(targets)
        d_embed = np.zeros_like(self.weights["embed"])
        np.add.at(d_embed, inputs, d_logits @ self.effective("head"))
        found = {"embed": d_embed, "head": d_logits.T @ outputs["embed"]}
        found = {key: self.plan[key].multiplier * x for key, x in found.items()}
        norm = math.sqrt(sum(float((x**2).sum()) for x in found.values()))
        return {key: min(1.0, clip / (norm + 1e-6)) * x for key, x in found.items()}


def rms(x: Array) -> float:
    return float(np.sqrt((x**2).mean()))


def expected_of(sweep: Sweep, job: Job, clip: float, steps: int) -> Flat:
    """Compute all measurements after every step."""
    pair, train, corpus = Pair(job.plan, job.seed), sweep.protocol.train, sweep.corpus
    text = DeviceText.on(CPU, corpus)
    probe = probe_batch(text, train)
    first = pair.outputs(probe)
    found: Flat = {}
    for step in range(steps + 1):
        if step:
            batch = train_offsets(corpus, train, job.seed)[step - 1]
            gradients = pair.gradients(gather(text.train, batch, train.context), clip)
            for key, gradient in gradients.items():
                update = pair.plan[key].lr * gradient
                size = rms(update) / rms(pair.weights[key])
                found[step, "relative_update", f"{key}.weight"] = size
                found[step, "gradient_rms", f"{key}.weight"] = rms(gradient)
                pair.weights[key] = pair.weights[key] - update
        outputs = pair.outputs(probe)
        head = pair.effective("head")
        ratio = rms(outputs["head"]) / (rms(head) * rms(outputs["embed"]))
        found[step, "alignment", "head.weight"] = math.log(ratio, head.shape[1])
        for key, output in outputs.items():
            top = float(np.linalg.norm(pair.effective(key), 2))
            found[step, "top_singular_value", f"{key}.weight"] = top
            found[step, "activation_rms", key] = rms(output)
            if step:
                found[step, "activation_change_rms", key] = rms(output - first[key])
    return found


def test_every_quantity_is_what_it_is_defined_as(tiny: dict[str, Any], prepare: Prepare) -> None:
    """The net is W2 W1 x under muP at three times the base width; both weights have multipliers."""
    clip = 0.05
    sweep = prepare(two_layers(tiny, 48, steps=3, clip=clip))
    (job,) = sweep.jobs(sweep.trials[48])
    assert {p.multiplier for p in job.plan}.isdisjoint({1.0})
    (result,) = results_of(sweep, [job], 1, (0, 1, 2, 3)).values()
    found, expected = flat(result.measurements), expected_of(sweep, job, clip, 3)
    assert set(found) == set(expected)
    for key, value in expected.items():
        within = 1e-2 if key[1] == "top_singular_value" else 1e-6
        assert found[key] == pytest.approx(value, rel=within), key


@pytest.mark.parametrize(("name", "slope"), [("standard", 0.0), ("mup", -0.5)])
def test_activations_at_init_go_with_width_as_the_product_of_gaussian_matrices_does(
    tiny: dict[str, Any], prepare: Prepare, name: str, slope: float
) -> None:
    """RMS(W1 x) = s1 and RMS(W2 W1 x) = sqrt(n) s2 s1, with s the std of weight * multiplier.

    s1 is constant; s2 scales as n^-1/2 under the standard rule and as n^-1 under muP.
    """
    widths = (16, 64, 256)
    found = []
    for width in widths:
        sweep = prepare(two_layers(tiny, width, name, steps=1))
        (result,) = results_of(sweep, sweep.jobs(sweep.trials[width]), 1, (0, 1)).values()
        found.append(result.measurements[0].values["activation_rms"])
    slopes = {
        key: np.polyfit(np.log(widths), np.log([float(row[key] or 0) for row in found]), 1)[0]
        for key in ("embed", "head")
    }
    assert slopes["embed"] == pytest.approx(0.0, abs=0.05)
    assert slopes["head"] == pytest.approx(slope, abs=0.05)


# proxies in slots


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    """Three rates and one that diverges, two seeds, two layers; all gradients are clipped."""
    tiny["model"]["depth"] = 2
    tiny["train"] |= {"steps": STEPS, "clip": 0.1}
    rates = [2**-9, 2**-7, 2**-4, 1e30]
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": rates}, "seeds": [0, 1]}
    return prepare(tiny)


def jobs_of(sweep: Sweep) -> list[Job]:
    """Return the jobs with those that diverge last."""
    (trials,) = sweep.trials.values()
    return sweep.jobs(sorted(trials, key=lambda trial: trial.axes["lr"]))


def assert_close(found: Flat, expected: Flat) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3), key


def test_a_trial_among_others_is_measured_as_alone(sweep: Sweep) -> None:
    """Training takes more than one round, and trials are out of step after the divergence."""
    jobs = jobs_of(sweep)
    together = results_of(sweep, jobs, 3)
    for job in jobs:
        (alone,) = results_of(sweep, [job], 1).values()
        assert_close(flat(together[job.id].measurements), flat(alone.measurements))
    steps = [[m.step for m in together[job.id].measurements] for job in jobs]
    assert steps == [list(MEASURED)] * 6 + [[0]] * 2, "what was measured before the divergence"


def test_gradients_and_updates_are_those_of_the_step(sweep: Sweep) -> None:
    """The references are autograd and the weights of a trial alone."""
    job = jobs_of(sweep)[3]
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    slots = trainer.slots([job], 1)
    found = flat(results_of(sweep, jobs_of(sweep), 8)[job.id].measurements)
    for step in range(1, STEPS + 1):
        trials = slots.trials
        before = {name: stack.detach().clone() for name, stack in trials.params.items()}
        offsets = slots.batches.offsets[:, step - 1]
        tokens = gather(trainer.text.train, offsets, trainer.train.context)
        loss = trainer.ensemble.losses(trials.params, trials.multipliers, tokens).sum()
        gradients = torch.autograd.grad(loss, list(trials.params.values()))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        slots.step()
        slots.advance(1)
        if step not in MEASURED:
            continue
        assert norm > 0.1, "clipped"
        for (name, old), gradient in zip(before.items(), gradients, strict=True):
            clipped = gradient * 0.1 / (norm + 1e-6)
            rms_ = float(clipped.square().mean().sqrt())
            assert found[step, "gradient_rms", name] == pytest.approx(rms_, rel=1e-4)
            update = float((trials.params[name].detach() - old).norm() / old.norm())
            assert found[step, "relative_update", name] == pytest.approx(update, rel=1e-4)


@pytest.mark.parametrize(("name", "roles"), OWN)
def test_own_models_are_measured(
    tiny: dict[str, Any], prepare: Prepare, name: str, roles: dict[str, str]
) -> None:
    """Every gradient and every matrix except convolutions is measured; nothing is null."""
    tiny["train"] |= {"steps": 3}
    sweep = prepare(own_spec(tiny, name, roles=roles) | {"sweep": SMALL})
    (result, _) = results_of(sweep, jobs_of(sweep), 2, (0, 3)).values()
    last = result.measurements[-1].values
    model = sweep.model(WIDTH)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert list(last["gradient_rms"]) == list(trained)
    assert set(last["relative_update"]) == {n for n, p in trained.items() if p.dim() > 1}
    convolutions = {n for n, p in trained.items() if p.dim() == 3 and "experts" not in n}
    assert set(last["top_singular_value"]) == set(last["relative_update"]) - convolutions
    assert set(last["activation_rms"]) == set(last["activation_change_rms"])
    assert len(last["activation_rms"]) >= 3
    assert (name == "conv_net") == ("alignment" not in last)
    assert None not in flat(result.measurements).values()


def test_trials_one_after_the_other_are_measured_as_side_by_side(sweep: Sweep) -> None:
    jobs = jobs_of(sweep)[:3]
    apart = results_of(
        BranchingSweep(**vars(sweep)),
        jobs,
        2,
        execution=Execution(compiled=False, captured=False, batched=False),
    )
    together = results_of(sweep, jobs, 2)
    for job in jobs:
        assert_close(flat(apart[job.id].measurements), flat(together[job.id].measurements))


def test_compiled_trials_are_measured_too_without_another_graph(
    tiny: dict[str, Any], sweep: Sweep, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend is torch.compile's quick one; gradients are clipped in the compiled update."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    tiny["model"]["depth"] = 1
    sweep = prepare(tiny)
    jobs = jobs_of(sweep)[1:3]
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    compiled = results_of(sweep, jobs, 2, execution=Execution(compiled=True, captured=False))
    assert counters["unique_graphs"] == before + 2
    eager = results_of(sweep, jobs, 2)
    for job in jobs:
        assert_close(flat(compiled[job.id].measurements), flat(eager[job.id].measurements))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_is_the_same_bit_for_bit_whatever_is_measured(
    tiny: dict[str, Any], sweep: Sweep, prepare: Prepare, optimizer: str
) -> None:
    tiny["optimizer"] = {"name": optimizer, "weight_decay": 0.1}
    sweep = prepare(tiny)
    jobs = jobs_of(sweep)
    plain = results_of(sweep, jobs, 3, ())
    every_step = results_of(sweep, jobs, 3, tuple(range(STEPS + 1)))
    for job in jobs:
        one, other = plain[job.id], every_step[job.id]
        assert torch.equal(one.train_losses.nan_to_num(), other.train_losses.nan_to_num())
        assert str(one.eval_loss) == str(other.eval_loss)
        assert not one.measurements
        assert len(other.measurements) == (other.diverged_at or STEPS + 1)


def test_what_overflows_is_null_and_leaves_its_neighbours(sweep: Sweep) -> None:
    """The weights of the diverging trial become infinite before its loss does."""
    jobs = jobs_of(sweep)[5:7]
    calm, wild = (results_of(sweep, jobs, 2, range(STEPS + 1))[job.id] for job in jobs)
    (init, *rest) = wild.measured
    assert None not in flat([init]).values()
    assert None in flat(rest).values()
    assert None not in flat(calm.measurements).values()


# an interrupted run


class Cut(Exception):
    pass


def run(
    sweep: Sweep,
    path: Path,
    measured_steps: Sequence[int],
    cut: int | None = None,
    slots: int = 3,
) -> dict[str, TrialResult]:
    """Train six trials from the checkpoint, if it exists, and save it if they are cut off."""
    jobs, results, steps = jobs_of(sweep)[:6], dict[str, TrialResult](), 0

    def check() -> None:
        nonlocal steps
        if steps == cut:
            raise Cut
        steps += 1

    checkpoint = Checkpoint(path, "protocol", 1e9, pytest.fail)
    checkpoint.read({job.id for job in jobs})
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    trainer.run(
        jobs,
        slots,
        results.update,
        check=check,
        checkpoint=checkpoint,
        measured_steps=measured_steps,
    )
    return results


def cut_off(
    sweep: Sweep, path: Path, measured_steps: Sequence[int], cut: int, slots: int = 3
) -> None:
    with pytest.raises(Cut):
        run(sweep, path, measured_steps, cut, slots)


def measured(results: dict[str, TrialResult]) -> dict[str, Flat]:
    return {key: flat(result.measurements) for key, result in results.items()}


@pytest.mark.parametrize("cut", [0, 4, 6])
def test_it_is_measured_as_one_that_was_not(sweep: Sweep, tmp_path: Path, cut: int) -> None:
    cut_off(sweep, tmp_path / "checkpoint.pt", MEASURED, cut)
    resumed = run(sweep, tmp_path / "checkpoint.pt", MEASURED)
    assert measured(resumed) == measured(run(sweep, tmp_path / "none.pt", MEASURED))


def test_one_that_was_not_measured_is_from_there_on(sweep: Sweep, tmp_path: Path) -> None:
    """Trials that were in training have no measurements before the cut and no change since init."""
    cut_off(sweep, tmp_path / "checkpoint.pt", (), 6)
    resumed = measured(run(sweep, tmp_path / "checkpoint.pt", MEASURED))
    whole = measured(run(sweep, tmp_path / "none.pt", MEASURED))
    for job in jobs_of(sweep)[:3]:
        assert resumed[job.id] == {
            key: value
            for key, value in whole[job.id].items()
            if key[0] > 6 and key[1] != "activation_change_rms"
        }
    for job in jobs_of(sweep)[3:6]:
        assert resumed[job.id] == whole[job.id]


@pytest.mark.parametrize("then", [(), (0, 3, 6, 9, 12), (0, 4, 12)])
def test_one_that_is_measured_otherwise_goes_on_so(
    sweep: Sweep, tmp_path: Path, then: tuple[int, ...]
) -> None:
    """One of three saved trials waits when the next checkpoint is written and the run is cut."""
    cut_off(sweep, tmp_path / "checkpoint.pt", MEASURED, 6)
    cut_off(sweep, tmp_path / "checkpoint.pt", then, 2, slots=2)
    resumed = run(sweep, tmp_path / "checkpoint.pt", then)
    whole = measured(run(sweep, tmp_path / "none.pt", then))
    for job in jobs_of(sweep)[:3]:
        kept = {key: value for key, value in whole[job.id].items() if key[0] > 6}
        assert flat(resumed[job.id].measurements) == kept
    plain = run(sweep, tmp_path / "none.pt", ())
    for key, result in plain.items():
        assert torch.equal(resumed[key].train_losses, result.train_losses)
