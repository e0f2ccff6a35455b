"""`t2v convert`: one checkpoint format into another, and pickles into safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options

app = typer.Typer(add_completion=False)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A model folder, or a .safetensors, .ckpt, .bin, .pt or .pth file.")],
    target: Annotated[Path, typer.Argument(help="What to write: NAME.safetensors for one file, another for a folder.")],
    tokenizer: options.Tokenizer = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the moving average in a training checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists; never a folder.")] = False,
) -> None:
    """Convert a checkpoint; weights keep their bits.

    A single Stable Diffusion file becomes a model folder and the other way round; an AnimateDiff motion module becomes
    a folder for other tools and back; a pickle becomes safetensors: only its tensors are read, nothing in it is run.
    """
    from t2v.cli.outputs import check_file, check_folder

    if target.suffix == ".safetensors":
        check_file(target, ".safetensors", overwrite)
    else:
        check_folder(target, overwrite=False)

    from t2v.models.conversion import convert as convert_checkpoint

    for note in convert_checkpoint(source, target, tokenizer, ema):
        typer.echo(note, err=True)
    typer.echo(target)
