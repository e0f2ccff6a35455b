"""`t2v average`: one network from several trainings of it."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options

app = typer.Typer(add_completion=False)

Sources = Annotated[
    list[Path], typer.Argument(help="Folders of one network each, such as RUN/motion or RUN/interpolation.")
]


@app.command()
def average(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; must not exist.")],
    quiet: options.Quiet = False,
) -> None:
    """Average the weights of several trainings that went on from the same weights.

    Often better than each of them by itself, and as fast as one: trainings with other seeds or data, or the last two of
    a row. Networks of different origin have no meaningful mean.
    """
    from t2v.cli.outputs import check_folder
    from t2v.cli.progress import Reporter

    check_folder(output, overwrite=False)

    from t2v.models.averaging import average_weights
    from t2v.models.conversion import write_whole

    reporter = Reporter(quiet)
    with reporter.stage("averaging"):
        write_whole(output, lambda folder: average_weights(sources, folder, reporter.step))
    typer.echo(output)
