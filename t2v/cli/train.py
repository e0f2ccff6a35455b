"""`t2v train`: train one stage of a model."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli import options
from t2v.cli.training_display import Display, display, speaks

if TYPE_CHECKING:
    from t2v.training.config import TrainConfig

app = typer.Typer(add_completion=False)


class Stage(StrEnum):
    """What can be trained, in the order of a model made from nothing."""

    AUTOENCODER = "autoencoder"
    IMAGE = "image"
    TEMPORAL = "temporal"
    INTERPOLATION = "interpolation"


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check data and memory, try one step, leave nothing behind, and exit.")
    ] = False,
    offline: options.Offline = False,
) -> None:
    """Train the autoencoder, the image model, the temporal layers, or the frame-interpolation network.

    On several GPUs: accelerate launch --config_file configs/accelerate/ddp.yaml -m t2v train ...
    """
    from t2v.training.config_files import dump_config, load_config

    model_key = "init_from" if stage is Stage.AUTOENCODER else "model.base"
    settings = load_config(stage, config or [], overrides or [], {model_key: model, "data.path": data})
    if print_config:
        typer.echo(dump_config(settings), nl=False)
        return
    with display(settings) as shown:
        if dry_run:
            _try_out(settings, shown)
        else:
            _train(settings, resume, shown)


def _train(settings: "TrainConfig", resume: str | None, shown: Display) -> None:
    from t2v.training.trainer import Trainer

    trainer = Trainer(settings, resume, shown.on_step, shown.on_log, shown.on_note)
    if trainer.run() == "stopped":
        shown.on_note(f"stopped at step {trainer.global_step}; go on with --resume auto")
        raise typer.Exit(130)
    if speaks():
        typer.echo(settings.output_dir)


def _try_out(settings: "TrainConfig", shown: Display) -> None:
    from t2v.training.dry_run import dry_run

    for line in dry_run(settings, shown.on_note).lines():
        if speaks():
            typer.echo(line)
