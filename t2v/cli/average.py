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
    """Average the weights of several trainings of one network.

    They are trainings with other seeds or data from one start, or one and what goes on from it. The mean is as fast as
    one network, and may be better than each: measure it. Networks of different origin have no meaningful mean.
    """
    from t2v.cli.outputs import check_new_folder
    from t2v.cli.progress import Reporter

    check_new_folder(output)

    from t2v.models import averaging
    from t2v.models.conversion import write_whole

    reporter = Reporter(quiet)
    with reporter.stage("averaging"):
        network = averaging.average(sources, reporter.step)
    write_whole(output, network.save)
    typer.echo(output)
