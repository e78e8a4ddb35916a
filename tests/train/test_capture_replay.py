"""A step never asks the host and depends on tensors alone, as a CUDA graph requires; on a CPU."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.loop import TrialResult
from tests.conftest import CPU, TINY_MLP
from tests.proxies.options import OPTIONS
from tests.train.replay import AsksTheHost, Tape, launched, taped

Prepare = Callable[[dict[str, Any]], Sweep]
Change = dict[str, dict[str, Any]]
STEPS, SLOTS, WIDTH = 30, 3, 32
MEASURED = (0, 1, 5, STEPS)
# one diverges and frees its slot while the others train
SWEEP = {"widths": [WIDTH], "axes": {"lr": [2**-9, 2**-7, 2**-5, 1e300]}}
TRAIN = {"steps": STEPS, "eval_batches": 3, "clip": 0.5, "schedule": "cosine"}

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
CASES: dict[str, Change] = {
    **{
        name: {"optimizer": {"name": name}}
        for name in ("adamw", "adam", "adam_atan2", "lion", "sgd", "adafactor", "muon")
    },
    "weight decay": {"optimizer": {"name": "adamw", "weight_decay": 0.1}},
    "no clip, fp64": {"train": {"clip": None, "precision": "fp64"}},
    "linear": {"train": {"schedule": "linear"}},
    "wsd, bf16, z-loss": {"train": {"schedule": "wsd", "precision": "bf16", "z_loss": 1e-3}},
    **{
        name: {"model": OPTIONS[name]}
        for name in ("llama", "qk_norm with gains", "learned positions", "biases, multi-query")
    },
}


@pytest.fixture
def replayed(
    tiny: dict[str, Any], prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Train a spec with tapes and without, and compare everything bit for bit."""

    def results(raw: dict[str, Any], stand_in: Any, measured: tuple[int, ...]) -> dict[str, Any]:
        monkeypatch.setattr("mutransfer_cli.train.slots.captured", stand_in)
        sweep, found = prepare(raw), dict[str, TrialResult]()
        text = DeviceText.on(CPU, sweep.corpus)
        trainer = sweep.trainer(WIDTH, text, Execution(compiled=False, captured=True))
        trainer.run(
            sweep.jobs(sweep.trials[WIDTH][::-1]), SLOTS, found.update, measured_steps=measured
        )
        return {
            trial: (
                result.train_losses,
                result.eval_loss,
                {measurement.step: measurement.values for measurement in result.measured},
            )
            for trial, result in found.items()
        }

    def compare(raw: dict[str, Any], measured: tuple[int, ...] = ()) -> None:
        recorded = results(raw, taped, measured)
        torch.testing.assert_close(
            recorded, results(raw, launched, measured), rtol=0, atol=0, equal_nan=True
        )
        assert sum(not losses.isfinite().all() for losses, _, _ in recorded.values()) == 1

    return compare


def changed(raw: dict[str, Any], change: Change) -> dict[str, Any]:
    raw = copy.deepcopy(raw) | {"sweep": SWEEP}
    raw["train"] |= TRAIN
    for section, values in change.items():
        raw[section] = raw.get(section, {}) | values
    return raw


@pytest.mark.parametrize("case", CASES)
def test_a_replayed_step_is_the_step(
    tiny: dict[str, Any], replayed: Callable[..., None], case: str
) -> None:
    replayed(changed(tiny, CASES[case]))


def test_so_it_is_of_a_perceptron(replayed: Callable[..., None]) -> None:
    replayed(changed(TINY_MLP, {"model": {"depth": 2, "norm": "rms"}}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_so_it_is_of_a_hugging_face_model(
    tiny: dict[str, Any],
    replayed: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    """transformers asks whether a graph is being captured: yes, while the tape runs."""
    pytest.importorskip("transformers")
    monkeypatch.setattr(
        "torch.cuda.is_current_stream_capturing",
        lambda: isinstance(_get_current_dispatch_mode(), Tape),
    )
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    raw = changed(tiny, {"train": {"precision": precision}})
    replayed(raw | {"model": {"hf": "config.json"}})


def test_what_is_measured_of_a_replayed_step_is_what_is_measured_of_the_step(
    tiny: dict[str, Any], replayed: Callable[..., None]
) -> None:
    replayed(changed(tiny, {"optimizer": {"name": "adamw", "weight_decay": 0.1}}), MEASURED)


def test_a_step_that_asks_the_host_is_named() -> None:
    x = torch.ones(3)
    with pytest.raises(
        AsksTheHost, match=r"aten::index in .*test_capture_replay.py:\d+: .*x\[x > 0\]"
    ):
        taped(lambda: x[x > 0], None)


def test_what_python_froze_is_not_what_the_step_does() -> None:
    """The tape shows a step that takes a new number from Python each time."""
    count, total = [0], torch.zeros(())

    def step() -> None:
        count[0] += 1
        total.add_(count[0])

    tape, _ = taped(step, None)
    total.zero_()
    tape.replay()
    tape.replay()
    assert total == 8, "twice the number of the capture"
