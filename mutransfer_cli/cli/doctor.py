"""`mutransfer doctor`: show what this machine can do, and how fast."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.console import AsJson, console, note
from mutransfer_cli.cli.sweep_proxy import Device

if TYPE_CHECKING:
    from mutransfer_cli.sweep.doctor import Machine, Report, RungReport


def doctor(
    device: Annotated[Device, typer.Option(help="Device to examine.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Examine this machine: train a tiny group on every rung of the engine, and compare the losses.

    Exit code 0 when every rung that the device should have works, otherwise 1. Paste the output
    into a bug report.
    """
    from mutransfer_cli.sweep.doctor import Report, examine
    from mutransfer_cli.train.device import choose_device

    for found in examine(choose_device(device, "fp32")):
        if not isinstance(found, Report):
            note(f"{found.precision} {found.steps}: {'works' if found.works else found.reason}")
        elif as_json:
            derived = {"healthy": found.healthy, "use": found.use}
            plain = {"schema": "mutransfer.doctor/1", **derived, **dataclasses.asdict(found)}
            typer.echo(json.dumps(plain, indent=2))
        else:
            print_report(found)
        if isinstance(found, Report) and not found.healthy:
            raise typer.Exit(1)


def print_report(report: Report) -> None:
    """Print the machine, a table of the rungs, and advice."""
    from rich.table import Table

    out = console(to_stderr=False)
    for line in machine_lines(report.machine):
        out.print(line, soft_wrap=True, markup=False)
    table = Table("precision", "steps", "works", box=None)
    for column in ("tokens/s", "start", "matrix peak", "difference"):
        table.add_column(column, justify="right")
    for rung in report.rungs:
        table.add_row(rung.precision, rung.steps, works(rung), *measured(rung))
    out.print(table)
    for rung in report.rungs:
        if rung.reason:
            why = f"{rung.precision} {rung.steps}: {rung.reason}"
            out.print(f"{why}; {rung.remedy}" if rung.remedy else why, soft_wrap=True, markup=False)
    out.print(report.use, soft_wrap=True)


def machine_lines(machine: Machine) -> list[str]:
    """Describe the machine's hardware and software, a line each."""
    devices = f"{machine.count} x " if machine.count > 1 else ""
    cuda = f", CUDA {machine.cuda}" if machine.cuda else ""
    return [
        f"device: {devices}{machine.device}, {machine.memory / 1e9:.1f} GB free; {machine.cores} "
        "CPU cores",
        *([f"driver: {machine.driver}"] if machine.driver else []),
        f"mutransfer {machine.mutransfer}, torch {machine.torch}{cuda}, Python {machine.python}, "
        f"{machine.platform}",
    ]


def works(rung: RungReport) -> str:
    """Whether a rung works, as a cell."""
    if rung.works:
        return "yes"
    return "no" if rung.expected else "not needed"


def measured(rung: RungReport) -> tuple[str, str, str, str]:
    """Tokens per second, start, matrix peak and difference, as cells."""

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    start = cell(rung.start_seconds, ".1f")
    return (
        cell(rung.tokens_per_second, ",.0f"),
        f"{start} s" if rung.start_seconds is not None else start,
        cell(rung.matrix_peak, ".1e"),
        cell(rung.difference, ".0e"),
    )
