"""The command `t2v-data`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_tools.options import Manifest, Output, Overwrite, takes_run_options
from data_tools.world.cli import app as world_app
from t2v.errors import InputError

if TYPE_CHECKING:
    from data_tools.runner import RunOptions

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
    """Raw video to clean clips for training: probe, split, score, filter, cut, shards, report; or all at once: run.

    Each step reads a manifest (Parquet) and writes one, with a row for every file seen. A run that was stopped goes on
    where it was when started again. Also here: the synthetic world of the embedded model.
    """


@app.command()
@takes_run_options
def probe(
    source: Annotated[Path, typer.Argument(help="Folder of videos, or one file.")],
    output: Output = Path("manifest.parquet"),
    decode: Annotated[bool, typer.Option("--decode", help="Decode every frame; a file with any damage fails.")] = False,
    *,
    options: "RunOptions",
) -> None:
    """What every file is: length, true frame count and rate, codec, rotation, sound; broken ones with the reason."""
    from data_tools.probe import Probe, bare_rows
    from data_tools.runner import run_stage

    run_stage("probe", Probe(output.parent, decode), bare_rows(source, output.parent), output, options)
    print(output)


@app.command()
@takes_run_options
def split(
    manifest: Manifest,
    output: Output = Path("shots.parquet"),
    min_seconds: Annotated[float, typer.Option(help="Shorter shots are filtered.")] = 1.0,
    max_seconds: Annotated[float, typer.Option(help="Longer shots become several clips.")] = 60.0,
    adaptive_threshold: Annotated[
        float, typer.Option(help="Sharpest change over its neighbours: less, more cuts.")
    ] = 2.0,
    min_change: Annotated[float, typer.Option(help="Least change at a cut, 0 to 255.")] = 6.0,
    gradual: Annotated[
        bool, typer.Option(help="Also split at fades and dissolves, and leave their frames out.")
    ] = True,
    cuts: Annotated[
        Path | None, typer.Option(help="CSV with the columns path,seconds: split these files there.")
    ] = None,
    *,
    options: "RunOptions",
) -> None:
    """Find the shots: one row each, with first and last moment exact to the frame."""
    from data_tools.extras import need_curate
    from data_tools.runner import read_rows, run_stage

    need_curate()
    from data_tools.shots import ShotOptions
    from data_tools.split import Split, SplitOptions, with_cuts

    settings = SplitOptions(ShotOptions(adaptive_threshold, min_change, gradual), min_seconds, max_seconds)
    settings.check()
    rows = read_rows(manifest, output)
    rows = with_cuts(rows, cuts, output.parent) if cuts else rows
    run_stage("split", Split(output.parent, settings), rows, output, options)
    print(output)


@app.command()
@takes_run_options
def score(
    manifest: Manifest,
    output: Output = Path("scores.parquet"),
    clip: Annotated[
        Path | None, typer.Option(help="Folder of a CLIP model, for score_clip: how well captions fit.")
    ] = None,
    aesthetic: Annotated[
        Path | None, typer.Option(help="LAION's predictor (.safetensors) for that CLIP, for score_aesthetic.")
    ] = None,
    *,
    options: "RunOptions",
) -> None:
    """Measure every clip: motion, stillness, light, sharpness, flicker, letterbox, text, near duplicates.

    Columns: score_motion, score_static, score_black, score_white, score_sharpness, score_flicker, score_letterbox,
    score_text, score_duplicate with duplicate_of; where CLIP is named, score_clip (for captions) and score_aesthetic.
    Nothing is decided here, see filter. Each file has a process of its own, which reads the CLIP anew: half a second
    for a ViT-B/32, from a disk that has it cached.
    """
    from data_tools.extras import need_curate
    from data_tools.runner import read_rows, run_stage

    need_curate()
    from data_tools.network_scores import NetworkOptions
    from data_tools.score import Score, with_duplicates

    network = NetworkOptions(clip, aesthetic).below(Path.cwd())
    network.check()
    run_stage("score", Score(output.parent, network), read_rows(manifest, output), output, options, with_duplicates)
    print(output)


@app.command("filter")
def filter_(
    manifest: Manifest,
    expression: Annotated[str, typer.Argument(help="What clips must meet: score_motion > 0.02 and seconds >= 2")],
    output: Output = Path("kept.parquet"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many clips would be kept.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Mark the clips that do not meet a condition on columns, each with the part of it that it failed."""
    from data_tools.filter import filtered
    from data_tools.runner import check_manifest, read_rows
    from data_tools.stats import outcome_lines
    from t2v.data.manifest import write_manifest

    if not dry_run:
        check_manifest(output, overwrite)
    rows = filtered(read_rows(manifest, output), expression)
    print("\n".join(outcome_lines(rows)))
    if not dry_run:
        write_manifest(rows, output)
        print(output)


@app.command()
@takes_run_options
def cut(
    manifest: Manifest,
    output: Output = Path("clips/manifest.parquet"),
    size: Annotated[
        str | None, typer.Option(help="Short side in pixels, or WIDTHxHEIGHT to fill and crop; else the file's.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second; else the file's own frames.")] = None,
    gop: Annotated[int, typer.Option(help="Frames between key frames, 1 to 16.")] = 16,
    crf: Annotated[int, typer.Option(help="Quality: lower is better and larger.")] = 18,
    sound: Annotated[bool, typer.Option("--sound", help="Keep the sound.")] = False,
    *,
    options: "RunOptions",
) -> None:
    """Write every clip that is kept as an mp4 of its own, from its first frame to its last, beside the new manifest."""
    from data_tools.cut import Cut, CutOptions
    from data_tools.runner import read_rows, run_stage

    settings = CutOptions(size, fps, gop, crf, sound)
    settings.check()
    output.parent.mkdir(parents=True, exist_ok=True)
    run_stage("cut", Cut(output.parent, settings), read_rows(manifest, output), output, options)
    print(output)


@app.command()
def shards(
    manifest: Manifest,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("shards"),
    max_clips: Annotated[int, typer.Option(help="Clips in a shard, at most.")] = 1000,
    max_megabytes: Annotated[float, typer.Option(help="Size of a shard, at most.")] = 1000.0,
    overwrite: Overwrite = False,
) -> None:
    """Pack clips into tar files in the layout of WebDataset, with an index."""
    from data_tools.shards import ShardOptions, write_shards
    from t2v.data.manifest import read_manifest

    settings = ShardOptions(max_clips, max_megabytes)
    settings.check()
    folder = manifest if manifest.is_dir() else manifest.parent
    index = write_shards(read_manifest(manifest), folder, output, settings, overwrite)
    print(f"{output}: {index['num_clips']} clips in {len(index['shards'])} shards")


@app.command()
def report(
    manifest: Manifest,
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write (.html).")] = Path("report.html"),
    kept: Annotated[int, typer.Option(help="Previews of clips that are kept.")] = 60,
    per_reason: Annotated[int, typer.Option(help="Previews of filtered clips for each reason.")] = 8,
    overwrite: Overwrite = False,
) -> None:
    """One self-contained page: moving previews, histograms of the scores, what was left out and why."""
    from data_tools.report import ReportOptions, write_report
    from t2v.data.manifest import read_manifest
    from t2v.data.video_io import check_parent

    check_parent(output)
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; choose another --output or add --overwrite")
    folder = manifest if manifest.is_dir() else manifest.parent
    write_report(read_manifest(manifest), folder, output, ReportOptions(kept, per_reason), str(manifest))
    print(output)


@app.command()
@takes_run_options
def run(
    config: Annotated[Path, typer.Argument(help="YAML: source, output, and settings of the stages.")],
    *,
    options: "RunOptions",
) -> None:
    """All of it: probe, split, score, filter, cut, shards and report, decoding as little as possible.

    The YAML holds source and output, and may hold min_seconds, max_seconds, cuts, filter, shots: {adaptive_threshold,
    min_change, gradual}, network: {clip, aesthetic}, cut: {size, fps, gop, crf, sound}, shards: {max_clips,
    max_megabytes} and report: {kept, per_reason, failures}. Paths are relative to it.
    """
    from data_tools.extras import need_curate

    need_curate()
    from data_tools.curate import curate, read_config

    if folder := curate(read_config(config), options):
        print(folder)
    else:
        print("start the jobs again when all have ended: the next step needs all of this one", file=sys.stderr)


@app.command()
def stats(manifest: Manifest) -> None:
    """Clips, hours, reasons, and the spread of every score."""
    from data_tools.stats import outcome_lines, score_lines
    from t2v.data.manifest import read_manifest

    rows = read_manifest(manifest)
    print("\n".join(outcome_lines(rows) + score_lines(rows)))


def main() -> None:
    """Run the command line. Wrong input ends with one line on stderr and exit code 2, an interrupt with 130."""
    try:
        app()
    except InputError as error:
        if os.environ.get("T2V_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
