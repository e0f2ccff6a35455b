"""`t2v evaluate sheet | frame-rates`: videos for a list of prompts, or clips, seen and measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options
from t2v.cli.evaluate_results import number
from t2v.cli.evaluate_videos import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from t2v.cli.progress import Reporter
    from t2v.pipelines.settings import GenerationOptions
    from t2v.pipelines.text_to_video import TextToVideoPipeline
    from t2v.pipelines.video import Video

Sheet = Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")]
Seed = Annotated[int, typer.Option(help="Every row is what `t2v generate` makes with this seed.")]
Clips = Annotated[Path | None, typer.Option(help="Show the clips of this folder instead: what a model can reach.")]
Rows = Annotated[int, typer.Option(min=1, help="Clips to show, with --clips.")]
Columns = Annotated[int, typer.Option("--frames", min=1, help="Frames of each video to show.")]


def sheet(
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
    from t2v.pipelines.settings import GenerationSettings

    if (prompts is None) == (clips is None):
        raise InputError("give either --prompts FILE or --clips FOLDER")
    check_file(output, ".png", overwrite)
    given = options.given(num_frames=num_frames, fps=fps, num_inference_steps=num_inference_steps, sampler=sampler)
    given |= options.given(guidance=guidance, guidance_scale=guidance_scale, motion_guidance=motion_guidance)
    given |= options.given(deflicker=deflicker)
    settings = GenerationSettings.check_options(given, "the command line")
    reporter = Reporter(quiet)
    with reporter.stage("drawing"):
        if clips is not None:
            rows = _clip_rows(clips, num_clips, settings)
        else:
            from t2v.pipelines.text_to_video import load

            assert prompts is not None
            pipe = load(model or "mini", device or "auto", dtype or "auto", motion)
            rows = _video_rows(prompts, pipe, seed, settings, reporter)
        drawn = [(caption, strip(video.frames, frames)) for caption, video in rows]
    save_picture(contact_sheet(*zip(*drawn, strict=True)), output)
    print(output)


def frame_rates(
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
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation.frame_rates import MEASURES, RATES, evaluate_rates
    from t2v.models.base import save_json
    from t2v.pipelines.settings import GenerationSettings

    if (prompts is None) == (clips is None):
        raise InputError("give either --prompts FILE or --clips FOLDER")
    check_file(output, ".json", overwrite)
    given = options.given(num_frames=num_frames, num_inference_steps=num_inference_steps, sampler=sampler)
    given |= options.given(guidance=guidance, guidance_scale=guidance_scale, motion_guidance=motion_guidance)
    given |= options.given(deflicker=deflicker)
    settings = GenerationSettings.check_options(given, "the command line")
    reporter = Reporter(quiet)
    with reporter.stage("measuring"):
        from t2v.pipelines.text_to_video import load

        pipe = None if prompts is None else load(model or "mini", device or "auto", dtype or "auto", motion)
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
            f"{measure}: rank correlation with 1 / fps {number(found['of_means'], 2)} of means, "
            f"{number(found['of_videos'], 2)} of videos; {means}"
        )
    print(output)


def _facts(video: "Video") -> dict[str, Any]:
    """What a video has in common with those of other prompts and rates."""
    from t2v.evaluation.motion_report import model_facts

    facts = model_facts(video.metadata) if video.metadata else {}  # rendered clips have none
    if facts:
        facts["settings"] = {name: value for name, value in facts["settings"].items() if name != "fps"}
    return {"num_frames": len(video), **facts}


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
