"""Tables of `mutransfer rules`, in plain text: the library for tables would double their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import typer

from mutransfer_cli.emit.rules import rule_settings, rule_sources
from mutransfer_cli.rules.exponents import role_exponents
from mutransfer_cli.rules.folding import folding_limits
from mutransfer_cli.rules.roles import ROLES
from mutransfer_cli.rules.rule import Rule

COLUMNS = {
    "init_std": "init std",
    "multiplier": "multiplier",
    "lr": "lr",
    "weight_decay": "weight decay",
    "eps": "eps",
    "gradient": "gradient at init",
}
PLAN_COLUMNS = (
    "parameter",
    "role",
    "shape",
    "init std",
    "multiplier",
    "lr",
    "wd lr_coupled",
    "wd independent",
    "eps",
)


def print_rule(rule: Rule) -> None:
    """Exponents as fractions, what the rule expects of a sweep, and the sources."""
    _print_settings(rule_settings(rule))
    typer.echo("exponent x of width: quantity ~ (width / base width)^x")
    rows = [["role", *COLUMNS.values()]]
    for role in ROLES:
        exponents = asdict(role_exponents(rule, role))
        rows.append([role, *(_signed(exponents[key]) for key in COLUMNS)])
    _print_aligned(rows, to_the_left=1)
    typer.echo(f"best base lr: expected to go as width^{rule.expected_base_lr_exponent}")
    if rule.rates.features:
        typer.echo(
            f"features move as width^{-rule.rates.features}: under this alignment no rates move "
            "them at all widths and keep the logits bounded"
        )
    for quantity, source in rule_sources(rule).items():
        typer.echo(f"{quantity}: {source}")
    for limit in folding_limits(rule, clip=True) if rule.folded else ():
        typer.echo(f"not exact: {limit}")


def _signed(x: Fraction | None) -> str:
    return "-" if x is None else f"+{x}" if x > 0 else str(x)


def print_plan(document: dict[str, Any]) -> None:
    """What every parameter gets."""
    _print_settings(document["settings"])
    base = ", ".join(f"{axis} {value:.4g}" for axis, value in document["base"].items())
    typer.echo(f"width {document['width']}, base width {document['base_width']}, base {base}")
    rows = [list(PLAN_COLUMNS)]
    for p in document["parameters"]:
        decay = p["weight_decay"]
        around = f" at {p['init_mean']:g}" if p["init_mean"] else ""
        numbers = (
            p["multiplier"],
            p["lr"],
            decay["lr_coupled"],
            decay["independent"],
            p["eps"],
        )
        shown = ("-" if number is None else f"{number:.4g}" for number in numbers)
        shape, init = " x ".join(map(str, p["shape"])), f"{p['init_std']:.4g}{around}"
        rows.append([p["name"], p["role"], shape, init, *shown])
    _print_aligned(rows, to_the_left=2)


def _print_settings(settings: dict[str, Any]) -> None:
    typer.echo(", ".join(f"{key} {value}" for key, value in settings.items() if value is not False))


def _print_aligned(rows: Sequence[Sequence[str]], to_the_left: int) -> None:
    """Columns two spaces apart, the first `to_the_left` of them aligned there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if index < to_the_left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        typer.echo("  ".join(cells).rstrip())
