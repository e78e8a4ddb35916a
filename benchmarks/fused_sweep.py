"""Compares the speed of trials trained together with other ways to train them (`make bench`).

Every contender trains the same trials, with the same first weights, rates and data; before
anything is timed, their losses must agree. Then they take turns on one machine in one run, and the
ratios of each turn are kept, so that a drifting machine speed does not matter. Filling a slot and
starting a trial are not timed for any contender.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import get_args

import torch

from benchmarks.cases import MOST_STEPS, Case
from benchmarks.contenders import Name
from benchmarks.report import Row, print_report
from benchmarks.workers import OutOfMemoryError, Pool, pool
from mutransfer_cli.train.cost import trial_cost

CHECKED_STEPS = 8
# largest relative difference of losses; bf16 products of other shapes are summed in other orders
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-3}
REPETITIONS, LEAST_REPETITIONS = 15, 3
PROBED_STEPS, PROBES = 5, 3
STEPS_BEFORE = CHECKED_STEPS + (PROBES + 1) * PROBED_STEPS  # steps before the timing
MOST_SECONDS = 1.0  # per contender and repetition
PROCESS_BYTES = 1_500_000_000  # taken by a process on CUDA besides its tensors


class LeftOutError(Exception):
    """Raised with the reason why a part, or one of its contenders, is not measured."""


class DisagreementError(Exception):
    """Raised if the losses of contenders disagree."""


@dataclass(frozen=True)
class Sizes:
    """Default sizes of the trials, and the default contenders."""

    widths: Sequence[int]
    vocab: Sequence[int]
    tokens: Sequence[str]
    trials: int
    depth: int
    head_size: int
    contenders: Sequence[Name]
    processes: int


ON_CUDA = Sizes(
    widths=[128, 256, 512, 1024],
    vocab=[256, 32768],
    tokens=["4x256", "16x256"],
    trials=32,
    depth=4,
    head_size=64,
    contenders=["a1", "a2", "b", "c"],
    processes=8,
)
ON_CPU = Sizes(
    widths=[32, 64, 128, 256],
    vocab=[256],
    tokens=["4x64"],
    trials=8,
    depth=2,
    head_size=16,
    contenders=["a1", "b"],
    processes=2,
)


@dataclass(frozen=True)
class Options:
    """The contenders, the device and the budget in seconds."""

    cases: list[Case]
    contenders: list[Name]
    processes: int
    budget: float
    profile: bool


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    parser.add_argument("--widths", type=int, nargs="+")
    parser.add_argument("--vocab", type=int, nargs="+")
    parser.add_argument("--tokens", nargs="+", help="batch x context of one trial, such as 16x256")
    parser.add_argument("--trials", type=int, help="number of trials, even")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--head-size", type=int)
    parser.add_argument("--contenders", nargs="+", choices=get_args(Name), metavar="NAME")
    parser.add_argument("--processes", type=int, help="processes of contender c")
    parser.add_argument("--budget", type=float, default=420, help="seconds for the whole benchmark")
    parser.add_argument("--profile", action="store_true", help="show kernels of the fused step")
    given = vars(parser.parse_args(arguments))
    said = {f.name: given[f.name] for f in fields(Sizes) if given[f.name] is not None}
    sizes = replace(ON_CUDA if given["device"] == "cuda" else ON_CPU, **said)
    if sizes.trials % 2:
        parser.error("--trials: each rate is trained with two seeds; give an even number")
    if given["device"] == "cpu" and "a2" in sizes.contenders:
        parser.error("--contenders: a2 is captured in a CUDA graph; leave it out on a CPU")
    cases = [
        Case(
            width=width,
            vocab=vocab,
            batch=int(batch),
            context=int(context),
            trials=sizes.trials,
            depth=sizes.depth,
            head_size=sizes.head_size,
            device_name=given["device"],
        )
        for vocab, tokens, width in product(sizes.vocab, sizes.tokens, sizes.widths)
        for batch, context in [tokens.split("x")]
    ]
    contenders: list[Name] = sorted({*sizes.contenders, "d"})
    return Options(cases, contenders, sizes.processes, given["budget"], given["profile"])


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    begun = time.monotonic()
    on_cuda = options.cases[0].device_name == "cuda"
    compiled = compile_all(options, begun + options.budget / 2) if on_cuda else None
    rows: list[Row] = []
    left_out: list[str] = []
    failed: list[str] = []
    setup = 0.0  # seconds that the previous part took before its timing
    for index, case in enumerate(options.cases):
        now = time.monotonic()
        left = begun + options.budget - now
        try:
            if compiled is not None and case not in compiled:
                raise LeftOutError("half of the budget went by before it was compiled")
            if left < setup:
                raise LeftOutError("the budget is spent")
            share = max(left / (len(options.cases) - index), setup)
            row = measure(case, options, now + share, left_out)
        except (LeftOutError, OutOfMemoryError) as error:
            left_out.append(f"{case.title}: {error}")
        except (DisagreementError, RuntimeError) as error:
            failed.append(f"{case.title}: {error}")
        else:
            row.compile_seconds = compiled[case] if compiled else {}
            setup = row.setup_seconds
            rows.append(row)
            print(f"{case.title}: {time.monotonic() - now:.0f} s", file=sys.stderr, flush=True)
    print_report(rows, left_out)
    if failed:
        raise SystemExit("\n".join(failed))


def compile_all(options: Options, end: float) -> dict[Case, dict[Name, float]]:
    """Compile into the cache, in parallel processes, until `end`; return the seconds of each part.

    These are wall times of competing processes; with a warm cache they are short.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    free, _ = torch.cuda.mem_get_info()
    seconds: dict[Case, dict[Name, float]] = {}
    # predictions count activations in float32; autocast halves most of them
    for batch in batches(options, 1.4 * free, os.cpu_count() or 1):
        if time.monotonic() > end:
            break
        with ExitStack() as stack:
            for made in [stack.enter_context(pool(name, case, name)) for case, name in batch]:
                found = seconds.setdefault(made.case, {})
                try:
                    found[made.name] = made.wait().build_seconds
                except (OutOfMemoryError, RuntimeError):
                    continue  # the part itself will fail in the same way and report it
    return seconds


def batches(options: Options, memory: float, most: int) -> Iterator[list[tuple[Case, Name]]]:
    """Split jobs into batches that compile at once within the given processes and memory."""
    batch: list[tuple[Case, Name]] = []
    used = 0
    for case, name in product(options.cases, options.contenders):
        if name not in ("a1", "a2", "d"):
            continue
        needed = predicted_memory(case, case.trials if name == "d" else 1)
        if batch and (used + needed > memory or len(batch) == most):
            yield batch
            batch, used = [], 0
        batch.append((case, name))
        used += needed
    yield batch


def predicted_memory(case: Case, slots: int) -> int:
    return trial_cost(case.sweep().protocol, case.width).memory(slots)


def measure(case: Case, options: Options, end: float, left_out: list[str]) -> Row:
    """Measure one part and return its row.

    Args:
        end: time by which the part should end, on the monotonic clock.
        left_out: receives a sentence about each contender that cannot be measured.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        pools: dict[Name, Pool] = {
            name: stack.enter_context(pool(name, case, name))
            for name in options.contenders
            if name != "c"
        }
        for made in pools.values():
            made.wait()
        reference = pools["d"].losses(CHECKED_STEPS)
        differences = check_losses(case, reference, pools)
        shared_by = (options.processes, best_alone(pools))
        if "c" in options.contenders:
            try:
                refuse_too_many(case, options.processes, pools["d"])
                shared = stack.enter_context(pool("c", case, shared_by[1], options.processes))
                differences |= check_losses(case, reference, {"c": shared.wait()})
                pools["c"] = shared
            except (LeftOutError, OutOfMemoryError) as error:
                left_out.append(f"{case.title}, contender c: {error}")
        setup_seconds = time.monotonic() - begun
        steps, seconds = take_turns(pools, end)
        row = Row(
            case=case,
            slots=pools["d"].side_by_side,
            shared_by=shared_by,
            steps=steps,
            seconds=seconds,
            differences=differences,
            memory={name: made.ask("peak_memory") for name, made in pools.items()},
            peak_flops=pools["d"].ask("matrix_peak"),
            setup_seconds=setup_seconds,
        )
        if options.profile:
            try:
                row.profile = pools["d"].ask("profile")
            except RuntimeError as error:
                left_out.append(f"{case.title}, profile: {error}")
    return row


def check_losses(
    case: Case, reference: torch.Tensor, pools: Mapping[Name, Pool]
) -> dict[Name, float]:
    """Return each contender's largest relative difference from the fused losses.

    Raises:
        DisagreementError: The losses differ, or agreement would prove nothing.
    """
    tolerance = LOSS_TOLERANCE[case.precision]
    moved = float((reference[:, 0] - reference[:, -1]).abs().min() / reference[:, 0].mean())
    if not moved > 2 * tolerance:
        raise DisagreementError(f"a loss moved by {moved:.1e} only: agreement would prove nothing")
    differences: dict[Name, float] = {}
    for name, made in pools.items():
        losses = reference if name == "d" else made.losses(CHECKED_STEPS)
        differences[name] = float(((losses - reference) / reference).abs().max())
        if not differences[name] <= tolerance:
            raise DisagreementError(
                f"losses of {name} differ from the fused ones by "
                f"{differences[name]:.1e}, more than {tolerance:g}: it trains something else"
            )
    return differences


def best_alone(pools: Mapping[Name, Pool]) -> Name:
    """Return the contender of (a) that a short timing finds fastest; plain eager without any."""
    alone = [name for name in pools if name.startswith("a")] or ["b"]
    looks = {name: min(pools[name].seconds(PROBED_STEPS) for _ in range(PROBES)) for name in alone}
    return min(alone, key=lambda name: looks[name])


def refuse_too_many(case: Case, processes: int, fused: Pool) -> None:
    if case.device_name == "cpu":
        return
    needed = processes * (PROCESS_BYTES + 2 * predicted_memory(case, 1))
    free = fused.ask("free_memory")
    if needed > free:
        raise LeftOutError(
            f"{processes} processes need about {needed / 1e9:.0f} GB, {free / 1e9:.0f} are free"
        )


def take_turns(
    pools: Mapping[Name, Pool], end: float
) -> tuple[dict[Name, int], dict[Name, list[float]]]:
    """Return each contender's steps per repetition and its seconds per trial-step in every one."""
    walls = {name: made.seconds(PROBED_STEPS) * made.side_by_side for name, made in pools.items()}
    left = end - time.monotonic()
    repetitions = min(REPETITIONS, int(left / sum(walls.values())))
    if repetitions < LEAST_REPETITIONS:
        raise LeftOutError(f"{left:.0f} s are left, which is too little")
    slot = min(MOST_SECONDS, left / repetitions / len(pools))
    most = (MOST_STEPS - STEPS_BEFORE) // repetitions
    steps = {name: max(1, min(most, int(slot / wall))) for name, wall in walls.items()}
    seconds: dict[Name, list[float]] = {name: [] for name in pools}
    for repetition in range(repetitions):
        if repetition >= LEAST_REPETITIONS and time.monotonic() > end:
            break  # the machine has slowed down
        for name in list(pools)[:: -1 if repetition % 2 else 1]:
            seconds[name].append(pools[name].seconds(steps[name]))
    return steps, seconds


if __name__ == "__main__":
    main()
