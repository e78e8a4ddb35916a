"""Tables of `mutransfer rules`: exponents by role, values by parameter."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

from rich.table import Table

from mutransfer_cli.cli.tables import console
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


def print_rule(rule: Rule) -> None:
    """Exponents as fractions, what the rule expects of a sweep, and the sources."""
    out = console(to_stderr=False)
    _print_settings(rule_settings(rule))
    table = Table(title="exponent x of width: quantity ~ (width / base width)^x", box=None)
    table.add_column("role")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for role in ROLES:
        exponents = asdict(role_exponents(rule, role))
        table.add_row(role, *(_signed(exponents[key]) for key in COLUMNS))
    out.print(table)
    out.print(f"best base lr: expected to go as width^{rule.expected_base_lr_exponent}")
    if rule.rates.features:
        out.print(
            f"features move as width^{-rule.rates.features}: under this alignment no rates move "
            "them at all widths and keep the logits bounded"
        )
    for quantity, source in rule_sources(rule).items():
        out.print(f"{quantity}: {source}")
    for limit in folding_limits(rule, clip=True) if rule.folded else ():
        out.print(f"not exact: {limit}")


def _signed(x: Fraction | None) -> str:
    return "-" if x is None else f"+{x}" if x > 0 else str(x)


def print_plan(document: dict[str, Any]) -> None:
    """What every parameter gets."""
    out = console(to_stderr=False)
    _print_settings(document["settings"])
    base = ", ".join(f"{axis} {value:.4g}" for axis, value in document["base"].items())
    out.print(f"width {document['width']}, base width {document['base_width']}, base {base}")
    table = Table(box=None)
    table.add_column("parameter", no_wrap=True)
    table.add_column("role")
    for title in (
        "shape",
        "init std",
        "multiplier",
        "lr",
        "wd lr_coupled",
        "wd independent",
        "eps",
    ):
        table.add_column(title, justify="right")
    for p in document["parameters"]:
        decay = p["weight_decay"]
        table.add_row(
            p["name"],
            p["role"],
            " x ".join(map(str, p["shape"])),
            *(
                "-" if value is None else f"{value:.4g}"
                for value in (
                    p["init_std"],
                    p["multiplier"],
                    p["lr"],
                    decay["lr_coupled"],
                    decay["independent"],
                    p["eps"],
                )
            ),
        )
    out.print(table)


def _print_settings(settings: dict[str, Any]) -> None:
    shown = (f"{key} {value}" for key, value in settings.items() if value is not False)
    console(to_stderr=False).print(", ".join(shown))
