from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutransfer_cli.data.corpus import Corpus, DeviceText, check_size, eval_offsets, train_offsets
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.data.synthetic import teacher
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import LinearTeacherData
from mutransfer_cli.spec.sweep import TrainSpec
from tests.conftest import CPU
from tests.data.written import Array

INPUTS, OUTPUTS = 6, 3
TRAIN = TrainSpec(steps=20, batch=8, context=1, eval_batches=4)


def spec(**keys: Any) -> LinearTeacherData:
    raw = {"source": "linear_teacher", "inputs": INPUTS, "outputs": OUTPUTS, "samples": 10_000}
    return LinearTeacherData.model_validate(raw | keys)


def corpus(**keys: Any) -> Corpus:
    return load_corpus(spec(**keys), Path())


def samples(**keys: Any) -> tuple[Array, Array]:
    """x [samples, inputs] and y [samples, outputs]."""
    found = corpus(**keys)
    rows = np.concatenate([found.train, found.eval])
    return rows[:, :INPUTS], rows[:, INPUTS:]


def test_they_follow_the_seed_alone() -> None:
    x, y = samples(seed=3)
    assert (x.shape, y.shape) == ((10_000, INPUTS), (10_000, OUTPUTS))
    longer_x, longer_y = samples(seed=3, samples=12_345)
    assert np.array_equal(x, longer_x[:10_000])
    assert np.array_equal(y, longer_y[:10_000])
    assert not np.array_equal(x, samples(seed=4)[0])
    assert not torch.equal(teacher(spec(seed=3)), teacher(spec(seed=4)))


def test_inputs_have_variance_one_and_targets_that_of_signal_and_noise() -> None:
    x, y = samples(inputs=INPUTS, noise=0.5, samples=50_000)
    assert float(x.var()) == pytest.approx(1, rel=0.02)
    noise = y - x @ teacher(spec()).numpy().T
    assert float(noise.var()) == pytest.approx(0.25, rel=0.02)
    many = spec(inputs=64, outputs=256)
    assert float(teacher(many).square().sum(1).mean()) == pytest.approx(1, rel=0.05)


def test_least_squares_reaches_the_floor_and_nothing_else_is_told() -> None:
    """The eval loss is noise^2 plus the error of 6 weights per output, known from 9,000 samples."""
    found = corpus(noise=0.2)
    train, unseen = torch.from_numpy(found.train), torch.from_numpy(found.eval)
    weights = torch.linalg.lstsq(train[:, :INPUTS], train[:, INPUTS:]).solution
    error = (unseen[:, :INPUTS] @ weights - unseen[:, INPUTS:]).square().mean()
    assert float(error) == pytest.approx(0.2**2, rel=0.05)
    assert "no mean squared error stays below that of its noise, 0.04" in found.note


def test_a_run_sees_no_sample_twice_and_a_seed_fixes_the_order() -> None:
    found = corpus()
    offsets = train_offsets(found, TRAIN, seed=1)
    assert offsets.shape == (TRAIN.steps, TRAIN.batch)
    assert len(set(offsets.flatten().tolist())) == TRAIN.steps * TRAIN.batch
    assert torch.equal(offsets, train_offsets(found, TRAIN, seed=1))
    assert not torch.equal(offsets, train_offsets(found, TRAIN, seed=2))
    fixed = eval_offsets(found, TRAIN)
    assert (int(fixed.min()), int(fixed.max())) == (0, len(found.eval) - 1)
    assert len(set(fixed.flatten().tolist())) == TRAIN.eval_batches * TRAIN.batch


def test_a_batch_is_rows() -> None:
    found = corpus()
    text = DeviceText.on(CPU, found)
    batch = text.gather(text.train, torch.tensor([[5, 7], [9, 0]]), context=1)
    assert batch.shape == (2, 2, INPUTS + OUTPUTS)
    assert np.array_equal(batch[1, 0].numpy(), found.train[9])


def test_too_few_samples_are_refused() -> None:
    few = r"the train part has 90 samples and needs at least 160 for 20 steps of batch 8, in which"
    with pytest.raises(InputError, match=few):
        check_size(corpus(samples=100), TRAIN)
    with pytest.raises(InputError, match=r"the eval part has 20 samples and needs at least 32 "):
        check_size(corpus(samples=200), TRAIN)
    check_size(corpus(samples=320), TRAIN)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("noise", -1, "noise"),
        ("inputs", 0, "inputs"),
        ("samples", 10**9, r"samples: 1000000000 of 6 \+ 3 values .* 36 GB; give fewer"),
    ],
)
def test_impossible_values_are_refused(key: str, value: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        spec(**{key: value})
