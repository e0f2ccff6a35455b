"""`t2v train`: train one stage of a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from t2v.training.config import TrainConfig

OnStep = Callable[[int, float], None]  # global_step, progress
OnLog = Callable[[dict[str, Any]], None]
OnNote = Callable[[str], None]

app = typer.Typer(add_completion=False)


class Stage(StrEnum):
    """What can be trained, in the order of a model made from nothing."""

    AUTOENCODER = "autoencoder"
    IMAGE = "image"
    TEMPORAL = "temporal"


@app.command()
def train(
    stage: Annotated[Stage, typer.Argument(help="What to train.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as in data.num_frames=16.")
    ] = None,
    config: Annotated[list[str] | None, typer.Option(help="YAML file; a later one overlays an earlier one.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder that this stage builds on.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of pictures or videos.")] = None,
    resume: Annotated[str | None, typer.Option(help="auto (the newest checkpoint, if any), or a checkpoint.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings and exit.")] = False,
) -> None:
    """Train the autoencoder, the image model, or the temporal layers."""
    from t2v.training.config import dump_config, load_config

    model_key = "init_from" if stage is Stage.AUTOENCODER else "model.base"
    settings = load_config(stage, config or [], overrides or [], {model_key: model, "data.path": data})
    if print_config:
        typer.echo(dump_config(settings), nl=False)
        return
    from t2v.training.trainer import Trainer

    with _display(settings) as (on_step, on_log, on_note):
        trainer = Trainer(settings, resume, on_step, on_log, on_note)
        outcome = trainer.run()
    if outcome == "stopped":
        typer.echo(f"stopped at step {trainer.global_step}; go on with --resume auto", err=True)
        raise typer.Exit(130)
    typer.echo(settings.output_dir)


@contextmanager
def _display(config: "TrainConfig") -> Iterator[tuple[OnStep, OnLog, OnNote]]:
    """A progress bar on a terminal; a line for each log entry and each note everywhere."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(config.stage, total=1.0)

        def on_step(global_step: int, done: float) -> None:
            bar.update(task, completed=done, description=f"{config.stage} step {global_step}")

        def on_note(text: str) -> None:
            console.print(text, markup=False)

        def on_log(values: dict[str, Any]) -> None:
            on_note("  ".join(f"{key} {value:.5g}" for key, value in values.items()))

        yield on_step, on_log, on_note
