"""Exponent of the optimal base rate under Adam: four parameterizations, global and per-layer rates.

The proxies of the quickstart, through the commands as a user runs them. Each exponent is compared
with the derived one and with an earlier measurement on larger batches (16 x 64, widths 32, 64, 128,
150 steps, one seed, rates one octave apart). About ten minutes on two CPU cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
TOLERANCE = 0.25
PER_LAYER = {"from": "2^-8", "to": "2^-3.2", "per_octave": 1.25}
STEEP = {"from": "2^-9.5", "to": "2^-3.5", "per_octave": 1}
SHALLOW = {"from": "2^-8.5", "to": "2^-3.5", "per_octave": 1.2}


@dataclass(frozen=True)
class Case:
    """One sweep: its rule, its grid, the derived exponent and the earlier measurement."""

    parameterization: str
    lr_rule: str
    grid: dict[str, object]
    derived: float
    earlier: float


CASES = [
    Case("standard", "global", STEEP, -1.0, -1.00),
    Case("ntk", "global", SHALLOW, -0.5, -0.51),
    Case("mup", "global", STEEP, -1.0, -0.95),
    Case("mean_field", "global", SHALLOW, -0.5, -0.45),
    Case("standard", "per_layer", PER_LAYER, 0.0, 0.03),
    Case("ntk", "per_layer", PER_LAYER, 0.0, 0.02),
    Case("mup", "per_layer", PER_LAYER, 0.0, -0.08),
    Case("mean_field", "per_layer", PER_LAYER, 0.0, -0.08),
]


def mutransfer(*args: object) -> str:
    command = [sys.executable, "-m", "mutransfer_cli", *map(str, args)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """The fitted exponents document of one case."""
    spec = yaml.safe_load(QUICKSTART.read_text())
    spec["parameterization"] |= {"name": case.parameterization, "lr_rule": case.lr_rule}
    spec["sweep"]["axes"] = {"lr": case.grid}
    path = folder / f"{case.parameterization}-{case.lr_rule}.yaml"
    path.write_text(yaml.safe_dump(spec))
    records = folder / path.stem
    mutransfer("sweep-proxy", path, "-o", records)
    document: dict[str, Any] = json.loads(mutransfer("fit-exponents", records, "--json"))
    return document


def main() -> int:
    agreed = True
    lines = [
        "| parameterization | rates | derived | earlier | measured | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            axis = measure(case, Path(folder))["axes"]["lr"]
            assert axis["expected_exponent"] == case.derived
            x = axis["exponent"]
            agreed &= abs(x["value"] - case.earlier) <= TOLERANCE
            lines.append(
                f"| {case.parameterization} | {case.lr_rule} | {case.derived:g} "
                f"| {case.earlier:+.2f} | {x['value']:+.3f} | {x['low']:+.3f} to {x['high']:+.3f} |"
            )
    print("\n".join(lines))
    print(f"all within {TOLERANCE} of the earlier measurement: {'yes' if agreed else 'no'}")
    return 0 if agreed else 1


if __name__ == "__main__":
    raise SystemExit(main())
