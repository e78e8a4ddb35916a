"""Folders of sweeps that were never run, with records made from known bowls."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mutransfer_cli.check.measure import CHECK, CHECK_SCHEMA, Check, Gate, worst
from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.records import SweepHeader, TrialRecord, trial_hash
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.spec.yaml_io import dump

Loss = Callable[[int, float, float, int], float | None]
ROLES = {"embedding.weight": "embedding", "up.weight": "hidden", "readout.weight": "readout"}
WIDTHS = (16, 32, 64, 128)
RATES = [2.0**x for x in range(-9, -2)]


def bowl(width: int, lr: float, decay: float, seed: int, drift: float = 0.0) -> float:
    """A loss with optimum at lr 2^-6 * (width / 32)^drift and weight decay 1; noise of 0.002."""
    x = math.log2(lr) + 6 - drift * math.log2(width / 32)
    y = math.log2(decay) if decay else 0.0
    noise = 0.002 * math.sin(1e4 * (x + 3 * seed + width))
    return 2.0 + 8 / width + 0.04 * x * x + 0.03 * y * y + noise


def write_run(
    folder: Path,
    loss: Loss = bowl,
    widths: Sequence[int] = WIDTHS,
    rates: Sequence[float] = RATES,
    decays: Sequence[float] = (0.0,),
    measured: bool = True,
    module: str = "blocks.0",
    device: str = "cpu",
    gates: Sequence[Gate] = (),
) -> Path:
    """Write a folder with records, curves, measurements and a check.

    Args:
        loss: loss as a function of width, lr, weight decay and seed; None is a diverged run.
        module: module whose activations are measured.
    """
    folder.mkdir(parents=True)
    header = _header(len(decays) > 1, device)
    lines: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    diagnostics: list[dict[str, Any]] = []
    for width in widths:
        for lr in rates:
            for decay in decays:
                for seed in (0, 1):
                    found = loss(width, lr, decay, seed)
                    trial = _trial(header["protocol_hash"], width, lr, decay, seed, found)
                    lines.append(trial)
                    curves.append(_curve(trial["trial"], found))
                    diagnostics += _measurements(trial["trial"], width, module)
    beside = [("curves", curves), ("diagnostics", diagnostics)] if measured else []
    for kind, rows in [("trials", [header, *lines]), *beside]:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{kind}.jsonl").write_text(text)
    if gates:
        (folder / CHECK).write_text(dump(_check(gates)))
    return folder


def _check(gates: Sequence[Gate]) -> Check:
    verdict = worst(gate.verdict for gate in gates)
    return Check(
        schema_=CHECK_SCHEMA,
        tool_version="0",
        source="runs/mine",
        verdict=verdict,
        gates=tuple(gates),
    )


def _header(decayed: bool, device: str) -> dict[str, Any]:
    spec, _ = load_spec("quickstart")
    data = DataProtocol(source="stdlib", sha256="0" * 64, bytes=10**6, eval_fraction=0.1)
    protocol = Protocol.of(spec, data, 256).model_dump(mode="json")
    if decayed:
        protocol["parameterization"] |= {"decay_convention": "lr_coupled"}
    plan: Any = [
        {"name": key, "role": role, "shape": [32, 32], "growing_axes": [0, 1], "init_std": 0.1}
        for key, role in ROLES.items()
    ]
    whole = Protocol.model_validate(protocol)
    header = SweepHeader(
        schema_="mutransfer.trial/1",
        kind="sweep",
        protocol=whole,
        protocol_hash=whole.hash,
        base_plan=tuple(plan),
        environment={"device": device},
    )
    return header.model_dump(mode="json", by_alias=True)


def _trial(
    protocol: str, width: int, lr: float, decay: float, seed: int, loss: float | None
) -> dict[str, Any]:
    axes: Any = {"lr": lr, "weight_decay": decay}
    return TrialRecord(
        trial=trial_hash(protocol, width, seed, axes),
        width=width,
        seed=seed,
        lr=lr,
        weight_decay=decay,
        status="diverged" if loss is None else "ok",
        train_loss=loss,
        eval_loss=loss,
        diverged_at=7 if loss is None else None,
        steps=7 if loss is None else 20,
        tokens=100,
        flops=1.0,
        seconds=1.0,
        group="g",
        group_size=1,
        device="cpu",
        compiled=False,
    ).model_dump(mode="json", by_alias=True)


def _curve(trial: str, loss: float | None) -> dict[str, Any]:
    steps = [*range(1, 8 if loss is None else 21)]
    losses = [(loss or 3.0) + 3 / step for step in steps]
    return {"trial": trial, "step": steps, "train_loss": losses}


def _measurements(trial: str, width: int, module: str) -> list[dict[str, Any]]:
    """Measurements of activations that scale as width^0.5 after training."""
    return [
        {
            "trial": trial,
            "step": step,
            "alignment": {"readout.weight": 0.8},
            "top_singular_value": {"embedding.weight": 2.0, "up.weight": 3.0},
            "relative_update": {"up.weight": 0.01} if step else {},
            "activation_rms": {module: width**0.5 if step else 1.0},
            "activation_change_rms": {module: width**0.25} if step else {},
        }
        for step in (0, 10, 20)
    ]
