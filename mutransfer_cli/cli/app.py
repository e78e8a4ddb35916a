"""The `mutransfer` command: its subcommands; errors become one sentence and an exit code."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Annotated, Any, NoReturn

import typer

from mutransfer_cli import __version__
from mutransfer_cli.cli.commands import Commands
from mutransfer_cli.cli.talk import be_quiet, be_verbose, detail, talk_as_usual
from mutransfer_cli.cli.usage import sentence_of
from mutransfer_cli.errors import InputError, MutransferError, SweepInterrupted
from mutransfer_cli.quiet import quiet_libraries

HELP = "Find the best learning rate on small models and what to use at the target width."
CHAIN = "spec.yaml ─sweep-proxy→ runs/spec ─fit-exponents→ exponents ─transfer→ recipe"
EXAMPLES = (
    "mutransfer init -o spec.yaml",
    "mutransfer sweep-proxy spec.yaml",
    "mutransfer fit-exponents runs/spec -o exponents.yaml",
    "mutransfer transfer exponents.yaml --width 4096 -o recipe.yaml",
)
VERSIONED = ("torch", "numpy", "pandas", "scipy", "pydantic", "typer", "transformers")


class _ErrorsAsSentences(Commands):
    """Ends a command with its error's sentence and exit code; `--debug` shows the traceback."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().make_context(*args, **extra)
        except typer.TyperException as error:
            _fail(sentence_of(error), InputError.exit_code)

    def invoke(self, ctx: Any) -> Any:
        started = time.perf_counter()
        try:
            return super().invoke(ctx)
        except SweepInterrupted as stopped:
            typer.echo(str(stopped), err=True)
            raise typer.Exit(stopped.exit_code) from None
        except MutransferError as error:
            if ctx.params["debug"]:
                raise
            _fail(with_options(error), error.exit_code)
        except typer.TyperException as error:
            _fail(sentence_of(error), InputError.exit_code)
        except BrokenPipeError:
            # the reader of the pipe has left, and Python would complain again at exit
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if ctx.params["debug"] or isinstance(error, typer.Exit | typer.Abort):
                raise
            if isinstance(error, ModuleNotFoundError) and error.name == "torch":
                _fail("torch is not installed and this needs it; run `pip install torch`", 2)
            _fail(
                f"unexpected {type(error).__name__}: {error}; run `mutransfer --debug ...` for the "
                "traceback and report it",
                1,
            )
        finally:
            detail(lambda: f"{time.perf_counter() - started:.1f} s; {environment()}")


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


def _fail(sentence: str, exit_code: int) -> NoReturn:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(exit_code)


def environment() -> str:
    """The versions and the machine that a result depends on."""
    import platform

    versions = [f"{name} {found}" for name in VERSIONED if (found := _version_of(name))]
    return (
        f"mutransfer {__version__}, Python {platform.python_version()}, {', '.join(versions)}, "
        f"{os.cpu_count()} CPU cores"
    )


def _version_of(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


app = typer.Typer(
    cls=_ErrorsAsSentences,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog="A command may be shortened: `mutransfer fit` is fit-exponents. Exit codes: 0 done; 1 "
    "unexpected error; 2 bad input; 3 a check failed; 4 evidence insufficient; 5 some trials "
    "failed; 6 format cannot hold the recipe; 130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mutransfer {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Say only results, warnings and errors: no progress, no notes, no next command.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Say more: choices of the engine, time, versions."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    talk_as_usual()
    if quiet:
        be_quiet()
    if verbose:
        be_verbose()
    if ctx.invoked_subcommand is None:
        typer.echo(overview(ctx))


def overview(ctx: typer.Context) -> str:
    """The chain, examples that run as they are, and the commands."""
    formatter = ctx.make_formatter()
    ctx.command.format_commands(ctx, formatter)  # type: ignore[attr-defined]
    examples = "\n".join(f"  {line}" for line in EXAMPLES)
    return (
        f"{HELP}\n\n  {CHAIN}\n\nThe first two minutes:\n{examples}\n\n"
        f"{formatter.getvalue()}\n"
        "`mutransfer COMMAND -h` shows its options, `mutransfer docs` the pages to read."
    )


def main() -> None:
    """Run the command line; the entry point of `mutransfer`."""
    quiet_libraries()
    app()
