"""The experiments of the papers: which there are, what is reported, and what was measured here.

python -m tests.benchmarks.experiments run [NAME ...]   # the `cpu` variants not yet measured
python -m tests.benchmarks.experiments table            # recipes/README.md from the records
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from mutransfer_cli.files.strict import NonNegative, Number, Strict, validated

RECIPES = Path(__file__).parents[2] / "recipes"
LIST = Path(__file__).with_name("experiments.yaml")
MEASURED = RECIPES / "measured"
RUNS = MEASURED / "runs.json"
README = RECIPES / "README.md"
VARIANT = "cpu"

Mark = Literal["text", "figure", "derived", "second-hand"]


class Claim(Strict):
    """What a paper leads one to expect of the sweep; one of these.

    Attributes:
        exponent: of the best base lr in the width.
        drifts: it is not 0.
        lower_loss_than: another experiment, in the wider half of the widths both have.
    """

    exponent: Number | None = None
    drifts: bool = False
    lower_loss_than: str | None = None

    @model_validator(mode="after")
    def one_of_them(self) -> Claim:
        given = [self.exponent, self.drifts or None, self.lower_loss_than]
        if sum(one is not None for one in given) != 1:
            raise ValueError("give one of exponent, drifts, lower_loss_than")
        return self


class Experiment(Strict):
    """
    Attributes:
        spec: name of a shipped one.
        reported: what the source says, in a sentence.
        mark: whether that was read in the paper's text or figure, follows from its theory, or is
            told by others.
    """

    spec: str
    reported: str
    mark: Mark
    claim: Claim


class Paper(Strict):
    title: str
    rows: tuple[Experiment, ...]


class Experiments(Strict):
    papers: tuple[Paper, ...] = Field(min_length=1)


class Run(Strict):
    """Of one sweep, as it was measured."""

    seconds: NonNegative
    date: str
    machine: str


@dataclass(frozen=True)
class Measured:
    """Records of an experiment and how they came to be."""

    records: Path
    run: Run


def experiments() -> Experiments:
    return validated(Experiments, yaml.safe_load(LIST.read_text()), str(LIST))


def runs() -> dict[str, Run]:
    found = json.loads(RUNS.read_text()) if RUNS.exists() else {}
    return {name: validated(Run, run, f"{RUNS}: {name}") for name, run in found.items()}


def measured(spec: str) -> Measured | None:
    run = runs().get(spec)
    path = MEASURED / f"{spec}.jsonl"
    if run is None or not path.exists():
        return None
    return Measured(path, run)


def mutransfer(*args: object) -> None:
    command = [sys.executable, "-m", "mutransfer_cli", *map(str, args)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def train(spec: str, machine: str) -> None:
    """Runs the cpu variant and keeps its records."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        mutransfer("sweep-proxy", spec, "--variant", VARIANT, "-o", folder)
        seconds = round(time.perf_counter() - started, 1)
        target = MEASURED / f"{spec}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "trials.jsonl", target)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept: dict[str, Any] = {name: run.model_dump() for name, run in runs().items()}
    kept[spec] = {"seconds": seconds, "date": today, "machine": machine}
    RUNS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("specs", nargs="*", metavar="NAME", help="default: all not yet measured")
    parser.add_argument("--machine", default="2 CPU cores", help="in words, for the table")
    args = parser.parse_args()
    if args.what == "run":
        known = [row.spec for paper in experiments().papers for row in paper.rows]
        for spec in args.specs or [s for s in dict.fromkeys(known) if measured(s) is None]:
            train(spec, args.machine)
    from tests.benchmarks.experiments_table import table

    README.write_text(table(experiments()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
