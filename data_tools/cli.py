"""The command `t2v-data`."""

import os
import sys

import typer

from data_tools.world.cli import app as world_app
from t2v.errors import InputError

app = typer.Typer(
    name="t2v-data",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(world_app, name="world")


@app.callback()
def _root() -> None:
    """Data for t2v: raw video to clips and a manifest, and the synthetic world."""


def main() -> None:
    """Run the command line. Wrong input ends with one line on stderr and exit code 2, an interrupt with 130."""
    try:
        app()
    except InputError as error:
        if os.environ.get("T2V_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
