"""`mutransfer transfer`: turn exponents into the recipe of a target width."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mutransfer_cli.cli.console import AsJson, GroupName, OutputFile, TargetName, note, stdin_or
from mutransfer_cli.cli.next_command import accepted, refuse_file
from mutransfer_cli.cli.saving import STDOUT, is_for_people, print_next, save
from mutransfer_cli.cli.talk import aloud
from mutransfer_cli.cli.usage import width_of
from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.formats import FORMATS, PLAIN


def transfer(
    exponents: Annotated[
        Path | None,
        typer.Argument(
            help="Exponents file, a folder that holds exponents.yaml, or - for stdin. Default: "
            "stdin when piped.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            metavar="WIDTH",
            parser=width_of,
            help="Width of the target model, such as 4096 or 12k.",
            show_default=False,
        ),
    ] = None,
    model: TargetName = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="KEY=VALUE",
            help="Settings of the target run, by key of holds_for (depth=24, steps=100000, ...): "
            "each difference becomes a warning. Repeatable.",
        ),
    ] = None,
    loss_per_doubling: Annotated[
        float | None,
        typer.Option(
            metavar="NATS",
            help="Decrease of the target's loss per doubling of its compute, for a forecast of the "
            "cost in compute.",
        ),
    ] = None,
    group: GroupName = None,
    folded: Annotated[
        bool | None,
        typer.Option(
            "--fold/--no-fold",
            "--fold-multipliers",
            help="Move multipliers into init, lr, decay and eps, so that the model needs none. "
            "Default: where that is exact (without clipping by the global norm).",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help=f"{', '.join((*PLAIN, *FORMATS))}.")
    ] = "yaml",
    allow_lossy: Annotated[
        bool,
        typer.Option(
            "--allow-lossy", help="Leave out values that FORMAT cannot hold, and list them."
        ),
    ] = False,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the recipe for a target width.

    Writes mutransfer.recipe/1: for every role the absolute learning rate, weight decay, eps, betas,
    init std and multiplier with name patterns, each number with its status, and the conditions of
    the fit; or, with --to, the same in the format of a training framework. With --model the recipe
    has that model's names; a function also needs --width. Exit code 4 if the exponents hold no
    usable fit, 6 if FORMAT cannot hold the recipe.
    """
    if loss_per_doubling is not None and not 0 < loss_per_doubling < float("inf"):
        raise InputError(f"--loss-per-doubling {loss_per_doubling:g}: expected positive nats")
    if as_json and to not in ("yaml", "json"):
        raise InputError(f"--json: --to {to} is not JSON; leave one of them out")
    if width is None and model is None:
        raise InputError("--width is missing: give the target's width, or the target with --model")
    if model is not None:
        refuse_file(model, "--model")
    settings = _pairs(target or [])
    source = stdin_or([exponents] if exponents else None, "an exponents file, or - for stdin")[0]

    from mutransfer_cli.cli.transfer_report import print_next_of_recipe, print_recipe
    from mutransfer_cli.fit.exponents import Exponents
    from mutransfer_cli.recipe.build import usable_group
    from mutransfer_cli.recipe.formats.dispatch import emit
    from mutransfer_cli.recipe.roles import Target
    from mutransfer_cli.spec.kinds import EXPONENTS
    from mutransfer_cli.spec.yaml_io import load_yaml, read_text
    from mutransfer_cli.strict import validated

    if source is not None and (source / EXPONENTS).is_file():
        source = source / EXPONENTS
    accepted(source, "transfer")
    where = str(source or "stdin")
    document = validated(Exponents, load_yaml(read_text(source), where), where)
    read = None
    if model is not None:
        from mutransfer_cli.recipe.read_model import read_target

        usable_group(document, group)
        read = read_target(model, width, settings, document, note)
        width = read.width
    assert width is not None, "given, or read off the model"
    asked = Target(width, settings, folded, loss_per_doubling, group, read)
    emitted = emit(document, asked, "json" if as_json else to, allow_lossy)
    to_file = STDOUT if as_json and output is None else output
    with aloud(is_for_people(to_file)):
        print_recipe(emitted.recipe)
    for item in emitted.dropped:
        note(f"dropped, --to {to} cannot hold it: {item}")
    saved = save(
        emitted.text, to_file, None if source is None else source.parent / emitted.file_name
    )
    if saved is not None:
        print_next_of_recipe(emitted, saved, to, model)
    elif to_file is None and sys.stdout.isatty():
        print_next("to save the recipe", *sys.argv[1:], "-o", emitted.file_name)


def _pairs(target: list[str]) -> dict[str, str]:
    pairs = {}
    for item in target:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"--target {item}: expected KEY=VALUE, such as depth=24")
        pairs[key] = value
    return pairs
