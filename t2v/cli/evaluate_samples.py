"""`t2v evaluate sheet | frame-rates`: generated videos, or clips, on a contact sheet and at several rates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v import __version__
from t2v.cli import options
from t2v.cli.evaluate_results import number
from t2v.cli.evaluate_videos import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from t2v.cli.progress import Reporter
    from t2v.pipelines.settings import GenerationOptions
    from t2v.pipelines.text_to_video import TextToVideoPipeline

Sheet = Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")]
Seed = Annotated[int, typer.Option(help="Every row is what `t2v generate` makes with this seed.")]
Clips = Annotated[Path | None, typer.Option(help="Take the clips of this folder instead: what a model can reach.")]
Rows = Annotated[int, typer.Option(min=1, help="Clips to take, with --clips.")]
Columns = Annotated[int, typer.Option("--frames", min=1, help="Frames of each video to show.")]


def sheet(
    context: typer.Context,
    output: Sheet,
    model: options.Model = None,
    motion: options.Motion = None,
    prompts: options.Prompts = None,
    clips: Clips = None,
    num_clips: Rows = 8,
    frames: Columns = 6,
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
    """Draw a contact sheet: one row of frames per prompt, or per clip of a folder."""
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation.sheet import contact_sheet, save_picture, strip

    if (prompts is None) == (clips is None):
        raise InputError("give either --prompts FILE or --clips FOLDER")
    check_file(output, ".png", overwrite)
    settings = options.sampling(context)
    reporter = Reporter(quiet)
    with reporter.stage("drawing"):
        if clips is not None:
            rows = _clip_rows(clips, num_clips, settings)
        else:
            from t2v.pipelines.text_to_video import load

            assert prompts is not None
            pipe = load(model or "mini", device or "auto", dtype or "auto", motion)
            rows = _video_rows(prompts, pipe, seed, settings, reporter)
        drawn = [(caption, strip(video, frames)) for caption, video in rows]
    save_picture(contact_sheet(*zip(*drawn, strict=True)), output)
    print(output)


def frame_rates(
    context: typer.Context,
    output: Report,
    model: options.Model = None,
    motion: options.Motion = None,
    prompts: options.Prompts = None,
    clips: Clips = None,
    num_clips: Rows = 8,
    seed: Seed = 0,
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
    from dataclasses import replace

    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation.frame_rates import MEASURES, RATES, evaluate_rates
    from t2v.models.base import save_json
    from t2v.pipelines.settings import GenerationSettings

    if (prompts is None) == (clips is None):
        raise InputError("give either --prompts FILE or --clips FOLDER")
    check_file(output, ".json", overwrite)
    settings = options.sampling(context)
    reporter = Reporter(quiet)
    with reporter.stage("measuring"):
        from t2v.pipelines.text_to_video import load

        pipe = None if prompts is None else load(model or "mini", device or "auto", dtype or "auto", motion)

        def rows(fps: float) -> "Iterator[tuple[str, np.ndarray]]":
            at_rate: GenerationOptions = {**settings, "fps": fps}
            if clips is not None:
                return _clip_rows(clips, num_clips, at_rate)
            assert prompts is not None and pipe is not None
            return _video_rows(prompts, pipe, seed, at_rate, reporter)

        report = evaluate_rates((name, fps, frames) for fps in RATES for name, frames in rows(fps))
        protocol: dict[str, Any]
        if pipe is None:
            count = GenerationSettings(**settings).num_frames
            protocol = {"t2v": __version__, "clips": str(clips), "num_clips": num_clips, "num_frames": count}
        else:
            sampling = replace(pipe.defaults, **settings).to_dict()
            sampling.pop("fps")
            protocol = {"prompts": str(prompts), "seed": seed, **pipe.facts, "settings": sampling}
    save_json(output, {"protocol": protocol, **report})
    for measure in MEASURES:
        found = report[measure]
        means = "  ".join(f"{fps} fps {mean:.2f}" for fps, mean in found["mean"].items())
        print(
            f"{measure}: rank correlation with 1 / fps {number(found['of_means'], 2)} of means, "
            f"{number(found['of_videos'], 2)} of videos; {means}"
        )
    print(output)


def _video_rows(
    prompts: Path, pipe: "TextToVideoPipeline", seed: int, settings: "GenerationOptions", reporter: "Reporter"
) -> "Iterator[tuple[str, np.ndarray]]":
    from t2v.cli.outputs import read_prompts

    texts = read_prompts(prompts)
    for index, prompt in enumerate(texts):
        yield prompt, pipe(prompt, seed=seed, **settings).frames
        reporter.step(index + 1, len(texts))


def _clip_rows(folder: Path, num: int, settings: "GenerationOptions") -> "Iterator[tuple[str, np.ndarray]]":
    import numpy as np

    from t2v.data.manifest import read_manifest
    from t2v.data.video_io import read_frames
    from t2v.errors import InputError
    from t2v.pipelines.settings import GenerationSettings

    chosen = GenerationSettings(**settings)
    rows = [row for row in read_manifest(folder) if row.is_usable][:num]
    if not rows:
        raise InputError(f"the manifest of {folder} lists no clip")
    for row in rows:
        times = (np.arange(chosen.num_frames) / chosen.fps).tolist()
        yield row.caption or row.path, read_frames(folder / row.path, times=times)
