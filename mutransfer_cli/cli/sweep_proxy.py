"""`mutransfer sweep-proxy`: read a spec, train its proxies, write their records."""

from __future__ import annotations

import importlib.util
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mutransfer_cli.cli.completion import spec_names
from mutransfer_cli.cli.console import Variant, note, warn
from mutransfer_cli.cli.next_command import refuse_all_but_spec
from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    import torch

    from mutransfer_cli.cli.progress import Screen
    from mutransfer_cli.spec.sweep import SweepSpec
    from mutransfer_cli.sweep.choice import Settings
    from mutransfer_cli.sweep.prepare import Sweep
    from mutransfer_cli.sweep.spawn import Started


Device = Literal["auto", "cpu", "cuda"]
Compile = Literal["auto", "on", "off"]
EngineName = Literal["local", "ray"]


def sweep_proxy(
    spec: Annotated[
        str,
        typer.Argument(
            help="Sweep spec: a YAML file, or the name of a shipped one.",
            autocompletion=spec_names,
        ),
    ],
    variant: Variant = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the records. Default: runs/SPEC."
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Device to train on.")] = "auto",
    compile: Annotated[
        Compile,
        typer.Option(help="torch.compile; auto: on CUDA, if it saves more time than it takes."),
    ] = "auto",
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="Interval for saving the trials in training; 0: never."
        ),
    ] = 60.0,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Train every N-th trial only, from the I-th: one of N jobs, each with a folder of "
            "its own. Default folder: runs/SPEC-I-of-N.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what the sweep will cost.")
    ] = False,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Who trains: processes of this machine, or the workers of a Ray cluster."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes that train. Default: one per GPU, or without GPU one per CPU core.",
        ),
    ] = None,
    worker_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Give up on a worker after this long without a message."
        ),
    ] = 600.0,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster to join: auto or HOST:PORT. Default: start Ray on this machine.",
        ),
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option(metavar="FLOAT", help="GPUs of each Ray task, at most 1. Default: 1."),
    ] = None,
) -> None:
    """Train the proxies of a sweep, many at a time.

    Writes DIR/trials.jsonl (mutransfer.trial/1) and, if stdout is piped, the same records to it.
    Loss curves (curves.jsonl) and measurements (diagnostics.jsonl) lie beside that file.
    Run the same command again to resume; more widths, rates or seeds are simply added.
    """
    from mutransfer_cli.spec.sources import load_spec, run_name

    if str(output) == "-":
        raise InputError("-o -: records need a folder; they go to stdout too when it is piped")
    cluster = ray_options(engine, workers, address, num_gpus)
    if not worker_timeout > 0:
        raise InputError(f"--worker-timeout {worker_timeout:g}: expected more than 0")
    part = None if shard is None else _parse_shard(shard)
    refuse_all_but_spec(spec)
    loaded, path = load_spec(spec, variant)
    name = run_name(spec, path, variant)
    if part is not None:
        name = f"{name}-{part[0]}-of-{part[1]}"
    asked = Asked(
        loaded,
        path.parent,
        part,
        output or Path("runs") / name,
        device,
        compile,
        checkpoint_every or float("inf"),
        worker_timeout,
    )
    if dry_run:
        _print_price(asked, workers, cluster is not None)
        return
    # importing torch and reading the data take seconds
    note(f"{name}: {loaded.sweep.size} trials at {len(loaded.sweep.widths)} widths in all")
    _run(asked, workers, cluster)


@dataclass(frozen=True)
class Asked:
    """A sweep as the user asks for it."""

    spec: SweepSpec
    spec_folder: Path
    """Folder that relative paths of the spec start from."""
    part: tuple[int, int] | None
    """I and N of a shard; None for the whole sweep."""
    folder: Path
    """Folder of the records."""
    device_name: Device
    compile_mode: Compile
    checkpoint_every: float
    worker_timeout: float

    def prepare(self) -> Sweep:
        """The sweep or its shard, with its data."""
        from mutransfer_cli.sweep.prepare import Sweep

        sweep = Sweep.prepare(self.spec, self.spec_folder, note)
        if sweep.corpus.note:
            note(sweep.corpus.note)
        return sweep if self.part is None else sweep.shard(*self.part)

    def settings(self) -> Settings:
        """Settings of the trainer, which are no part of a trial's identity."""
        from mutransfer_cli.sweep.choice import Settings

        return Settings(
            self.compile_mode,
            self.spec.deterministic,
            self.checkpoint_every,
            self.spec.diagnostics,
            self.worker_timeout,
        )

    def device(self) -> torch.device:
        """The device to train on; notes if it is slow in the spec's precision."""
        from mutransfer_cli.train.device import choose_device, slow_precision

        precision = self.spec.train.precision
        chosen = choose_device(self.device_name, precision, self.spec.deterministic)
        if slow := slow_precision(chosen, precision):
            warn(slow)
        return chosen


@dataclass(frozen=True)
class RayOptions:
    """Options of the cluster, with defaults."""

    address: str | None
    num_gpus: float


def ray_options(
    engine: EngineName, workers: int | None, address: str | None, num_gpus: float | None
) -> RayOptions | None:
    """Options of the cluster; None for the local engine.

    Raises:
        InputError: an option of the other engine or out of range, or Ray is not installed.
    """
    if engine != "ray":
        for name, value in {"address": address, "num-gpus": num_gpus}.items():
            if value is not None:
                raise InputError(f"--{name}: is for --engine ray; add that, or leave it out")
        return None
    if workers is not None:
        raise InputError("--workers: is for --engine local; Ray starts its own")
    if num_gpus is not None and not 0 < num_gpus <= 1:
        raise InputError(f"--num-gpus {num_gpus:g}: expected more than 0 and at most 1")
    if importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray: needs ray; run `pip install ray`")
    return RayOptions(address, num_gpus or 1.0)


def _parse_shard(shard: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)/(\d+)", shard)
    part, parts = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"--shard {shard}: expected I/N with I from 1 to N, such as 3/8")
    return part, parts


def _run(asked: Asked, workers: int | None, cluster: RayOptions | None) -> None:
    from mutransfer_cli.cli.progress import Screen, stopped
    from mutransfer_cli.sweep.stop import Interrupt

    with Interrupt(at_once=True):
        try:
            with Screen() as screen:
                if cluster is not None:
                    _run_on_ray(asked, cluster, screen)
                else:
                    _run_here(asked, workers, screen)
        except KeyboardInterrupt:
            raise stopped(_saved(asked.folder), asked.folder) from None


def _saved(folder: Path) -> int:
    """Number of finished trials in a folder."""
    from mutransfer_cli.spec.kinds import TRIALS
    from mutransfer_cli.spec.sources import read_records

    records = read_records(folder / TRIALS) if (folder / TRIALS).exists() else None
    return sum(r.status != "failed" for r in records.trials) if records else 0


def _run_here(asked: Asked, workers: int | None, screen: Screen) -> None:
    screen.says("starting workers")
    with _early_workers(asked, workers) as crew:
        from mutransfer_cli.cli.watch import Echo, train_here
        from mutransfer_cli.sweep.local import started_workers
        from mutransfer_cli.sweep.spawn import worker_count

        device = asked.device()
        count = worker_count(workers, device.type, asked.spec.sweep.size)
        with started_workers(device, count, note, crew) as started:
            screen.says("reading data and model")
            sweep, settings = asked.prepare(), asked.settings()
            train_here(sweep, asked.folder, device, started, settings, Echo(), screen)


def _early_workers(
    asked: Asked, workers: int | None
) -> AbstractContextManager[list[Started] | None]:
    """Worker processes that import torch while this one does; None if only torch can tell how many
    are needed."""
    from mutransfer_cli.sweep.spawn import started, surely_cpu, worker_count

    if not surely_cpu(asked.device_name):
        return nullcontext()
    return started("cpu", worker_count(workers, "cpu", asked.spec.sweep.size), note)


def _run_on_ray(asked: Asked, options: RayOptions, screen: Screen) -> None:
    screen.says("reading data and model")
    from mutransfer_cli.cli.watch import Echo, watch
    from mutransfer_cli.sweep.ray_launcher import choose_kind, connected, run
    from mutransfer_cli.sweep.store import RecordStore

    sweep, echo = asked.prepare(), Echo()
    screen.says("joining the cluster")
    with connected(options.address):
        joined, precision = options.address is not None, asked.spec.train.precision
        kind = choose_kind(asked.device_name, precision, joined)
        with RecordStore(asked.folder, sweep.header(None)) as store:
            on_ray = partial(run, sweep, store, kind, options.num_gpus, asked.settings())
            watch(sweep, store, echo, screen, on_ray, kind)


def _print_price(asked: Asked, workers: int | None, for_cluster: bool) -> None:
    from mutransfer_cli.cli.console import print_prices
    from mutransfer_cli.fit.breakers import ModelSeen, axes_of, breakers, too_short
    from mutransfer_cli.spec.kinds import TRIALS
    from mutransfer_cli.spec.sources import read_records
    from mutransfer_cli.sweep.choice import price
    from mutransfer_cli.sweep.spawn import worker_count
    from mutransfer_cli.sweep.store import refuse_other_protocol

    if for_cluster:
        note("the price is that of this machine; the cluster's workers may differ")
    device = asked.device()
    count = worker_count(workers, device.type, asked.spec.sweep.size)
    sweep, path = asked.prepare(), asked.folder / TRIALS
    if sweep.shapes:
        note("FLOPs and memory of your own model are estimates: attention is not counted")
        note("`mutransfer check SPEC --gates coordinates` measures whether the rule fits its code")
    records = read_records(path) if path.exists() else None
    if records:
        refuse_other_protocol(asked.folder, records.header.protocol, sweep.protocol)
    recorded = {record.trial: record for record in records.trials} if records else {}
    print_prices(price(sweep, recorded, device, count), str(device), count)
    axes = axes_of(trial.axes for trials in sweep.trials.values() for trial in trials)
    known = (sweep.protocol, list(sweep.trials), axes)
    model = ModelSeen(sweep.base_plan, sweep.attention)
    for sentence in (*breakers(*known, model), *too_short(*known)):
        warn(sentence)
