"""A Hugging Face Llama, set up by the emitted file, trains as the rule says.

Measured in a plain loop with the same schedule and clipping (transformers 5.23, torch 2.13 on CPU),
means over seeds 0 to 2 after a sweep of widths 32 to 96: loss 2.603 at the emitted rates; 2.620 and
2.626 at half and twice these rates; 2.654 and 2.722 at a quarter and four times. Every seed alone
is best at the emitted rates, and seeds differ by 0.01. With Llama's own init (std 0.02) the loss is
2.813. The test takes about 200 seconds of one core.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, gather, train_offsets
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU, Result
from tests.recipe.formats.conftest import executed

transformers: Any = pytest.importorskip("transformers")

SEEDS = (0, 1)
NOISE = 0.01  # nats, between seeds
SPEC = """
schema: mutransfer.sweep/1
model: {family: transformer, depth: 2, head_size: 16}
data: {source: stdlib}
parameterization: {name: mup, base_width: 32}
optimizer: {name: adamw, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0}
train: {steps: 150, batch: 4, context: 32, warmup: 15, schedule: linear, clip: 1.0}
sweep:
  widths: [32, 48, 64]
  axes: {lr: {from: 2^-7.6, to: 2^-3.6, per_octave: 1}}
  seeds: [0, 1]
"""
LLAMA = {
    "model_type": "llama",
    "vocab_size": 256,
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def done(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


class Runs:
    """Runs of the Llama on the sweep's own data and schedule."""

    def __init__(self, run: Callable[..., Result], folder: Path) -> None:
        (folder / "spec.yaml").write_text(SPEC)
        (folder / "config.json").write_text(json.dumps(LLAMA))
        swept, fit = folder / "swept", folder / "exponents.yaml"
        done(run("sweep-proxy", folder / "spec.yaml", "-o", swept))
        done(run("fit-exponents", swept, "-o", fit))
        target = ("transfer", fit, "--model", folder / "config.json")
        self.emitted = executed(done(run(*target, "--to", "transformers")))
        self.recipe = load_recipe(io.StringIO(done(run(*target, "--fold"))))
        spec, found = load_spec(str(folder / "spec.yaml"))
        self.sweep, self.folder = Sweep.prepare(spec, found.parent), folder
        records = [json.loads(line) for line in (swept / "trials.jsonl").read_text().splitlines()]
        losses = [r["eval_loss"] for r in records if r["kind"] == "trial" and r["width"] == 64]
        self.widest_proxy = min(losses)

    def llama(self, seed: int) -> Any:
        torch.manual_seed(seed)
        config = transformers.AutoConfig.for_model(**LLAMA)
        return transformers.AutoModelForCausalLM.from_config(config)

    def loss(self, model: Any, optimizer: Any, seed: int, times: float = 1.0) -> float:
        """The loss on held-out text after training with all rates times a factor."""
        for group in optimizer.param_groups:
            group["lr"] *= times
        train, corpus = self.sweep.protocol.train, self.sweep.corpus
        text = DeviceText.on(CPU, corpus)
        tokens = gather(text.train, train_offsets(corpus, train, seed), train.context)
        arguments = transformers.TrainingArguments(
            output_dir=str(self.folder / "trainer"),
            max_steps=train.steps,
            per_device_train_batch_size=train.batch,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            seed=seed,
            **self.emitted["TRAINING_ARGUMENTS"],
        )
        rows = [{"input_ids": row, "labels": row} for row in tokens.flatten(0, 1)]
        made = (optimizer, None)
        transformers.Trainer(model, arguments, train_dataset=rows, optimizers=made).train()
        held_out = gather(text.eval, eval_offsets(corpus, train), train.context)
        with torch.no_grad():
            return float(torch.stack([loss_on(model, batch) for batch in held_out]).mean())

    def mean(self, times: float = 1.0) -> float:
        """The mean over seeds of Llamas that the emitted file sets up."""
        losses = []
        for seed in SEEDS:
            model = self.llama(seed)
            self.emitted["init_"](model)
            losses.append(self.loss(model, self.emitted["optimizer"](model), seed, times))
        return sum(losses) / len(SEEDS)


def loss_on(model: Any, batch: Tensor) -> Tensor:
    found: Tensor = model(input_ids=batch, labels=batch).loss
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_the_emitted_rates_are_best_and_the_init_is_the_recipes(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    runs = Runs(run, tmp_path)
    by_times = {times: runs.mean(times) for times in (1 / 4, 1 / 2, 1, 2, 4)}
    assert min(by_times, key=lambda times: by_times[times]) == 1, by_times
    assert by_times[1] < runs.widest_proxy, "wider is better"
    model = runs.llama(0)
    runs.recipe.init_(model)
    by_recipe = runs.loss(model, torch.optim.AdamW(runs.recipe.param_groups(model)), 0)
    assert by_times[1] == pytest.approx(by_recipe, abs=2 * NOISE)
    own = runs.llama(0)
    worse = runs.loss(own, runs.emitted["optimizer"](own), 0)
    assert worse > by_recipe + 10 * NOISE, "the init matters"
