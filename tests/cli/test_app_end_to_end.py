"""A user's own model and tokens end in the user's own training loop with the same losses.

The folder `own_folder` is the user's: its loop knows only torch, the model and the emitted file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, gather, train_offsets
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import draw
from tests.conftest import CPU, Result

Run = Callable[..., Result]

OWN = Path(__file__).parent / "own_folder"
WITHOUT_TOOL = (
    "import runpy, sys; sys.modules['mutransfer_cli'] = None; "
    "runpy.run_path('train.py', run_name='__main__')"
)
WIDTH, SEED = 32, 0
SPEC = """
schema: mutransfer.sweep/1
model: {factory: decoder:build, args: {ratio: 2, eps: 1e-5}}
data: {source: tokens, path: tokens.bin, dtype: uint16, vocab: 48}
parameterization: {name: mup, base_width: 16}
optimizer: {name: adamw, betas: [0.9, 0.95], eps: 1e-6, weight_decay: 0.5}
train: {steps: 40, batch: 8, context: 16, warmup: 5, eval_batches: 4, clip: CLIP}
sweep: {widths: WIDTHS, axes: {lr: LR}, seeds: [0]}
"""


@dataclass(frozen=True)
class Compared:
    """One trial of the engine and one run of the plain loop, of the same recipe."""

    folded: bool
    plan: dict[str, Any]
    record: dict[str, Any]
    curve: list[float]
    plain: dict[str, Any]


@pytest.fixture(params=["multipliers", "folded"])
def compared(
    request: pytest.FixtureRequest, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Compared:
    monkeypatch.chdir(tmp_path)
    for path in OWN.glob("*.py"):
        shutil.copy(path, tmp_path)
    write_tokens(tmp_path / "tokens.bin")
    # folded gradients have another norm, so clipping would act at another point, as the recipe says
    fold, clip = ([], "0.5") if request.param == "multipliers" else (["--fold-multipliers"], "null")
    grid = "{from: 2^-6, to: 2^-1, per_octave: 1.5}"
    (tmp_path / "spec.yaml").write_text(spec_of("[16, 24, 32]", grid, clip))
    done(run("sweep-proxy", "spec.yaml", "-o", "swept"))
    done(run("fit-exponents", "swept", "-o", "exponents.yaml"))
    recipe = ("transfer", "exponents.yaml", "--width", WIDTH, *fold)
    done(run(*recipe, "--to", "pytorch", "-o", "recipe.py"))
    base_lr = yaml.safe_load(done(run(*recipe)))["base_lr"]["value"]
    plan = done(run("rules", "spec.yaml", "--width", WIDTH, "--lr", base_lr, *fold, "--json"))
    (tmp_path / "at_recipe.yaml").write_text(spec_of(f"[{WIDTH}]", f"[{base_lr}]", clip))
    done(run("sweep-proxy", "at_recipe.yaml", "-o", "at_recipe"))
    record, curve = trial_of(tmp_path / "at_recipe")
    save_given(tmp_path / "given.pt")
    return Compared(bool(fold), json.loads(plan), record, curve, train_plainly(tmp_path))


def spec_of(widths: str, lr: str, clip: str) -> str:
    return SPEC.replace("WIDTHS", widths).replace("LR", lr).replace("CLIP", clip)


def done(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def write_tokens(path: Path) -> None:
    """Write bare uint16, as nanoGPT does. Each token is one of three that may follow the last."""
    generator, tokens = np.random.default_rng(0), [0]
    for step in generator.choice(3, 20_000, p=[0.6, 0.3, 0.1]):
        tokens.append((5 * tokens[-1] + 7 * int(step) + 1) % 48)
    np.array(tokens, dtype=np.uint16).tofile(path)


def trial_of(folder: Path) -> tuple[dict[str, Any], list[float]]:
    """The record and the curve of the trial at WIDTH."""
    lines = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    (record,) = (r for r in lines if r["kind"] == "trial" and r["width"] == WIDTH)
    curves = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    (curve,) = (c["train_loss"] for c in curves if c["trial"] == record["trial"])
    return record, curve


def save_given(path: Path) -> None:
    """Save what the engine draws from its seeds as data for the plain loop."""
    spec, found = load_spec("at_recipe.yaml")
    sweep = Sweep.prepare(spec, found.parent)
    plan, train = sweep.trial_plan(sweep.trials[WIDTH][0]), sweep.protocol.train
    text = DeviceText.on(CPU, sweep.corpus)
    first = sweep.trainer(WIDTH, text).ensemble.start([plan], [SEED]).params
    torch.save(
        {
            "arguments": {"width": WIDTH, "vocab": 48, "context": 16, "ratio": 2, "eps": 1e-5},
            "noise": dict(zip([p.name for p in plan], draw(plan, SEED), strict=True)),
            "kept": {p.name: first[p.name][0].detach() for p in plan if p.keeps_draw},
            "train": gather(text.train, train_offsets(sweep.corpus, train, SEED), train.context),
            "eval": gather(text.eval, eval_offsets(sweep.corpus, train), train.context),
            "warmup": train.warmup,
            "clip": train.clip,
        },
        path,
    )


def train_plainly(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", WITHOUT_TOOL]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_plain_loop_holds_the_plan_and_trains_as_the_engine(compared: Compared) -> None:
    planned = {
        p["name"]: {
            "lr": p["lr"],
            "weight_decay": p["weight_decay"]["lr_coupled"],
            "eps": p["eps"],
            "multiplier": p["multiplier"],
        }
        for p in compared.plan["parameters"]
    }
    assert compared.plain["held"] == planned, "to the last digit"
    multipliers = {values["multiplier"] for values in planned.values()}
    assert (multipliers == {1}) == compared.folded, "folded, the forward pass is the model's own"
    assert compared.plain["train_losses"] == pytest.approx(compared.curve, abs=1e-4)
    assert compared.plain["eval_loss"] == pytest.approx(compared.record["eval_loss"], abs=1e-4)
