"""The experiments of the papers: which there are, what is reported, and what was measured here.

python -m benchmarks.experiments run [NAME ...]   # the `cpu` variants not yet measured
python -m benchmarks.experiments table            # recipes/README.md from the records
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

from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.measurements import DIAGNOSTICS, read_diagnostics
from mutransfer_cli.spec.sources import read_records
from mutransfer_cli.strict import NonNegative, Number, Strict, validated

RECIPES = Path(__file__).parents[1] / "recipes"
LIST = Path(__file__).with_name("experiments.yaml")
MEASURED = RECIPES / "measured"
RUNS = MEASURED / "runs.json"
README = RECIPES / "README.md"
VARIANT = "cpu"

Mark = Literal["text", "figure", "derived", "second-hand", "ours"]


class Claim(Strict):
    """A paper's expectation of the sweep; `at` and one of the other fields are set.

    Attributes:
        exponent: of the best base lr in the width.
        drifts: it is not 0.
        lower_loss_than, same_loss_as: another experiment, in the wider half of the widths of both.
        best: the values of some axes in the trial of the lowest loss.
        spectrum: exponent in the width of the hidden matrices' top singular values at the end, at
            the base lr that is best at the widest width unless `at` holds one.
        at: values of axes to which the trials are confined.
    """

    exponent: Number | None = None
    drifts: bool = False
    lower_loss_than: str | None = None
    same_loss_as: str | None = None
    best: dict[AxisName, Number] | None = None
    spectrum: Number | None = None
    at: dict[AxisName, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def one_of_them(self) -> Claim:
        kinds = sorted(set(Claim.model_fields) - {"at"})
        if len(self.model_fields_set & set(kinds)) != 1:
            raise ValueError(f"give one of {', '.join(kinds)}")
        return self


class Experiment(Strict):
    """
    Attributes:
        spec: name of a shipped one.
        reported: what the source says, in a sentence.
        mark: whether that was read in the paper's text or figure, follows from its theory, is told
            by others, or is what we expect where no statement of the paper is known.
        small: whether the spec has the small variant; those without are not run here.
    """

    spec: str
    reported: str
    mark: Mark
    claim: Claim
    small: bool = True


class Paper(Strict):
    title: str
    rows: tuple[Experiment, ...]


class Experiments(Strict):
    papers: tuple[Paper, ...] = Field(min_length=1)


class Run(Strict):
    """One sweep as it was measured."""

    seconds: NonNegative
    date: str
    machine: str


@dataclass(frozen=True)
class Measured:
    """Records of an experiment, its last top singular values, and how they came to be."""

    records: Path
    spectrum: Path
    run: Run


def experiments() -> Experiments:
    return validated(Experiments, yaml.safe_load(LIST.read_text()), str(LIST))


def rows() -> list[Experiment]:
    return [row for paper in experiments().papers for row in paper.rows]


def runs() -> dict[str, Run]:
    found = json.loads(RUNS.read_text()) if RUNS.exists() else {}
    return {name: validated(Run, run, f"{RUNS}: {name}") for name, run in found.items()}


def measured(spec: str) -> Measured | None:
    run = runs().get(spec)
    if run is None:
        return None
    return Measured(MEASURED / f"{spec}.jsonl", MEASURED / f"{spec}.spectrum.jsonl", run)


def mutransfer(*args: object) -> None:
    command = [sys.executable, "-m", "mutransfer_cli", *map(str, args)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def train(spec: str, machine: str) -> None:
    """Runs the cpu variant and keeps its records, with what a claim wants of its diagnostics."""
    with_spectrum = any(row.claim.spectrum is not None for row in rows() if row.spec == spec)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        mutransfer("sweep-proxy", spec, "--variant", VARIANT, "-o", folder)
        seconds = round(time.perf_counter() - started, 1)
        target = MEASURED / f"{spec}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "trials.jsonl", target)
        if with_spectrum:
            keep_spectrum(Path(folder), target.with_suffix(".spectrum.jsonl"))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept: dict[str, Any] = {name: run.model_dump() for name, run in runs().items()}
    kept[spec] = {"seconds": seconds, "date": today, "machine": machine}
    RUNS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


def keep_spectrum(folder: Path, target: Path) -> None:
    """Save the top singular values at the end of every trial."""
    records = read_records(folder / "trials.jsonl")
    assert records is not None, "a sweep that ended has records"
    measurements = read_diagnostics(folder / DIAGNOSTICS, [t.trial for t in records.trials])
    last = {measurement.trial: measurement for measurement in measurements}
    kept = {"trial", "step", "top_singular_value"}
    target.write_text("".join(f"{m.model_dump_json(include=kept)}\n" for m in last.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("specs", nargs="*", metavar="NAME", help="default: all not yet measured")
    parser.add_argument("--machine", default="2 CPU cores", help="in words, for the table")
    args = parser.parse_args()
    if args.what == "run":
        known = dict.fromkeys(row.spec for row in rows() if row.small)
        for spec in args.specs or [s for s in known if measured(s) is None]:
            train(spec, args.machine)
    from benchmarks.experiments_table import table

    README.write_text(table(experiments()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
