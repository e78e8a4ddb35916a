"""`mutransfer sweep-proxy`: a spec in, trial records out."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.console import note
from mutransfer_cli.errors import InputError, SweepIncomplete, SweepInterrupted

if TYPE_CHECKING:
    import torch

    from mutransfer_cli.sweep.choice import Settings
    from mutransfer_cli.sweep.prepare import Sweep
    from mutransfer_cli.sweep.store import RecordStore


BLOCK = 1 << 20


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
) -> None:
    """Train the proxies of a sweep, many at a time.

    Writes DIR/trials.jsonl (mutransfer.trial/1) and, when stdout is piped, the same records there.
    Run the same command again to resume; more widths, rates or seeds are simply added.
    """
    from mutransfer_cli.files.sources import load_spec
    from mutransfer_cli.sweep.prepare import Sweep
    from mutransfer_cli.train.device import choose_device, slow_precision

    if str(output) == "-":
        raise InputError("-o -: records need a folder; they go to stdout too when it is piped")
    loaded, path = load_spec(spec)
    chosen = choose_device(device.value, loaded.train.precision, loaded.deterministic)
    if slow := slow_precision(chosen, loaded.train.precision):
        note(f"warning: {slow}")
    sweep = Sweep.prepare(loaded, path.parent, note)
    name = path.stem
    if shard is not None:
        part, parts = _parse_shard(shard)
        sweep, name = sweep.shard(part, parts), f"{name}-{part}-of-{parts}"
    folder = output or Path("runs") / name
    if dry_run:
        _print_price(sweep, folder, chosen)
        return

    from mutransfer_cli.sweep.choice import Settings
    from mutransfer_cli.sweep.store import RecordStore

    settings = Settings(compile.value, loaded.deterministic, checkpoint_every or float("inf"))
    with RecordStore(folder, sweep.header(chosen)) as store:
        _run(sweep, store, chosen, settings)


def _parse_shard(shard: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)/(\d+)", shard)
    part, parts = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"--shard {shard}: expected I/N with I from 1 to N, such as 3/8")
    return part, parts


def _run(sweep: Sweep, store: RecordStore, device: torch.device, settings: Settings) -> None:
    from mutransfer_cli.cli.progress import SweepDisplay
    from mutransfer_cli.sweep.interrupt import Interrupt
    from mutransfer_cli.sweep.local import run

    echo = _Echo(enabled=not sys.stdout.isatty())
    echo.file(store.path)
    wanted = [trial.id for trials in sweep.trials.values() for trial in trials]
    display = SweepDisplay(
        {width: len(trials) for width, trials in sweep.trials.items()},
        {width: sweep.cost(width).flops for width in sweep.trials},
        sweep.protocol.batch_tokens * sweep.protocol.train.steps,
        [store.trials[trial] for trial in wanted if trial in store.trials],
    )
    try:
        with display, Interrupt() as interrupt:
            run(sweep, store, device, settings, display, echo.write, interrupt.check)
    except KeyboardInterrupt:
        raise SweepInterrupted(
            f"interrupted; {len(store.trials)} records are in {store.path}; "
            "run the same command again to resume"
        ) from None
    failed = [store.trials[trial] for trial in wanted if store.trials[trial].status == "failed"]
    note(f"records: {store.path}")
    if failed:
        raise SweepIncomplete(
            f"{len(failed)} trials failed, the first with: {failed[0].error}; "
            "run the same command again to retry them"
        )


class _Echo:
    """Copies records to stdout; a reader that leaves early does not stop the sweep."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def file(self, path: Path) -> None:
        """What is there already, a block at a time."""
        with path.open("rb") as content:
            while self._enabled and (block := content.read(BLOCK)):
                self.write(block)

    def write(self, data: bytes) -> None:
        if not self._enabled:
            return
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._enabled = False
            note("warning: the reader of stdout has left; the records go on into the folder")


def _print_price(sweep: Sweep, folder: Path, device: torch.device) -> None:
    from mutransfer_cli.cli.tables import print_prices
    from mutransfer_cli.files.sources import TRIALS, read_records
    from mutransfer_cli.sweep.price import price
    from mutransfer_cli.sweep.store import refuse_other_protocol

    if sweep.shapes:
        note("FLOPs and memory of an own model are estimates: attention is not counted")
    path = folder / TRIALS
    records = read_records(path) if path.exists() else None
    if records:
        refuse_other_protocol(folder, records.header.protocol, sweep.protocol)
    recorded = {record.trial: record for record in records.trials} if records else {}
    print_prices(price(sweep, recorded, device), str(device))
