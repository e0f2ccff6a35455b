"""`t2v-data world`: generate the synthetic world."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from data_tools.world.generate import WorldConfig

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The synthetic world: emoji actors in painted scenes."
)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; must be new or empty.")]
Seed = Annotated[int, typer.Option(help="Same seed, same pictures.")]
Preset = Annotated[str, typer.Option(help="small (64 actors) or large (over 200).")]
Size = Annotated[int, typer.Option(help="Height and width in pixels.")]
HeldOut = Annotated[bool, typer.Option("--held-out", help="Only the (actor, scene) pairs that training never sees.")]
Labels = Annotated[bool, typer.Option("--labels", help="Add columns actor, scene, verb (and actor_path for clips).")]
Workers = Annotated[int, typer.Option(help="Processes; 0 takes one per core.")]
Backgrounds = Annotated[int, typer.Option(help="Paintings per scene.")]
Font = Annotated[Path | None, typer.Option(help="NotoColorEmoji.ttf; default: where Debian installs it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")]


def _run(kind: str, config: "WorldConfig", font: Path | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from data_tools.world.actors import DEFAULT_FONT, FontGlyphs
    from data_tools.world.generate import generate_board, generate_clips, generate_images

    config.check()
    glyphs = FontGlyphs(font or DEFAULT_FONT)
    columns = (TextColumn(kind), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(kind, total=4 * config.num if kind == "board" else config.num)
        generate = {"images": generate_images, "clips": generate_clips, "board": generate_board}[kind]
        print(generate(config, glyphs, lambda done: bar.advance(task, done)))


def _cores(workers: int) -> int:
    return workers or len(os.sched_getaffinity(0))


@app.command()
def images(
    output: Output,
    num: Annotated[int, typer.Option(help="How many stills.")] = 100_000,
    seed: Seed = 0,
    preset: Preset = "small",
    held_out: HeldOut = False,
    labels: Labels = False,
    size: Size = 128,
    workers: Workers = 0,
    backgrounds: Backgrounds = 128,
    font: Font = None,
    overwrite: Overwrite = False,
) -> None:
    """Captioned stills: PNG files and manifest.parquet."""
    from data_tools.world.generate import WorldConfig

    config = WorldConfig(
        output=output,
        num=num,
        seed=seed,
        preset=preset,
        held_out=held_out,
        captions=True,
        labels=labels,
        size=size,
        workers=_cores(workers),
        num_backgrounds=backgrounds,
        overwrite=overwrite,
    )
    _run("images", config, font)


@app.command()
def clips(
    output: Output,
    num: Annotated[int, typer.Option(help="How many clips.")] = 3_000,
    seed: Seed = 0,
    preset: Preset = "small",
    held_out: HeldOut = False,
    labels: Labels = False,
    captions: Annotated[bool, typer.Option("--captions", help="Add captions; training clips have none.")] = False,
    size: Size = 128,
    workers: Workers = 0,
    backgrounds: Backgrounds = 128,
    font: Font = None,
    overwrite: Overwrite = False,
) -> None:
    """Clips of 4 to 6 s at 24 fps, without captions: mp4 files and manifest.parquet."""
    from data_tools.world.generate import WorldConfig

    config = WorldConfig(
        output=output,
        num=num,
        seed=seed,
        preset=preset,
        held_out=held_out,
        captions=captions or held_out,
        labels=labels,
        size=size,
        workers=_cores(workers),
        num_backgrounds=backgrounds,
        overwrite=overwrite,
    )
    _run("clips", config, font)


@app.command()
def sprites(
    output: Output,
    preset: Preset = "small",
    size: Size = 128,
    font: Font = None,
    overwrite: Overwrite = False,
) -> None:
    """Each actor alone: RGBA PNGs at scale 1 and actors.json, to find actors in generated frames."""
    from data_tools.world.actors import DEFAULT_FONT, FontGlyphs
    from data_tools.world.generate import write_sprites

    print(write_sprites(output, preset, size, FontGlyphs(font or DEFAULT_FONT), overwrite))


@app.command()
def board(
    output: Output,
    num: Annotated[
        int, typer.Option(help="Clips of seen pairs, and of held-out pairs; twice as many for reference.")
    ] = 64,
    seed: Seed = 100,
    preset: Preset = "small",
    size: Size = 128,
    workers: Workers = 0,
    backgrounds: Backgrounds = 128,
    font: Font = None,
    overwrite: Overwrite = False,
) -> None:
    """What `t2v evaluate mini-board` needs: labelled clips of seen and held-out pairs, and pictures of the actors."""
    from data_tools.world.generate import WorldConfig

    config = WorldConfig(
        output=output,
        num=num,
        seed=seed,
        preset=preset,
        labels=True,
        size=size,
        workers=_cores(workers),
        num_backgrounds=backgrounds,
        overwrite=overwrite,
    )
    _run("board", config, font)


@app.command()
def sheet(
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    seed: Seed = 0,
    preset: Preset = "small",
    size: Size = 128,
    strips: Annotated[bool, typer.Option("--strips", help="Every verb in time: 16 frames at 8 fps a row.")] = False,
    font: Font = None,
) -> None:
    """A picture of all scenes (rows) and verbs (columns), to look at."""
    from data_tools.world.actors import DEFAULT_FONT, FontGlyphs
    from data_tools.world.sheet import contact_sheet, motion_strips, save_sheet
    from data_tools.world.world import World

    world = World(FontGlyphs(font or DEFAULT_FONT), size, preset, seed)
    save_sheet(motion_strips(world, seed) if strips else contact_sheet(world, seed), output)
    print(output)
