"""`t2v convert`: one checkpoint format into another, and pickles into safetensors."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options
from t2v.errors import InputError

app = typer.Typer(add_completion=False)


class To(StrEnum):
    """Forms of a checkpoint."""

    diffusers = "diffusers"  # a folder
    single_file = "single-file"  # in the original layout of Stable Diffusion or AnimateDiff


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A model folder, or a .safetensors, .ckpt, .bin, .pt or .pth file.")],
    target: Annotated[Path, typer.Argument(help="What to write: NAME.safetensors for one file, another for a folder.")],
    to: Annotated[To | None, typer.Option(help="What TARGET is to be. [default: as its name says]")] = None,
    tokenizer: options.Tokenizer = None,
    motion: options.Motion = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the moving average in a training checkpoint.")] = False,
    offline: options.Offline = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists; never a folder.")] = False,
) -> None:
    """Convert a checkpoint; weights keep their bits.

    A single Stable Diffusion file becomes a model folder and the other way round; an AnimateDiff motion module becomes
    a folder for other tools and back; a model with such a motion becomes a folder of diffusers' AnimateDiffPipeline. A
    pickle becomes safetensors: only its tensors are read, nothing in it is run.
    """
    from t2v.cli.outputs import check_file, check_new_folder

    is_file = target.suffix == ".safetensors"
    if to is not None and is_file != (to is To.single_file):
        raise InputError(f"--to {to} is {'NAME.safetensors' if to is To.single_file else 'a folder'}, got {target}")
    if is_file:
        check_file(target, ".safetensors", overwrite)
    else:
        check_new_folder(target)

    from t2v.models.conversion import convert as convert_checkpoint

    for note in convert_checkpoint(source, target, tokenizer, ema, motion):
        typer.echo(note, err=True)
    typer.echo(target)
