"""`mutransfer rules`: the exponents of a rule, or the plan of a model at a width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mutransfer_cli.cli.console import note
from mutransfer_cli.cli.options import Variant
from mutransfer_cli.emit.rules import plan_document, rule_document, rule_settings
from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.alignment import ALIGNMENTS, Alignment
from mutransfer_cli.rules.optimizers import LrAdjustment, OptimizerName
from mutransfer_cli.rules.parameterizations import ParameterizationName
from mutransfer_cli.rules.rule import EpsilonRule, LrRule, Rule
from mutransfer_cli.rules.weight_decay import DecayConvention, ReadoutDecay, parse_decay_rule


def rules(
    context: typer.Context,
    spec: Annotated[
        str | None,
        typer.Argument(
            help="Sweep spec, a file or a shipped name: print the plan of its model at --width.",
            show_default=False,
        ),
    ] = None,
    variant: Variant = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Width of the plan.", show_default=False)
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
    epsilon: Annotated[
        EpsilonRule | None,
        typer.Option(
            help="Default: constant, or none for an optimizer without.", show_default=False
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
    """Print how everything goes with width.

    With --parameterization: the exponents of width of every role under a rule, with their sources.
    With a SPEC: what every parameter of its model gets at --width.
    """
    if spec is not None:
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
            "--width, --lr and --variant belong to the plan of a SPEC; give one, or leave them"
        )
    rule = Rule(
        parameterization=parameterization,
        optimizer=optimizer,
        alignment=_alignment(alignment),
        lr_rule=lr_rule,
        weight_decay=parse_decay_rule(weight_decay),
        decay_convention=decay_convention,
        readout_decay=readout_decay,
        epsilon=epsilon,
        lr_adjustment=lr_adjustment,
        folded=folded,
    )
    if as_json:
        _print_json(rule_document(rule))
        return
    from mutransfer_cli.cli.rule_tables import print_rule

    print_rule(rule)


def _print_plan(
    spec: str, variant: str | None, width: int, lr: float | None, folded: bool, as_json: bool
) -> None:
    from mutransfer_cli.cli.rule_tables import print_plan
    from mutransfer_cli.files.sources import load_spec
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
        _print_json(document)
    else:
        print_plan(document)


def _refuse_rule_options(context: typer.Context) -> None:
    """With a spec the rule is the spec's: an option beside it would be ignored."""
    free = {"spec", "variant", "width", "lr", "folded", "as_json"}
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in free and source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option}: the rule of a SPEC is in the spec; change it there")


def _alignment(text: str) -> Alignment:
    for name, known in ALIGNMENTS.items():
        if text == name:
            return known
    from mutransfer_cli.files.parameterization import CustomAlignment
    from mutransfer_cli.files.strict import validated
    from mutransfer_cli.files.yaml_io import load_yaml, read_text

    path = Path(text)
    if not path.is_file():
        raise InputError(
            f"--alignment {text}: neither {' nor '.join(ALIGNMENTS)} nor a YAML file of exponents"
        )
    return validated(CustomAlignment, load_yaml(read_text(path), text), text).exact()


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2))
