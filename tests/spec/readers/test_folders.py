"""Folders with a file of results per run, Hydra's among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import load_table


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def job(root: Path, number: int, width: int, lr: float) -> str:
    """A job of a Hydra multirun, as hydra-core 1.3.8 lays it out."""
    folder = f"2026-11-30/19-02-17/{number}"
    config = f"model:\n  width: {width}\noptim:\n  lr: {lr}\n"
    write(root, f"{folder}/.hydra/config.yaml", config)
    write(root, f"{folder}/.hydra/overrides.yaml", f"- model.width={width}\n- optim.lr={lr}\n")
    write(root, f"{folder}/.hydra/hydra.yaml", "hydra: {}\n")
    write(root, f"{folder}/main.log", "done\n")
    return folder


def test_a_hydra_multirun(tmp_path: Path) -> None:
    for number, (width, lr) in enumerate([(64, 0.1), (64, 0.2), (128, 0.1)]):
        folder = job(tmp_path, number, width, lr)
        if number < 2:
            write(tmp_path, f"{folder}/metrics.json", json.dumps({"val_loss": 3.0 + number}))
    write(tmp_path, "2026-11-30/19-02-17/multirun.yaml", "hydra: {}\n")
    table = load_table(tmp_path)
    assert table.cells.drop(columns="run").to_dict("records") == [
        {"config.model.width": 64, "config.optim.lr": 0.1, "val_loss": 3.0},
        {"config.model.width": 64, "config.optim.lr": 0.2, "val_loss": 4.0},
    ]
    without = f"{tmp_path}: 1 runs without results are left out (2026-11-30/19-02-17/2)"
    assert table.notes == (without,)


def test_values_in_names_beside_a_log(tmp_path: Path) -> None:
    """A log of many steps keeps its rows; its own `lr`, of a schedule, is not the run's."""
    for width in (64, 128):
        path = f"width{width}_depth2_seed1_lr0.0625/log.csv"
        write(tmp_path, path, "step,lr,val_loss\n100,0.06,4\n200,0.01,3\n")
    cells = load_table(tmp_path, "width{width}_depth{depth}_seed{seed}_lr{lr}/log.csv").cells
    assert cells["width"].tolist() == ["128", "128", "64", "64"]
    assert cells["lr"].unique().tolist() == ["0.0625"]
    assert cells["file.lr"].tolist()[:2] == ["0.06", "0.01"]
    assert cells["step"].tolist()[:2] == ["100", "200"]
    assert cells.index[1] == "width128_depth2_seed1_lr0.0625/log.csv line 3"


def test_tables_of_a_folder_are_read_together(tmp_path: Path) -> None:
    write(tmp_path, "w64.csv", "width,lr,loss\n64,0.1,3\n")
    write(tmp_path, "w128.jsonl", '{"width": 128, "lr": 0.1, "loss": 2}\n')
    cells = load_table(tmp_path).cells
    assert cells["run"].tolist() == ["w128.jsonl", "w64.csv"]
    assert cells["width"].tolist() == [128, "64"]


def test_several_results_of_a_run_must_be_chosen(tmp_path: Path) -> None:
    for run in ("a", "b"):
        write(tmp_path, f"{run}/config.json", '{"width": 64, "lr": 0.1}')
        write(tmp_path, f"{run}/log.csv", "loss\n3\n")
        write(tmp_path, f"{run}/final.json", '{"loss": 2}')
    with pytest.raises(InputError, match=r"several files of results \(final.json, log.csv\)") as e:
        load_table(tmp_path)
    assert e.value.remedy == "path_pattern"
    cells = load_table(tmp_path, "*/final.json").cells
    assert cells["loss"].tolist() == [2, 2]
    assert cells["config.width"].tolist() == [64, 64]


def test_a_folder_without_runs_says_what_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors", "")
    with pytest.raises(InputError, match=r"holds no runs that can be read; give a folder of W&B"):
        load_table(tmp_path)
