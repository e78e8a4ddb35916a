"""The `mutransfer` command: its subcommands; errors become one sentence and an exit code."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mutransfer_cli import __version__
from mutransfer_cli.cli import (
    check,
    docs,
    doctor,
    fit_exponents,
    report,
    rules,
    schema,
    sweep_proxy,
    transfer,
)
from mutransfer_cli.errors import MutransferError
from mutransfer_cli.quiet import quiet_libraries


class _ErrorsAsSentences(TyperGroup):
    """Ends a command with its error's sentence and exit code; `--debug` shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MutransferError as error:
            if ctx.params["debug"]:
                raise
            _fail(with_options(error), error.exit_code)
        except BrokenPipeError:
            # the reader of the pipe has left, and Python would complain again at exit
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            # usage errors, Exit and Abort are Typer's own and have no public base class
            if ctx.params["debug"] or type(error).__module__.startswith("typer"):
                raise
            if isinstance(error, ModuleNotFoundError) and error.name == "torch":
                _fail("torch is not installed and this needs it; run `pip install torch`", 2)
            _fail(
                f"unexpected {type(error).__name__}: {error}; run `mutransfer --debug ...` for the "
                "traceback and report it",
                1,
            )


def with_options(error: MutransferError) -> str:
    """The error's sentence with options in place of arguments: `--width 64: ... (--group)`."""
    sentence = str(error)
    if error.setting is not None:
        named = re.match(re.escape(error.setting) + r"\b", sentence)
        rest = sentence[named.end() :] if named else f": {sentence}"
        sentence = option_of(error.setting) + rest
    if error.remedy is None:
        return sentence
    remedies = (error.remedy,) if isinstance(error.remedy, str) else error.remedy
    joint = " and " if "maximize" in remedies else " or "
    return f"{sentence} ({joint.join(option_of(remedy) for remedy in remedies)})"


def option_of(argument: str) -> str:
    """`decay_convention` as `--decay-convention`; a value after it stays as it is."""
    name, blank, value = argument.partition(" ")
    return "--" + name.replace("_", "-") + blank + value


def _fail(sentence: str, exit_code: int) -> None:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(exit_code)


app = typer.Typer(
    cls=_ErrorsAsSentences,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Find the best learning rate on small models and what to use at the target width.",
    epilog="Exit codes: 0 done; 1 unexpected error; 2 bad input; 3 a check failed; 4 evidence "
    "insufficient; 5 some trials failed; 6 format cannot hold the recipe; 130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mutransfer {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command("sweep-proxy")(sweep_proxy.sweep_proxy)
app.command("fit-exponents")(fit_exponents.fit_exponents)
app.command("transfer")(transfer.transfer)
app.command("check")(check.check)
app.command("rules")(rules.rules)
app.command("report")(report.report)
app.command("schema")(schema.schema)
app.command("docs")(docs.docs)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; the entry point of `mutransfer`."""
    quiet_libraries()
    app()
