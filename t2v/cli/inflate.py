"""`t2v inflate`: an image model becomes a video model that still shows a still image."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options

app = typer.Typer(add_completion=False)


@app.command()
def inflate(
    model: Annotated[str, typer.Argument(help="An image model: a Stable Diffusion folder or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write motion/ into; made if needed.")],
    num_frames: Annotated[int, typer.Option(help="Frames of the clips that it will be trained on.")] = 16,
    fps: Annotated[float, typer.Option(help="Frames per second where a caller names none.")] = 8.0,
    temporal_conv: Annotated[bool, typer.Option(help="Convolutions over frames.")] = True,
    temporal_attention: Annotated[bool, typer.Option(help="Attention over frames.")] = True,
    seed: Annotated[int, typer.Option(help="Of the temporal weights that do not start at zero.")] = 0,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Write identity-initialised temporal layers for an image model: the start of training.

    Until they are trained, every frame of a video is what the image model makes of it alone.
    """
    from t2v.cli.outputs import check_folder
    from t2v.pipelines.settings import check_seed

    target = output / "motion"
    check_folder(target, overwrite)
    check_seed(seed)

    import torch

    from t2v.models import inflate as inflation
    from t2v.models.base import load_json
    from t2v.models.folder import find_model
    from t2v.models.unet import MotionConfig, VideoUNet

    motion = MotionConfig(
        num_frames=num_frames, fps=fps, temporal_conv=temporal_conv, temporal_attention=temporal_attention
    )
    folder = find_model(model)
    scheduler = load_json(folder / "scheduler" / "scheduler_config.json")
    unet = VideoUNet.from_pretrained(folder / "unet")
    inflation.inflate(unet, motion, torch.Generator().manual_seed(seed))
    inflation.save_motion(unet, target, {"scheduler": scheduler})
    temporal = sum(parameter.numel() for parameter in inflation.temporal_parameters(unet).values())
    total = sum(parameter.numel() for parameter in unet.parameters())
    typer.echo(f"{temporal:,} temporal parameters, {temporal / total:.1%} of the inflated U-Net", err=True)
    typer.echo(f"train them: t2v train temporal --model {model} --data VIDEOS", err=True)
    if (folder / "motion").resolve() != target.resolve():
        typer.echo(f'or look at them: t2v generate "..." --model {model} --motion {target}', err=True)
    typer.echo(target)
