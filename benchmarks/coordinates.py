"""Verdicts of the gate `coordinates` on correct and incorrect rules, and its run time.

Each case is the quickstart at depth 2, with some sections replaced, judged by `mutransfer check` in
its own process.

    python -m benchmarks.coordinates
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from mutransfer_cli.spec.sources import shipped_recipes

Parts = Mapping[str, Any]
FULL = {"lr_rule": "per_layer", "alignment": "full"}
TEACHER = {"source": "linear_teacher", "inputs": 64, "samples": 8000, "noise": 0.5}


@dataclass(frozen=True)
class Case:
    """A rule for the quickstart and its expected verdict.

    Attributes:
        lr: base learning rate; None is the middle of the quickstart's grid.
        expected: expected verdict.
    """

    title: str
    expected: str
    parts: Parts
    lr: float | None = None


def rule(name: str, **choices: Any) -> Parts:
    return {"parameterization": {"name": name, "base_width": 32, **choices}}


def heads(**choices: Any) -> Parts:
    return {"model": {"family": "transformer", "depth": 2, **choices}}


def perceptron(outputs: int, **choices: Any) -> Parts:
    """Return the sections of a perceptron trained on samples."""
    train = {"steps": 60, "batch": 32, "warmup": 6, "clip": None}
    model = {"family": "mlp", **choices}
    return {"model": model, "data": TEACHER | {"outputs": outputs}, "train": train}


CASES = (
    Case("mup, adamw", "pass", {}),
    Case("mup, lion", "pass", {"optimizer": {"name": "lion"}}, 2**-8),
    Case("mup, adam_atan2", "pass", {"optimizer": {"name": "adam_atan2"}}),
    Case("mup, muon", "pass", {"optimizer": {"name": "muon"}}, 2**-6),
    Case("mup, sgd", "pass", {"optimizer": {"name": "sgd"}}, 0.5),
    Case("standard, rates by layer", "pass", rule("standard", **FULL)),
    Case("ntk, rates by layer", "pass", rule("ntk", **FULL)),
    Case("mean_field, rates by layer", "pass", rule("mean_field", **FULL)),
    Case("standard, one rate", "fail", rule("standard", lr_rule="global")),
    Case("standard, rates without alignment", "fail", rule("standard", alignment="none")),
    Case("mup, heads that grow, 1/d_head", "pass", heads(heads=2)),
    Case(
        "mup, heads that grow, 1/sqrt(d_head)",
        "fail",
        heads(heads=2, attention_scale="1/sqrt(d_head)"),
    ),
    Case(
        "mup, preset llama",
        "pass",
        {**heads(preset="llama", head_size=16), **rule("mup", base_width=64)},
    ),
    Case("mup, perceptron of 16 outputs", "pass", perceptron(16)),
    Case("mup, perceptron of 64 outputs", "pass", perceptron(64)),
    Case("mup, two layers with norms, 64 outputs", "pass", perceptron(64, depth=2, norm="rms")),
    Case(
        "mup, sgd, two layers, 256 outputs",
        "pass",
        {**perceptron(256, depth=2), "optimizer": {"name": "sgd", "momentum": 0.9}},
        2**-5,
    ),
)


def spec_of(case: Case) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(shipped_recipes()["quickstart"].read_text())
    spec |= {**heads(), **case.parts}
    spec["sweep"] |= {"widths": [64, 128]}
    if case.lr is not None:
        spec["sweep"] |= {"axes": {"lr": [case.lr]}}
    return spec


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}, seconds of the whole command\n")
    print("| model and rule | expected | verdict | largest deviation of a slope | seconds |")
    print("|---|---|---|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            spec = Path(folder) / "spec.yaml"
            spec.write_text(yaml.safe_dump(spec_of(case)))
            started = time.perf_counter()
            command = [sys.executable, "-m", "mutransfer_cli", "check", str(spec), "--json"]
            done = subprocess.run(command, capture_output=True, text=True)
            seconds = time.perf_counter() - started
        if done.returncode not in (0, 3, 4):
            sys.exit(f"{case.title}: {done.stderr}")
        (gate,) = json.loads(done.stdout)["gates"]
        slopes = [m for m in gate["measures"] if m["value"] is not None]
        worst = max(slopes, key=lambda m: abs(m["value"] - m["expected"]) / m["tolerance"])
        quantity = worst["quantity"].removesuffix(", slope in width")
        where = f"{quantity}: {worst['value']:+.2f} ({worst['low']:+.2f} to {worst['high']:+.2f})"
        cells = (case.title, case.expected, gate["verdict"], where, f"{seconds:.0f}")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
