"""Samples of the user's own are trained on by the same engine, with noise from the tool's seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, train_offsets
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loop import TrialResult
from mutransfer_cli.train.slots import Batches
from tests.conftest import CPU
from tests.train.replay import taped
from tests.train.trained import train_all

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, STEPS, BATCH = 16, 14, 24
ONE_BY_ONE = Execution(compiled=False, captured=False, batched=False)
SPEC: dict[str, Any] = {
    "schema": "mutransfer.sweep/1",
    "model": {"factory": "tests.proxies.sample_models:net"},
    "data": {"factory": "tests.data.own_samples:as_dict"},
    "parameterization": {"name": "mup", "base_width": WIDTH},
    "train": {"steps": STEPS, "batch": BATCH, "warmup": 2, "eval_batches": 1},
    "sweep": {"widths": [WIDTH], "axes": {"lr": [2**-8, 2**-6, 2**-4]}, "seeds": [0, 1]},
}


def spec(kind: str, data: str, loss: dict[str, Any] | None = None, **args: Any) -> dict[str, Any]:
    raw = copy.deepcopy(SPEC)
    raw["model"]["args"] = {"kind": kind}
    raw["data"] = {"factory": f"tests.data.own_samples:{data}", "args": args}
    if loss is not None:
        raw["loss"] = loss
    return raw


LOSS = {"factory": "tests.proxies.sample_models:smoothed"}
FORMS = [
    ("Classifier", "as_dict", None, {}),
    ("Classifier", "as_tuple", None, {}),
    ("Classifier", "as_tensor_dataset", None, {}),
    ("Classifier", "as_dataset", None, {}),
    ("Classifier", "as_dataset", None, {"form": "tuple"}),
    ("Classifier", "named", None, {}),
    ("Holder", "as_dict", None, {}),
    ("Plain", "as_dict", LOSS, {}),
    ("Plain", "as_tuple", LOSS, {}),
]


@pytest.mark.parametrize(("kind", "data", "loss", "args"), FORMS)
def test_every_form_of_data_and_loss_trains_alike(
    prepare: Prepare, kind: str, data: str, loss: dict[str, Any] | None, args: dict[str, Any]
) -> None:
    sweep = prepare(spec(kind, data, loss, **args))
    trained = train_all(sweep, sweep.trials[WIDTH], CPU)
    reference = prepare(spec("Classifier", "as_dict"))
    expected = train_all(reference, reference.trials[WIDTH], CPU)
    assert torch.equal(trained.train_losses, expected.train_losses)
    assert torch.equal(trained.eval_losses, expected.eval_losses)
    assert float(trained.eval_losses[2]) < 0.3, "it learns"


def test_a_trial_is_the_plain_model_on_its_samples(prepare: Prepare) -> None:
    """The first loss of each seed, and the eval loss of a rate that changes nothing."""
    sweep = prepare(spec("Classifier", "as_tuple"))
    trials = [sweep.trials[WIDTH][place] for place in (0, 3)]
    trained = train_all(sweep, trials, CPU)
    engine = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus)).ensemble
    x, label = map(torch.from_numpy, sweep.corpus.train)
    for place, trial in enumerate(trials):
        params = engine.start([sweep.trial_plan(trial)], [trial.seed]).params
        model = sweep.model(WIDTH)
        model.load_state_dict({name: stack[0].detach() for name, stack in params.items()})
        first = train_offsets(sweep.corpus, sweep.protocol.train, trial.seed)[0]
        torch.testing.assert_close(trained.train_losses[0, place], model(x[first], label[first]))


def test_every_sample_is_drawn_once_before_any_is_drawn_again(prepare: Prepare) -> None:
    sweep = prepare(spec("Classifier", "as_dict"))
    size, train = len(sweep.corpus.train["x"]), sweep.protocol.train
    order = train_offsets(sweep.corpus, train, seed=0).flatten()
    assert size < len(order) < 2 * size, "a second epoch begins"
    assert sorted(order[:size].tolist()) == list(range(size))
    assert len(set(order[size:].tolist())) == len(order) - size
    longer = train_offsets(sweep.corpus, train.model_copy(update={"steps": 50}), seed=0)
    assert torch.equal(longer.flatten()[: len(order)], order), "it depends on seed and step alone"
    assert not torch.equal(order, train_offsets(sweep.corpus, train, seed=1).flatten())
    assert int(eval_offsets(sweep.corpus, train).max()) == len(sweep.corpus.eval["x"]) - 1


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("Denoiser", None), ("Plain", {"factory": "tests.proxies.sample_models:mixed"})],
)
def test_noise_is_the_same_side_by_side_and_one_by_one(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, kind: str, loss: dict[str, Any] | None
) -> None:
    """Captured too: every replay reads the numbers where they were copied to."""
    monkeypatch.setattr("mutransfer_cli.train.slots.captured", taped)
    sweep = prepare(spec(kind, "as_dict", loss))
    fused, apart, captured = (
        results(sweep, execution)
        for execution in (EAGER, ONE_BY_ONE, Execution(compiled=False, captured=True))
    )
    for trial, result in fused.items():
        torch.testing.assert_close(result.train_losses, apart[trial].train_losses)
        assert result.eval_loss == pytest.approx(apart[trial].eval_loss, rel=1e-5)
        torch.testing.assert_close(result.train_losses, captured[trial].train_losses)
        assert result.eval_loss == pytest.approx(captured[trial].eval_loss, rel=1e-5)


def results(sweep: Sweep, execution: Execution, slots: int = 4) -> dict[str, TrialResult]:
    found: dict[str, TrialResult] = {}
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus), execution)
    measured = () if execution.captured else (0, 3)
    trainer.run(sweep.jobs(sweep.trials[WIDTH]), slots, found.update, measured_steps=measured)
    return found


def test_noise_is_that_of_seed_and_step(prepare: Prepare) -> None:
    sweep = prepare(spec("Denoiser", "as_dict"))
    text, train = DeviceText.on(CPU, sweep.corpus), sweep.protocol.train
    engine = sweep.trainer(WIDTH, text).ensemble
    starts = torch.stack([train_offsets(sweep.corpus, train, seed) for seed in (0, 0, 1)])
    draws = engine.draws(text.batch(text.train, starts[0, 0], 1))
    assert [draw.function for draw in draws] == [torch.rand, torch.randn, torch.randint]
    batches = Batches(text, text.train, starts, 1, draws)
    batches.seeds = [0, 0, 1]
    batches.load([3, 3, 3])
    normal = batches.read(torch.tensor([3, 3, 3])).noise[1].clone()
    assert torch.equal(normal[0], normal[1]), "one seed, whatever the rate"
    assert not torch.equal(normal[0], normal[2])
    numbers = stream_generator(0, "noise:3")
    torch.rand(BATCH, 1, generator=numbers)
    assert torch.equal(normal[0], torch.randn(BATCH, 8, generator=numbers))
    batches.load([4, 3, 3])
    later = batches.read(torch.tensor([4, 3, 3])).noise[1]
    assert not torch.equal(later[0], normal[0])
    assert torch.equal(later[1:], normal[1:])


def test_a_trial_with_noise_is_the_plain_model_with_a_generator(prepare: Prepare) -> None:
    sweep = prepare(spec("Denoiser", "as_tuple"))
    trial = sweep.trials[WIDTH][4]
    trained = train_all(sweep, [trial], CPU)
    engine = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus)).ensemble
    params = engine.start([sweep.trial_plan(trial)], [trial.seed]).params
    model = sweep.model(WIDTH)
    model.load_state_dict({name: stack[0].detach() for name, stack in params.items()})
    first = train_offsets(sweep.corpus, sweep.protocol.train, trial.seed)[0]
    x, label = (torch.from_numpy(column)[first] for column in sweep.corpus.train)
    expected = model(x, label, generator=stream_generator(trial.seed, "noise:0"))
    torch.testing.assert_close(trained.train_losses[0, 0], expected)


@pytest.mark.parametrize("data", ["as_dict", "as_dataset"])
def test_streamed_samples_are_the_same_bit_for_bit(prepare: Prepare, data: str) -> None:
    sweep = prepare(spec("Denoiser", data))
    found = {}
    for streamed in (False, True):
        text = DeviceText.on(CPU, sweep.corpus)
        assert text.streamed is (data == "as_dataset"), "a Dataset is read on the host"
        text = replace(text, streamed=streamed or text.streamed)
        trainer, out = sweep.trainer(WIDTH, text), dict[str, TrialResult]()
        trainer.run(sweep.jobs(sweep.trials[WIDTH]), 4, out.update)
        found[streamed] = out
    for trial, result in found[False].items():
        assert torch.equal(result.train_losses, found[True][trial].train_losses)
        assert result.eval_loss == found[True][trial].eval_loss


def test_floats_have_the_type_of_the_weights(prepare: Prepare) -> None:
    raw = spec("Denoiser", "as_dict")
    raw["train"] |= {"precision": "fp64"}
    sweep = prepare(raw)
    assert train_all(sweep, sweep.trials[WIDTH][:2], CPU).train_losses.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "data", "loss", "sentence"),
    [
        ("Classifier", "as_tensor", None, r"^model: cannot be run on samples, a tensor \[2, 8\]"),
        ("Classifier", "nested", None, r"its forward needs x, label|cannot be run"),
        ("Plain", "as_dict", None, r"forward returned a tensor of shape \[2, 3\], expected its lo"),
        (
            "Plain",
            "as_dict",
            {"factory": "tests.proxies.sample_models:by_sample"},
            r"loss.factory tests.proxies.sample_models:by_sample: returned a tensor of shape \[2\]",
        ),
        (
            "Plain",
            "as_dict",
            LOSS | {"args": {"smothing": 0.1}},
            "is called with outputs, batch and loss.args .*unexpected keyword argument 'smothing'",
        ),
        ("Bernoulli", "as_dict", None, "bernoulli cannot be drawn from the generator ahead"),
        (
            "Raising",
            "as_dict",
            None,
            r"x \[2, 8\] float32, label \[2\] int64: ValueError: of the user .*models.py:\d+\)$",
        ),
    ],
)
def test_a_model_that_does_not_fit_its_samples_is_refused_in_a_sentence(
    prepare: Prepare, kind: str, data: str, loss: dict[str, Any] | None, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        prepare(spec(kind, data, loss))
    assert "\n" not in str(raised.value)


def test_arguments_that_the_samples_do_not_have_are_named(prepare: Prepare) -> None:
    raw = spec("Classifier", "unsigned")
    raw["data"]["factory"] = "tests.train.test_ensemble_samples:other_names"
    with pytest.raises(InputError, match=r"needs x, and the samples .* have image, label; give"):
        prepare(raw)
    raw["data"]["factory"] = "tests.train.test_ensemble_samples:alone"
    with pytest.raises(InputError, match=r"needs 2 arguments \(x, label\), .* are tuples of 1;"):
        prepare(raw)


def other_names() -> Any:
    return {"image": torch.zeros(300, 8), "label": torch.zeros(300, dtype=torch.int64)}


def alone() -> Any:
    return (torch.zeros(300, 8),)


def test_other_numbers_for_other_batches_are_refused(prepare: Prepare) -> None:
    with pytest.raises(InputError, match="asks its generator for numbers of shape"):
        prepare(spec("Unlike", "as_dict"))


def test_two_losses_are_the_same_loss(prepare: Prepare) -> None:
    """The loss of the example is the loss that autograd sees."""
    sweep = prepare(spec("Plain", "as_dict", LOSS | {"args": {"smoothing": 0.2}}))
    model = sweep.model(WIDTH)
    found: Tensor = sweep.example.run_for_loss(model)
    batch = sweep.example.batch
    expected = F.cross_entropy(model(batch["x"]), batch["label"], label_smoothing=0.2)
    torch.testing.assert_close(found, expected)


def test_the_flops_of_a_sample_are_those_that_torch_counts(prepare: Prepare) -> None:
    """Other widths have them in proportion to their matrices."""
    raw = spec("Classifier", "as_dict")
    raw["sweep"]["widths"] = [WIDTH, 4 * WIDTH]
    sweep = prepare(raw)
    matrices = {width: 8 * width + width**2 + 3 * width for width in (WIDTH, 4 * WIDTH)}
    assert sweep.sample_flops == 2 * matrices[WIDTH]
    assert sweep.cost(WIDTH).flops == 6 * matrices[WIDTH] * BATCH * STEPS
    without_first = {width: found - 8 * width for width, found in matrices.items()}
    growth = without_first[4 * WIDTH] / without_first[WIDTH]
    assert sweep.cost(4 * WIDTH).flops == pytest.approx(growth * sweep.cost(WIDTH).flops)


def test_a_trial_that_is_resumed_ends_as_one_that_was_not(prepare: Prepare) -> None:
    """Batches and noise depend on seed and step alone."""
    sweep = prepare(spec("Denoiser", "as_dict"))
    job = sweep.jobs(sweep.trials[WIDTH])[4]
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    whole, before, after = (trainer.slots([job], 1) for _ in range(3))
    for slots, steps in ((whole, STEPS), (before, 5)):
        for _ in range(steps):
            slots.step()
            slots.advance(1)
    kept = {name: stack[0].clone() for name, stack in before.state().items()}
    after.restore(0, kept, job, 5)
    for _ in range(STEPS - 5):
        after.step()
        after.advance(1)
    assert torch.equal(after.losses(0), whole.losses(0))
    assert after.evaluate() == whole.evaluate()
