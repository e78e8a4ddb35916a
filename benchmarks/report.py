"""Output of the benchmark of fused sweeps: a table for people and a JSON line for programs."""

from __future__ import annotations

import importlib.metadata
import json
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import torch

from benchmarks.cases import Case
from benchmarks.contenders import DESCRIPTIONS, Name
from benchmarks.expected import expected
from mutransfer_cli.train.cost import trial_cost
from mutransfer_cli.train.device import device_name

STEPS_OF_A_TRIAL = 1000
RATIOS = ("d/a", "d/b", "d/c")


@dataclass
class Row:
    """Measurements of one part; lists and dictionaries are by contender.

    Attributes:
        slots: number of slots of (d).
        shared_by: number of processes of (c), and the contender that each of them trains as.
        steps: steps of one repetition.
        seconds: seconds per trial-step, one value per repetition.
        differences: largest relative difference from the fused losses.
        peak_flops: FLOP/s of a large matrix product in the run's precision.
        memory: peak bytes of one process on the device.
        setup_seconds: seconds before anything was timed, with compiled code in the cache.
        compile_seconds: seconds to the first step, in competing processes, with the cache as found.
        profile: kernels of the fused step: name, ms per step, share.
    """

    case: Case
    slots: int
    shared_by: tuple[int, Name]
    steps: dict[Name, int]
    seconds: dict[Name, list[float]]
    differences: dict[Name, float]
    peak_flops: float
    memory: dict[Name, int | None]
    setup_seconds: float
    compile_seconds: dict[Name, float] = field(default_factory=dict)
    profile: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def medians(self) -> dict[Name, float]:
        return {name: statistics.median(turns) for name, turns in self.seconds.items()}

    @property
    def best_alone(self) -> Name | None:
        """The faster contender of (a)."""
        alone: list[Name] = [name for name in self.seconds if name.startswith("a")]
        return min(alone, key=self.medians.__getitem__, default=None)

    @property
    def ratios(self) -> dict[str, float]:
        """Speedup of the fused sweep, median over the turns."""
        others = {"d/a": self.best_alone, "d/b": "b", "d/c": "c"}
        return {
            ratio: statistics.median(
                other / fused for other, fused in zip(self.seconds[name], fused_turns, strict=True)
            )
            for fused_turns in [self.seconds["d"]]
            for ratio, name in others.items()
            if name is not None and name in self.seconds
        }

    @property
    def predicted_memory(self) -> int:
        """Bytes that the program predicts for all slots."""
        return trial_cost(self.case.sweep().protocol, self.case.width).memory(self.slots)

    @property
    def share_of_peak(self) -> float:
        protocol = self.case.sweep().protocol
        flops = trial_cost(protocol, self.case.width).flops / protocol.train.steps
        return flops / self.medians["d"] / self.peak_flops

    @property
    def figures(self) -> dict[str, float]:
        return {**self.ratios, "share of peak": self.share_of_peak}

    def as_json(self) -> dict[str, object]:
        expectations = {name: asdict(expected(self.case, name)) for name in self.figures}
        return {
            **asdict(self),
            "trials_per_hour": {
                name: trials_per_hour(seconds) for name, seconds in self.medians.items()
            },
            "best_alone": self.best_alone,
            "ratios": self.ratios,
            "share_of_peak": self.share_of_peak,
            "predicted_memory": self.predicted_memory,
            "expected": expectations,
        }


def trials_per_hour(seconds_per_step: float) -> float:
    return 3600 / (seconds_per_step * STEPS_OF_A_TRIAL)


def environment(device: torch.device, precision: str) -> dict[str, str]:
    """Describe the machine and the versions on which the figures depend."""
    found = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "device": device_name(device)}
    found["precision"] = precision
    found["torch"] = torch.__version__
    if device.type == "cuda":
        with suppress(importlib.metadata.PackageNotFoundError):  # some builds rename it
            found["triton"] = importlib.metadata.version("triton")
        found["CUDA"] = str(torch.version.cuda)
    else:
        found["threads"] = str(torch.get_num_threads())
    return found


def print_report(rows: Sequence[Row], left_out: Sequence[str]) -> None:
    """Print Markdown to paste into RESULTS.md, and one line of JSON."""
    about: dict[str, str] = {}
    if rows:
        about = print_tables(rows)
    for sentence in left_out:
        print(f"Left out: {sentence}.")
    print(
        json.dumps(
            {"environment": about, "rows": [r.as_json() for r in rows], "left_out": left_out}
        )
    )


def print_tables(rows: Sequence[Row]) -> dict[str, str]:
    case = rows[0].case
    about = environment(case.device(), case.precision)
    names: list[Name] = sorted({name for row in rows for name in row.seconds})
    ratios = [ratio for ratio in RATIOS if any(ratio in row.ratios for row in rows)]
    print(", ".join(f"{key} {value}" if key != "date" else value for key, value in about.items()))
    print(f"{case.trials} trials, depth {case.depth}, heads of {case.head_size}.")
    for name in names:
        print(f"* {name}: {DESCRIPTIONS[name]}")
    print(
        f"\nTrials of {STEPS_OF_A_TRIAL} steps an hour, medians of interleaved repetitions. Ratios "
        "and share of the measured matrix peak: measured (predicted by a model; required). Memory: "
        "peak of d (predicted by the program), GB.\n"
    )
    header = [
        "vocab",
        "batch",
        "width",
        "slots",
        *names,
        *ratios,
        "of peak",
        "memory",
        "compile d, s",
    ]
    print(f"| {' | '.join(header)} |")
    print("|" + "---|" * len(header))
    for row in rows:
        print(f"| {' | '.join(cells(row, names, ratios))} |")
    print(f"\nLargest relative difference of losses before the timing: {worst_difference(rows)}.")
    for row in rows:
        for kernel, milliseconds, share in row.profile:
            print(f"{row.case.title}: {milliseconds:.3f} ms, {share:.0%} {kernel}")
    return about


def cells(row: Row, names: Sequence[Name], ratios: Sequence[str]) -> list[str]:
    case, medians = row.case, row.medians
    memory, compiling = row.memory["d"], row.compile_seconds.get("d")
    return [
        str(case.vocab),
        f"{case.batch} x {case.context}",
        str(case.width),
        str(row.slots),
        *(f"{trials_per_hour(medians[name]):.0f}" if name in medians else "-" for name in names),
        *(compared(row, ratio) for ratio in ratios),
        compared(row, "share of peak"),
        "-" if memory is None else f"{memory / 1e9:.1f} ({row.predicted_memory / 1e9:.1f})",
        "-" if compiling is None else f"{compiling:.0f}",
    ]


def compared(row: Row, figure: str) -> str:
    """Format a figure with its prediction and requirement."""
    if figure not in row.figures:
        return "-"
    value, held = row.figures[figure], expected(row.case, figure)
    form = "{:.0%}" if figure == "share of peak" else "{:.2f}"
    notes = [form.format(x) if x is not None else "-" for x in (held.predicted, held.required)]
    missed = ", missed" if held.required is not None and value < held.required else ""
    return form.format(value) + (f" ({'; '.join(notes)}{missed})" if notes != ["-", "-"] else "")


def worst_difference(rows: Sequence[Row]) -> str:
    worst = max(value for row in rows for value in row.differences.values())
    return f"{worst:.1e}"
