"""Options that say who trains: worker processes of this machine, or tasks on a Ray cluster.

MERGED:
`mutransfer sweep-proxy`: a spec in, trial records out."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.console import Variant, note
from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    import torch

    from mutransfer_cli.spec.sweep import SweepSpec
    from mutransfer_cli.sweep.choice import Settings
    from mutransfer_cli.sweep.prepare import Sweep
    from mutransfer_cli.sweep.spawn import Started


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


Engine = Annotated[
    EngineName,
    typer.Option(help="Who trains: processes of this machine, or the workers of a Ray cluster."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that train. Default: one for each GPU, or without any for each CPU core.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster to join: auto or HOST:PORT. Default: Ray is started on this machine.",
    ),
]
NumGpus = Annotated[
    float | None,
    typer.Option(metavar="FLOAT", help="GPUs of each Ray task, at most 1. Default: 1."),
]
WorkerTimeout = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Give up on a worker after this long without a message."),
]


@dataclass(frozen=True)
class RayOptions:
    """The user's options for the cluster, with defaults."""

    address: str | None
    num_gpus: float


def ray_options(
    engine: EngineName, workers: int | None, address: str | None, num_gpus: float | None
) -> RayOptions | None:
    """None for the local engine.

    Raises:
        InputError: options of the one engine with the other, out of range, or Ray not installed.
    """
    if engine != EngineName.ray:
        for name, value in {"address": address, "num-gpus": num_gpus}.items():
            if value is not None:
                raise InputError(f"--{name}: is for --engine ray; add that, or leave it out")
        return None
    if workers is not None:
        raise InputError("--workers: is for --engine local; Ray starts its own")
    if num_gpus is not None and not 0 < num_gpus <= 1:
        raise InputError(f"--num-gpus {num_gpus:g}: expected more than 0 and at most 1")
    if importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray: ray is not installed; pip install 'mutransfer-cli[ray]'")
    return RayOptions(address, num_gpus or 1.0)


def refuse_timeout(seconds: float) -> None:
    """
    Raises:
        InputError: no time at all.
    """
    if not seconds > 0:
        raise InputError(f"--worker-timeout {seconds:g}: expected more than 0")


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Compile(StrEnum):
    auto = "auto"
    on = "on"
    off = "off"


def sweep_proxy(
    spec: Annotated[
        str, typer.Argument(help="Sweep spec: a YAML file, or the name of a shipped one.")
    ],
    variant: Variant = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the records. Default: runs/SPEC."
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    compile: Annotated[
        Compile,
        typer.Option(help="torch.compile; auto: on CUDA, where it saves more time than it takes."),
    ] = Compile.auto,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How often the trials in training are saved; 0 is never."
        ),
    ] = 60.0,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Train only every N-th trial, from the I-th on: one of N jobs, each with its own "
            "folder. Default folder: runs/SPEC-I-of-N.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what the sweep will cost.")
    ] = False,
    engine: Engine = EngineName.local,
    workers: Workers = None,
    worker_timeout: WorkerTimeout = 600.0,
    address: Address = None,
    num_gpus: NumGpus = None,
) -> None:
    """Train the proxies of a sweep, many at a time.

    Writes DIR/trials.jsonl (mutransfer.trial/1) and, when stdout is piped, the same records there;
    loss curves and what was measured in training (diagnostics.jsonl) lie beside it.
    Run the same command again to resume; more widths, rates or seeds are simply added.
    """
    from mutransfer_cli.spec.sources import load_spec, run_name

    if str(output) == "-":
        raise InputError("-o -: records need a folder; they go to stdout too when it is piped")
    cluster = ray_options(engine, workers, address, num_gpus)
    refuse_timeout(worker_timeout)
    part = None if shard is None else _parse_shard(shard)
    loaded, path = load_spec(spec, variant)
    name = run_name(spec, path, variant)
    if part is not None:
        name = f"{name}-{part[0]}-of-{part[1]}"
    if not dry_run:  # importing torch and reading the data take seconds
        note(f"{name}: {loaded.sweep.size} trials at {len(loaded.sweep.widths)} widths in all")

    with _early_workers(device, workers, loaded, dry_run or cluster is not None) as crew:
        from mutransfer_cli.sweep.choice import Settings
        from mutransfer_cli.sweep.local import worker_count
        from mutransfer_cli.sweep.prepare import Sweep

        def prepare() -> Sweep:
            sweep = Sweep.prepare(loaded, path.parent, note)
            if sweep.corpus.note:
                note(sweep.corpus.note)
            return sweep if part is None else sweep.shard(*part)

        folder = output or Path("runs") / name
        every = checkpoint_every or float("inf")
        settings = Settings(compile.value, loaded.deterministic, every, loaded.diagnostics)
        if cluster is not None and not dry_run:
            _run_on_ray(prepare(), folder, device, settings, cluster, worker_timeout)
            return
        if cluster is not None:
            note("the price is that of this machine; the cluster's workers may be others")
        here = _here(device, loaded)
        count = worker_count(workers, here, loaded.sweep.size)
        if dry_run:
            _print_price(prepare(), folder, here, count)
        else:
            _run_here(prepare, folder, here, count, settings, worker_timeout, crew)


def _early_workers(
    device: Device, asked: int | None, spec: SweepSpec, none_needed: bool
) -> AbstractContextManager[list[Started] | None]:
    """Worker processes that import torch while this one does; None where only torch can say how
    many are needed, or none is."""
    from mutransfer_cli.sweep.spawn import started, surely_cpu
    from mutransfer_cli.train.cgroups import usable_cores

    if none_needed or not surely_cpu(device.value):
        return nullcontext()
    return started("cpu", min(asked or usable_cores(), spec.sweep.size), note)


def _parse_shard(shard: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)/(\d+)", shard)
    part, parts = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"--shard {shard}: expected I/N with I from 1 to N, such as 3/8")
    return part, parts


def _here(device: Device, spec: SweepSpec) -> torch.device:
    from mutransfer_cli.train.device import choose_device, slow_precision

    chosen = choose_device(device.value, spec.train.precision, spec.deterministic)
    if slow := slow_precision(chosen, spec.train.precision):
        note(f"warning: {slow}")
    return chosen


def _run_here(
    prepare: Callable[[], Sweep],
    folder: Path,
    device: torch.device,
    count: int,
    settings: Settings,
    timeout: float,
    crew: list[Started] | None,
) -> None:
    from mutransfer_cli.cli.watch import Echo, train_here
    from mutransfer_cli.sweep.local import started_workers

    with started_workers(device, count, timeout, note, crew) as workers:
        train_here(prepare(), folder, device, workers, settings, Echo())


def _run_on_ray(
    sweep: Sweep,
    folder: Path,
    device: Device,
    settings: Settings,
    options: RayOptions,
    timeout: float,
) -> None:
    from mutransfer_cli.cli.watch import Echo, watch
    from mutransfer_cli.sweep.ray_launcher import choose_kind, connected, run
    from mutransfer_cli.sweep.store import RecordStore

    echo = Echo()
    with connected(options.address):
        kind = choose_kind(
            device.value, sweep.protocol.train.precision, options.address is not None
        )
        with RecordStore(folder, sweep.header(None)) as store:
            on_ray = partial(run, sweep, store, kind, options.num_gpus, settings, timeout)
            watch(sweep, store, echo, on_ray)


def _print_price(sweep: Sweep, folder: Path, device: torch.device, workers: int) -> None:
    from mutransfer_cli.cli.console import print_prices
    from mutransfer_cli.fit.breakers import axes_of, breakers, too_short
    from mutransfer_cli.spec.sources import TRIALS, read_records
    from mutransfer_cli.sweep.choice import price
    from mutransfer_cli.sweep.store import refuse_other_protocol

    if sweep.shapes:
        note("FLOPs and memory of an own model are estimates: attention is not counted")
    path = folder / TRIALS
    records = read_records(path) if path.exists() else None
    if records:
        refuse_other_protocol(folder, records.header.protocol, sweep.protocol)
    recorded = {record.trial: record for record in records.trials} if records else {}
    print_prices(price(sweep, recorded, device, workers), str(device), workers)
    axes = axes_of(trial.axes for trials in sweep.trials.values() for trial in trials)
    known = (sweep.protocol, list(sweep.trials), axes)
    for sentence in (*breakers(*known), *too_short(*known)):
        note(f"warning: {sentence}")
