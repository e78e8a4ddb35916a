"""`mutransfer rules`: the exponents of a rule, or the plan of a model at a width.

Tables are plain text, because importing a library for them takes as long as the command.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mutransfer_cli.cli.completion import spec_names
from mutransfer_cli.cli.console import Variant, aligned, note
from mutransfer_cli.cli.next_command import refuse_all_but_spec, refuse_file
from mutransfer_cli.cli.usage import width_of
from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS, OptimizerName
from mutransfer_cli.rules.choices import (
    ALIGNMENTS,
    ROLES,
    Alignment,
    EpsilonRule,
    LrAdjustment,
    LrRule,
    ParameterizationName,
)
from mutransfer_cli.rules.weight_decay import (
    DecayConvention,
    EmbeddingDecay,
    ReadoutDecay,
    parse_decay_rule,
)
from mutransfer_cli.words import rate, rate_and_power

if TYPE_CHECKING:
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
    """Print exponents as fractions, the expected optimum of a sweep, and the sources."""
    from mutransfer_cli.rules.document import rule_settings, rule_sources
    from mutransfer_cli.rules.rule import folding_limits, role_exponents

    _print_settings(rule_settings(rule))
    typer.echo("exponent x of width: quantity ~ (width / base width)^x")
    rows = [["role", *COLUMNS.values()]]
    for role in ROLES:
        exponents = asdict(role_exponents(rule, role))
        rows.append([role, *(_signed(exponents[key]) for key in COLUMNS)])
    _print_aligned(rows, left=1)
    typer.echo(f"best base lr: expected to scale as width^{rule.expected_base_lr_exponent}")
    if rule.rates.features:
        typer.echo(
            f"features move as width^{-rule.rates.features}: under this alignment, rates that keep "
            "the logits bounded cannot keep this movement constant in width"
        )
    for quantity, source in rule_sources(rule).items():
        typer.echo(f"{quantity}: {source}")
    for limit in folding_limits(rule, clip=True) if rule.folded else ():
        typer.echo(f"not exact: {limit}")


def _signed(x: Fraction | None) -> str:
    return "-" if x is None else f"+{x}" if x > 0 else str(x)


def print_plan(document: dict[str, Any]) -> None:
    """Print the values of every parameter."""
    _print_settings(document["settings"])
    base = ", ".join(
        f"{axis} {rate_and_power(value) if axis == 'lr' else rate(value)}"
        for axis, value in document["base"].items()
    )
    typer.echo(f"width {document['width']}, base width {document['base_width']}, base {base}")
    rows = [list(PLAN_COLUMNS)]
    for p in document["parameters"]:
        decay = p["weight_decay"]
        around = f" at {p['init_mean']:g}" if p["init_mean"] else ""
        decays = (decay["lr_coupled"], decay["independent"])
        shown = ["-" if x is None else rate(x) for x in (p["lr"], *decays, p["eps"])]
        shape, init = " x ".join(map(str, p["shape"])), f"{rate(p['init_std'])}{around}"
        if p.get("keeps_draw"):
            init = "its own"
        multiplier = rate(p["multiplier"])
        if "output_multiplier" in p:
            multiplier += f", readout {rate(p['output_multiplier'])}"
        rows.append([p["name"], p["role"], shape, init, multiplier, *shown])
    _print_aligned(rows, left=2)


def _print_settings(settings: dict[str, Any]) -> None:
    typer.echo(", ".join(f"{key} {value}" for key, value in settings.items() if value is not False))


def _print_aligned(rows: Sequence[Sequence[str]], left: int) -> None:
    for line in aligned(rows, left):
        typer.echo(line.rstrip())


def rules(
    context: typer.Context,
    spec: Annotated[
        str | None,
        typer.Argument(
            help="Sweep spec, a file or a shipped name: print the plan of its model at --width.",
            show_default=False,
            autocompletion=spec_names,
        ),
    ] = None,
    variant: Variant = None,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="WIDTH", parser=width_of, help="Width of the plan.", show_default=False
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Base lr of the plan. Default: the middle of the spec's axis."),
    ] = None,
    parameterization: Annotated[ParameterizationName | None, typer.Option()] = None,
    optimizer: Annotated[OptimizerName, typer.Option()] = "adamw",
    alignment: Annotated[
        str,
        typer.Option(
            help="full, none, or a YAML file such as {readout: {alpha: 1, omega: 0.8, u: 1}}."
        ),
    ] = "full",
    lr_rule: Annotated[LrRule, typer.Option(help="Rates by role, or one for all.")] = "per_layer",
    weight_decay: Annotated[
        str,
        typer.Option(help="none, constant, sqrt_width, linear_width, or an exponent of width."),
    ] = "linear_width",
    decay_convention: Annotated[DecayConvention, typer.Option()] = "lr_coupled",
    readout_decay: Annotated[ReadoutDecay, typer.Option()] = "as_hidden",
    embedding_decay: Annotated[EmbeddingDecay, typer.Option()] = "none",
    epsilon: Annotated[
        EpsilonRule | None,
        typer.Option(
            help="Default: constant, or none for an optimizer without eps.", show_default=False
        ),
    ] = None,
    lr_adjustment: Annotated[
        LrAdjustment | None, typer.Option(help="Muon's factor by shape.", show_default=False)
    ] = None,
    folded: Annotated[
        bool,
        typer.Option(
            "--fold", "--fold-multipliers", help="Move multipliers into init, lr, decay and eps."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Show how learning rate, weight decay, init and eps scale with width.

    With --parameterization: the exponents of width of every role under a rule, with their sources.
    With a SPEC: the values of every parameter of its model at --width.
    """
    if spec is not None:
        refuse_all_but_spec(spec)
        if width is None:
            raise InputError("--width is missing: give the width of the plan")
        _refuse_rule_options(context)
        _print_plan(spec, variant, width, lr, folded, as_json)
        return
    if parameterization is None:
        raise InputError(
            "give --parameterization for the exponents of a rule, or a SPEC and --width for a plan"
        )
    if width is not None or lr is not None or variant is not None:
        raise InputError(
            "--width, --lr and --variant belong to the plan of a SPEC; give one, or leave them out"
        )
    from mutransfer_cli.rules.document import rule_document
    from mutransfer_cli.rules.rule import Rule

    rule = Rule(
        parameterization=parameterization,
        optimizer=OPTIMIZERS[optimizer],
        alignment=_alignment(alignment),
        lr_rule=lr_rule,
        weight_decay=parse_decay_rule(weight_decay),
        decay_convention=decay_convention,
        readout_decay=readout_decay,
        embedding_decay=embedding_decay,
        epsilon=epsilon,
        lr_adjustment=lr_adjustment,
        folded=folded,
    )
    if as_json:
        typer.echo(json.dumps(rule_document(rule), indent=2))
    else:
        print_rule(rule)


def _print_plan(
    spec: str, variant: str | None, width: int, lr: float | None, folded: bool, as_json: bool
) -> None:
    from mutransfer_cli.rules.document import plan_document, rule_settings
    from mutransfer_cli.spec.sources import load_spec
    from mutransfer_cli.sweep.prepare import spec_plan

    loaded, path = load_spec(spec, variant)
    try:
        loaded.refuse_width("--width", width)
    except ValueError as error:
        raise InputError(str(error)) from error
    if lr is not None and lr <= 0:
        raise InputError(f"--lr {lr:g}: must be positive")
    axes = loaded.middle_axes | ({} if lr is None else {"lr": lr})
    section = loaded.parameterization
    planned = spec_plan(loaded, path.parent, width, axes, folded, note)
    settings = rule_settings(section.rule(loaded.optimizer))
    document = plan_document(planned, settings, section.base_width, width, axes)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_plan(document)


def _refuse_rule_options(context: typer.Context) -> None:
    """Refuse options of a rule, because a spec holds its own."""
    free = {"spec", "variant", "width", "lr", "folded", "as_json"}
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in free and source is not None and source.name == "COMMANDLINE":
            raise InputError("the rule of a SPEC is in the spec; change it there", setting=name)


def _alignment(text: str) -> Alignment:
    for name, known in ALIGNMENTS.items():
        if text == name:
            return known
    from mutransfer_cli.spec.parameterization import CustomAlignment
    from mutransfer_cli.spec.yaml_io import load_yaml, read_text
    from mutransfer_cli.strict import validated

    refuse_file(text, "--alignment")
    path = Path(text)
    if not path.is_file():
        raise InputError(
            f"--alignment {text}: neither {' nor '.join(ALIGNMENTS)} nor a YAML file of exponents"
        )
    return validated(CustomAlignment, load_yaml(read_text(path), text), text).exact()
