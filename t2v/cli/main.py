"""The command `t2v`.

One module per command: `t2v/cli/<name>.py` with `app = typer.Typer(add_completion=False)`. A module is imported when
its command is used or listed, and imports torch, models and media libraries only inside its functions: help answers at
once.
"""

import os
import sys
from importlib import import_module
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from t2v import __version__
from t2v.errors import InputError

COMMANDS = (
    "generate",
    "interpolate",
    "extend",
    "animate",
    "info",
    "convert",
    "inflate",
    "average",
    "train",
    "evaluate",
    "bench",
    "tune",
)


class _LazyGroup(TyperGroup):
    """Commands that are imported by name."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"t2v.cli.{cmd_name}").app)
        command.name = cmd_name
        return command  # type: ignore[return-value]


app = typer.Typer(
    name="t2v",
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"t2v {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Text to video: Stable Diffusion in, video out."""


def main() -> None:
    """Run the command line. Wrong input ends with one line on stderr and exit code 2, an interrupt with 130."""
    try:
        app(prog_name="t2v")
    except InputError as error:
        if os.environ.get("T2V_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
