"""The folder of a user who follows the documentation: a model, records, tables of runs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mutransfer_cli.spec.records import Records
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import json_line
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU, invoke, tiny_in
from tests.made_up import Made

ROOT = Path(__file__).parents[1]
RUNS = {
    "my-sweep": (16, 32, 64, 96, 128),
    "quickstart": (16, 32, 64, 96, 128),
    "my-sweep-1-of-2": (16, 64),
    "my-sweep-2-of-2": (32, 128),
    "larger": (4096,),
}
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, vocab):
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.to_words = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        x = self.words(tokens)
        return self.to_words(x + self.down(torch.relu(self.up(x))))

def build(width, vocab=256):
    return Net(width, vocab)
"""
OPTIMIZER = """
import torch

def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3)
"""


def lay_out(folder: Path, protocol: str) -> None:
    """Write every file that the documented commands name: a model, its records, tables and results.

    Args:
        protocol: protocol of the tables, YAML.
    """
    raw = tiny_in(folder)
    (folder / "my_package").mkdir()
    (folder / "my_package" / "models.py").write_text(MODEL)
    (folder / "my_package" / "train.py").write_text(OPTIMIZER)
    raw["model"] = {"factory": "my_package.models:build"}
    raw["sweep"] = {"widths": [16], "axes": {"lr": [2**-x for x in range(2, 10)]}}
    (folder / "my-sweep.yaml").write_text(yaml.safe_dump(raw))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        header = Sweep.prepare(validated(SweepSpec, raw, "spec"), folder).header(CPU)
        for name, widths in RUNS.items():
            keep(folder / "runs" / name, Records(header, Made(widths=widths).trials()))
        for name in ("trials", "a", "b"):
            shutil.copy(folder / "runs" / "my-sweep" / "trials.jsonl", folder / f"{name}.jsonl")
        config = ROOT / "recipes" / "hf-llama-tiny" / "config.json"
        (folder / "target").mkdir()
        shutil.copy(config, folder / "target")
        shutil.copy(config, folder)
        own_tables(folder)
        (folder / "protocol.yaml").write_text(protocol)
        for line in (
            "fit-exponents runs/my-sweep -o exponents.yaml",
            "fit-exponents schedules.csv --by schedule --metric val_loss --protocol protocol.yaml"
            " -o by-schedule.yaml",
            "transfer exponents.yaml --model my_package.models:build --width 4096 -o recipe.yaml",
        ):
            assert invoke(*line.split()).exit_code == 0, line
    forget()


def keep(folder: Path, records: Records) -> None:
    folder.mkdir(parents=True)
    lines = [records.header, *records.trials]
    written = (json_line(line.model_dump(mode="json", by_alias=True)) for line in lines)
    (folder / "trials.jsonl").write_bytes(b"".join(written))


def own_tables(folder: Path) -> None:
    """Write the tables: runs.csv with its owner's column names, the others with ours."""
    runs, larger = (
        pd.DataFrame(
            {"width": trial.width, "lr": trial.lr, "loss": trial.eval_loss, "seed": trial.seed}
            for trial in Made(widths=widths).trials()
        )
        for widths in ((64, 128, 256, 512), (1024,))
    )
    own = {"width": "dim", "lr": "base_lr", "loss": "val_loss", "seed": "run"}
    runs.rename(columns=own).to_csv(folder / "runs.csv", index=False)
    runs.to_csv(folder / "table.csv", index=False)
    larger.to_csv(folder / "larger.csv", index=False)
    own_folders(folder, runs)
    schedules = [runs.assign(schedule=name) for name in ("cosine", "linear")]
    variants = pd.concat(schedules).assign(optimizer="muonh", depth=4)
    variants.to_csv(folder / "variants.csv", index=False)
    log = [runs.assign(step=step, loss=runs["loss"] + 1 - step / 100) for step in (50, 100)]
    pd.concat(log).to_csv(folder / "log.csv", index=False)
    attempts = [runs.assign(created_at=day, loss=runs["loss"] + 2 - day) for day in (1, 2)]
    pd.concat(attempts).to_csv(folder / "attempts.csv", index=False)
    scores = runs.assign(val_acc=1 - runs["loss"] / 10).drop(columns="loss")
    scores.to_csv(folder / "scores.csv", index=False)
    pd.concat(schedules).rename(columns={"loss": "val_loss"}).to_csv(
        folder / "schedules.csv", index=False
    )
    decays = [
        runs.assign(weight_decay=wd, loss=runs["loss"] + 0.01 * np.log2(wd / 0.1) ** 2)
        for wd in (0.025, 0.05, 0.1, 0.2, 0.4)
    ]
    pd.concat(decays).to_csv(folder / "decays.csv", index=False)
    best = pd.DataFrame({"width": [64, 128, 256, 512], "lr": [2**-6, 2**-6, 2**-5, 2**-6]})
    best.to_csv(folder / "optima.csv", index=False)


def own_folders(folder: Path, runs: pd.DataFrame) -> None:
    """Lay out the runs of one seed as a multirun of Hydra, and as logs in named folders."""
    first = runs[runs["seed"] == runs["seed"].iloc[0]]
    for number, run in enumerate(first.to_dict("records")):
        job = folder / "multirun" / "2026-11-30" / "12-00-00" / str(number)
        (job / ".hydra").mkdir(parents=True)
        settings = {"width": run["width"], "lr": run["lr"]}
        (job / ".hydra" / "config.yaml").write_text(yaml.safe_dump(settings))
        loss = None if pd.isna(run["loss"]) else run["loss"]
        (job / "metrics.json").write_text(json.dumps({"val_loss": loss}))
        log = folder / "logs" / f"width{run['width']}_lr{run['lr']}" / "log.csv"
        log.parent.mkdir(parents=True)
        log.write_text(f"val_loss\n{run['loss']}\n")


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
