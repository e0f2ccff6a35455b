"""`t2v evaluate`: measure what a model makes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import (
    evaluate_benchmarks,
    evaluate_board,
    evaluate_interpolation,
    evaluate_pairs,
    evaluate_results,
    evaluate_videos,
    options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from t2v.cli.progress import Reporter
    from t2v.pipelines.settings import GenerationOptions
    from t2v.pipelines.text_to_video import TextToVideoPipeline
    from t2v.pipelines.video import Video

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure what a model makes.")
app.command()(evaluate_videos.videos)
app.command()(evaluate_videos.images)
app.command()(evaluate_pairs.pairs)
app.command("zero-shot")(evaluate_benchmarks.zero_shot)
app.command("export-vbench")(evaluate_benchmarks.export_vbench)
app.command()(evaluate_videos.weights)
app.command()(evaluate_results.compare)
app.command()(evaluate_interpolation.interpolation)
app.command("real-interpolation")(evaluate_interpolation.real_interpolation)
app.command("mini-board")(evaluate_board.mini_board)
app.command("train-recogniser")(evaluate_board.train_recogniser)

Data = Annotated[
    Path, typer.Option(help="Rendered clips with captions and labels: t2v-data world clips --held-out --labels.")
]
Sprites = Annotated[Path, typer.Option(help="Pictures of the actors, of the clips' size: t2v-data world sprites.")]
NumVideos = Annotated[
    int, typer.Option(min=0, help="Videos to generate, verbs in turn; 0 measures the rendered clips alone.")
]
Report = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
Sheet = Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")]
Seed = Annotated[int, typer.Option(help="Video i uses seed + i.")]
SheetSeed = Annotated[int, typer.Option(help="Every row is what `t2v generate` makes with this seed.")]
Clips = Annotated[Path | None, typer.Option(help="Show the clips of this folder instead: what a model can reach.")]
Rows = Annotated[int, typer.Option(min=1, help="Clips to show, with --clips.")]
Columns = Annotated[int, typer.Option("--frames", min=1, help="Frames of each video to show.")]

_PLAIN_WIDTH = 110  # of the table, where there is no terminal


@app.command()
def motion(
    data: Data,
    sprites: Sprites,
    output: Report,
    model: options.Model = None,
    motion: options.Motion = None,
    num_videos: NumVideos = 32,
    seed: Seed = 0,
    num_frames: options.NumFrames = None,
    fps: options.Fps = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    guidance_scale: options.GuidanceScale = None,
    motion_guidance: options.MotionGuidance = None,
    deflicker: options.Deflicker = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare how actors move in generated videos and in rendered clips, verb by verb.

    Actors are found by matching their pictures, and for comparison by the centroid of what moves. The rendered clips
    are measured at the same frames and rate, so they show what the measures can reach.
    """
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.evaluation.labelled_clips import ActorPictures, balanced, labelled_clips
    from t2v.models.base import save_json

    check_file(output, ".json", overwrite)
    clips, pictures = labelled_clips(data), ActorPictures(sprites)
    pictures.check(clips)
    captions = balanced(clips, num_videos)
    reporter = Reporter(quiet)
    with reporter.stage("measuring motion"):
        from t2v.evaluation.motion_report import MotionRequest, evaluate_motion
        from t2v.pipelines.settings import GenerationSettings, check_seed

        given = options.given(num_frames=num_frames, fps=fps, num_inference_steps=num_inference_steps, sampler=sampler)
        given |= options.given(guidance=guidance, guidance_scale=guidance_scale, motion_guidance=motion_guidance)
        given |= options.given(deflicker=deflicker)
        settings = _checked(given)
        check_seed(seed, max(1, len(captions)))
        pipe = _load(model, motion, device, dtype) if captions else None
        defaults = GenerationSettings() if pipe is None else pipe.defaults
        shape = settings.get("num_frames", defaults.num_frames), settings.get("fps", defaults.fps)
        request = MotionRequest(clips, pictures, *shape)
        report = evaluate_motion(request, captions, pipe, settings, seed, reporter.step)
    save_json(output, {**report, "protocol": {"data": str(data), "sprites": str(sprites), **report["protocol"]}})
    _print(report)
    print(output)


@app.command()
def sheet(
    output: Sheet,
    model: options.Model = None,
    motion: options.Motion = None,
    prompts: options.Prompts = None,
    clips: Clips = None,
    num_clips: Rows = 8,
    frames: Columns = 6,
    seed: SheetSeed = 0,
    num_frames: options.NumFrames = None,
    fps: options.Fps = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    guidance_scale: options.GuidanceScale = None,
    motion_guidance: options.MotionGuidance = None,
    deflicker: options.Deflicker = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a contact sheet: one row of frames per prompt, or per clip of a folder."""
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation.sheet import contact_sheet, save_picture, strip

    if (prompts is None) == (clips is None):
        raise InputError("give either --prompts FILE or --clips FOLDER")
    check_file(output, ".png", overwrite)
    given = options.given(num_frames=num_frames, fps=fps, num_inference_steps=num_inference_steps, sampler=sampler)
    given |= options.given(guidance=guidance, guidance_scale=guidance_scale, motion_guidance=motion_guidance)
    given |= options.given(deflicker=deflicker)
    settings = _checked(given)
    reporter = Reporter(quiet)
    with reporter.stage("drawing"):
        if clips is not None:
            rows = _clip_rows(clips, num_clips, settings)
        else:
            assert prompts is not None
            rows = _video_rows(prompts, _load(model, motion, device, dtype), seed, settings, reporter)
        drawn = [(caption, strip(video.frames, frames)) for caption, video in rows]
    save_picture(contact_sheet(*zip(*drawn, strict=True)), output)
    print(output)


@app.command("frame-rates")
def frame_rates(
    output: Report,
    model: options.Model = None,
    motion: options.Motion = None,
    prompts: options.Prompts = None,
    clips: Clips = None,
    num_clips: Rows = 8,
    seed: SheetSeed = 0,
    num_frames: options.NumFrames = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    guidance_scale: options.GuidanceScale = None,
    motion_guidance: options.MotionGuidance = None,
    deflicker: options.Deflicker = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure whether motion from frame to frame follows the time between frames, at 4 to 24 frames per second."""
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation.frame_rates import MEASURES, RATES, evaluate_rates
    from t2v.models.base import save_json

    if (prompts is None) == (clips is None):
        raise InputError("give either --prompts FILE or --clips FOLDER")
    check_file(output, ".json", overwrite)
    given = options.given(num_frames=num_frames, num_inference_steps=num_inference_steps, sampler=sampler)
    given |= options.given(guidance=guidance, guidance_scale=guidance_scale, motion_guidance=motion_guidance)
    given |= options.given(deflicker=deflicker)
    settings = _checked(given)
    reporter = Reporter(quiet)
    with reporter.stage("measuring"):
        pipe = None if prompts is None else _load(model, motion, device, dtype)

        protocol: dict[str, Any] = {"clips": str(clips)} if prompts is None else {"prompts": str(prompts), "seed": seed}

        def measured() -> "Iterator[tuple[str, float, np.ndarray]]":
            for fps in RATES:
                at_rate: GenerationOptions = {**settings, "fps": fps}
                if clips is not None:
                    rows = _clip_rows(clips, num_clips, at_rate)
                else:
                    assert prompts is not None and pipe is not None
                    rows = _video_rows(prompts, pipe, seed, at_rate, reporter)
                for name, video in rows:
                    protocol.update(_facts(video))
                    yield name, fps, video.frames

        report = evaluate_rates(measured())
    save_json(output, {"protocol": protocol, **report})
    for measure in MEASURES:
        found = report[measure]
        means = "  ".join(f"{fps} fps {mean:.2f}" for fps, mean in found["mean"].items())
        print(
            f"{measure}: rank correlation with 1 / fps {_number(found['of_means'], 2)} of means, "
            f"{_number(found['of_videos'], 2)} of videos; {means}"
        )
    print(output)


def _facts(video: "Video") -> dict[str, Any]:
    """What a video has in common with those of other prompts and rates."""
    from t2v.evaluation.motion_report import model_facts

    facts = model_facts(video.metadata) if video.metadata else {}  # rendered clips have none
    if facts:
        facts["settings"] = {name: value for name, value in facts["settings"].items() if name != "fps"}
    return {"num_frames": len(video), **facts}


def _checked(given: dict[str, Any]) -> "GenerationOptions":
    from t2v.pipelines.settings import GenerationSettings

    return GenerationSettings.check_options(given, "the command line")


def _load(model: str | None, motion: str | None, device: str | None, dtype: str | None) -> "TextToVideoPipeline":
    from t2v.pipelines.text_to_video import load

    return load(model or "mini", device or "auto", dtype or "auto", motion)


def _video_rows(
    prompts: Path, pipe: "TextToVideoPipeline", seed: int, settings: "GenerationOptions", reporter: "Reporter"
) -> "Iterator[tuple[str, Video]]":
    from t2v.cli.outputs import read_prompts

    texts = read_prompts(prompts)
    for index, prompt in enumerate(texts):
        yield prompt, pipe(prompt, seed=seed, **settings)
        reporter.step(index + 1, len(texts))


def _clip_rows(folder: Path, num: int, settings: "GenerationOptions") -> "Iterator[tuple[str, Video]]":
    import numpy as np

    from t2v.data.manifest import read_manifest
    from t2v.data.video_io import read_frames
    from t2v.errors import InputError
    from t2v.pipelines.settings import GenerationSettings
    from t2v.pipelines.video import Video

    chosen = GenerationSettings(**settings)
    rows = [row for row in read_manifest(folder) if row.is_usable][:num]
    if not rows:
        raise InputError(f"the manifest of {folder} lists no clip")
    for row in rows:
        times = (np.arange(chosen.num_frames) / chosen.fps).tolist()
        yield row.caption or row.path, Video(read_frames(folder / row.path, times=times), chosen.fps)


def _print(report: dict[str, Any]) -> None:
    """The report's main figures as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "verb", "videos", "seen", "px/s", "bounce px", "sway px", "frame diff.", "within 20%", "like the verb",
        title="generated / rendered, by matching", title_justify="left",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for verb, found in report["verbs"].items():
        judged = [found["measures"]["match"][name] for name in ("path_speed", "vertical_range", "sway_range")]
        verdict = found["verdict"]["match"]
        table.add_row(
            verb,
            f"{found['num_generated']} / {found['num_rendered']}",
            _pair(found["score"], 2),
            *(_pair(values, 1) for values in judged),
            _ratio(found["frame_difference"]),
            _yes(verdict["within_tolerance"]),
            _yes(verdict["moves_like_verb"], verdict["share_like_verb"]),
        )
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)
    for line in _lines(report):
        console.print(line, markup=False)


def _lines(report: dict[str, Any]) -> "Sequence[str]":
    recognised = report["verb_from_motion"]["match"]
    errors = report["method_error_on_rendered"]["match"]
    differences = (
        f"{name.replace('_', ' ')}: {_pair(report[name], 2)}, ratio {_ratio(report[name])}"
        for name in ("frame_difference", "background_difference")
    )
    accuracy = f"{_number(recognised['generated'], 2)} / {_number(recognised['rendered_leave_one_out'], 2)}"
    return (
        *differences,
        f"verb from motion alone: {accuracy} (chance {recognised['chance']:.2f})",
        f"matching on rendered clips: median error {errors['median']:.1f} px, 90% within {errors['p90']:.1f} px",
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _pair(values: dict[str, float | None], digits: int) -> str:
    return f"{_number(values['generated'], digits)} / {_number(values['rendered'], digits)}"


def _ratio(values: dict[str, float | None]) -> str:
    return _number(values["ratio"], 2)


def _yes(value: bool | None, share: float | None = None) -> str:
    answer = "-" if value is None else "yes" if value else "no"
    return answer if share is None else f"{answer} ({share:.0%})"
