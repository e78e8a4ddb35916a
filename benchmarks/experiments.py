"""The experiments of the papers: their list, the reports, and the measurements made here.

    python -m benchmarks.experiments run [NAME ...]   # the `cpu` variants not yet measured
    python -m benchmarks.experiments table            # recipes/README.md from the records

`run everett/adam-full-mup` trains that spec (again), puts its records into
`recipes/measured/everett.zip`, notes the time in `runs.json` and writes the README. An archive is
read with any unzip: `unzip -p recipes/measured/everett.zip adam-full-mup.jsonl`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.measurements import DIAGNOSTICS, DiagnosticsRecord, read_diagnostics
from mutransfer_cli.spec.records import Records, parse_records
from mutransfer_cli.spec.sources import read_records
from mutransfer_cli.strict import NonNegative, Number, Strict, own_line, validated

RECIPES = Path(__file__).parents[1] / "recipes"
LIST = Path(__file__).with_name("experiments.yaml")
MEASURED = RECIPES / "measured"
RUNS = MEASURED / "runs.json"
README = RECIPES / "README.md"
VARIANT = "cpu"

Mark = Literal["text", "figure", "derived", "second-hand", "ours"]


class Claim(Strict):
    """A paper's statement about a sweep; exactly one field besides `at` is set."""

    exponent: Number | None = None
    """Exponent of the width in the best base lr."""
    drifts: bool = False
    """That exponent is not 0."""
    lower_loss_than: str | None = None
    """Name of an experiment with a higher loss, in the wider half of the widths of both."""
    same_loss_as: str | None = None
    """Name of an experiment with the same loss, in the wider half of the widths of both."""
    best: dict[AxisName, Number] | None = None
    """Values of some axes in the trial of the lowest loss."""
    spectrum: Number | None = None
    """Exponent of the width in the hidden matrices' top singular values at the end, at the base lr
    that is best at the widest width unless `at` gives one."""
    at: dict[AxisName, Number] = Field(default_factory=dict)
    """Values of axes that the trials are restricted to."""

    @model_validator(mode="after")
    def one_of_them(self) -> Claim:
        kinds = sorted(set(Claim.model_fields) - {"at"})
        if len(self.model_fields_set & set(kinds)) != 1:
            raise ValueError(f"give one of {', '.join(kinds)}")
        return self


class Experiment(Strict):
    """One statement of a source about one shipped spec."""

    spec: str
    """Name of the spec."""
    reported: str
    """The statement, in words."""
    mark: Mark
    """Where it comes from: the paper's text or figure, derived from its theory, second-hand, or
    ours: what we expect where no statement of the paper is known."""
    claim: Claim
    """The statement, to be checked."""
    small: bool = True
    """Whether the spec has the small variant; those without are not run here."""


class Paper(Strict):
    """A paper and its experiments."""

    title: str
    rows: tuple[Experiment, ...]


class Experiments(Strict):
    """All experiments, as listed in `experiments.yaml`."""

    papers: tuple[Paper, ...] = Field(min_length=1)


class Run(Strict):
    """Date, machine and duration (seconds) of the training of a sweep."""

    seconds: NonNegative
    date: str
    machine: str


@dataclass(frozen=True)
class Measured:
    """An experiment as measured here: its records and the run that made them."""

    spec: str
    run: Run

    @property
    def records(self) -> Records:
        lines = packed(self.spec, "jsonl").splitlines(keepends=True)
        records = parse_records(lines, f"{archive(self.spec)}: {self.spec}")
        assert records is not None, "measured records are whole"
        return records

    def spectrum(self, trials: Collection[str]) -> list[DiagnosticsRecord]:
        """The last top singular values of some trials, in the order of `trials`."""
        lines = packed(self.spec, "spectrum.jsonl").splitlines()
        read = (own_line(DiagnosticsRecord, line) for line in lines)
        found = {record.trial: record for record in read if record is not None}
        return [found[trial] for trial in trials if trial in found]


def experiments() -> Experiments:
    return validated(Experiments, yaml.safe_load(LIST.read_text()), str(LIST))


def rows() -> list[Experiment]:
    return [row for paper in experiments().papers for row in paper.rows]


def runs() -> dict[str, Run]:
    found = json.loads(RUNS.read_text())
    return {name: validated(Run, run, f"{RUNS}: {name}") for name, run in found.items()}


def measured(spec: str) -> Measured | None:
    run = runs().get(spec)
    return None if run is None else Measured(spec, run)


def archive(spec: str) -> Path:
    """Path of the archive with the measurements of a paper."""
    return MEASURED / f"{spec.partition('/')[0]}.zip"


def member(spec: str, kind: str) -> str:
    return f"{spec.partition('/')[2]}.{kind}"


def packed(spec: str, kind: str) -> bytes:
    """Read a spec's records (kind `jsonl`) or top singular values (`spectrum.jsonl`)."""
    with zipfile.ZipFile(archive(spec)) as source:
        return source.read(member(spec, kind))


def pack(spec: str, kind: str, content: bytes) -> None:
    """Put measurements into the paper's archive, replacing earlier ones of the same spec.

    Members are sorted and carry no dates, so the same content makes the same file.
    """
    target, members = archive(spec), {member(spec, kind): content}
    if target.exists():
        with zipfile.ZipFile(target) as source:
            members = {name: source.read(name) for name in source.namelist()} | members
    with zipfile.ZipFile(target, "w") as archived:
        for name, data in sorted(members.items()):
            archived.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, compresslevel=9)


def mutransfer(*args: object) -> None:
    command = [sys.executable, "-m", "mutransfer_cli", *map(str, args)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def train(spec: str, machine: str) -> None:
    """Train the cpu variant and keep its records, with the diagnostics that a claim needs."""
    with_spectrum = any(row.claim.spectrum is not None for row in rows() if row.spec == spec)
    with tempfile.TemporaryDirectory() as name:
        folder, started = Path(name), time.perf_counter()
        mutransfer("sweep-proxy", spec, "--variant", VARIANT, "-o", folder)
        seconds = round(time.perf_counter() - started, 1)
        pack(spec, "jsonl", (folder / "trials.jsonl").read_bytes())
        if with_spectrum:
            pack(spec, "spectrum.jsonl", last_singular_values(folder))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept: dict[str, Any] = {name: run.model_dump() for name, run in runs().items()}
    kept[spec] = {"seconds": seconds, "date": today, "machine": machine}
    RUNS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


def last_singular_values(folder: Path) -> bytes:
    """The top singular values of every trial at its end, as JSON lines."""
    records = read_records(folder / "trials.jsonl")
    assert records is not None, "a sweep that ended has records"
    measurements = read_diagnostics(folder / DIAGNOSTICS, [t.trial for t in records.trials])
    last = {measurement.trial: measurement for measurement in measurements}
    kept = {"trial", "step", "top_singular_value"}
    return "".join(f"{m.model_dump_json(include=kept)}\n" for m in last.values()).encode()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("specs", nargs="*", metavar="NAME", help="default: all not yet measured")
    parser.add_argument("--machine", default="2 CPU cores", help="description for the table")
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
