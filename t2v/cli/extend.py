"""`t2v extend`: what comes after a clip, and before it."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options
from t2v.cli.filling import (
    Codec,
    Crf,
    Destination,
    FillRequest,
    FrameGuidance,
    Interpolation,
    Method,
    MethodOption,
    Output,
    PixelFormat,
    PromptOption,
    Scale,
    Seed,
    TextGuidance,
    check_outputs,
    encode_options,
    parse_fps,
    warn_of_losses,
)
from t2v.errors import InputError
from t2v.pipelines.settings import FRAME_GUIDANCE

app = typer.Typer(add_completion=False)

MAX_SECONDS = 600.0


@app.command()
def extend(
    video: Annotated[str, typer.Argument(help="A video, or a folder of pictures with --input-fps.")],
    output: Output,
    forward: Annotated[float, typer.Option(help="Seconds to add after the end.")] = 0.0,
    backward: Annotated[float, typer.Option(help="Seconds to add before the start.")] = 0.0,
    input_fps: Annotated[str | None, typer.Option(help="Frames per second of a folder.")] = None,
    method: MethodOption = Method.DIFFUSION,
    prompt: PromptOption = "",
    seed: Seed = 0,
    model: options.Model = None,
    interpolation: Interpolation = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    frame_guidance: FrameGuidance = FRAME_GUIDANCE,
    guidance_scale: TextGuidance = 2.0,
    scale: Scale = None,
    codec: Codec = None,
    crf: Crf = None,
    pix_fmt: PixelFormat = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offload: options.Offload = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on with a video in either direction, as in: t2v extend clip.mp4 --forward 2 -o longer.mp4.

    The frames of the video are written as they are. It drifts: the further away, the less it has to do with the clip.
    """
    from t2v.cli.progress import Reporter
    from t2v.data.video_io import check_rate
    from t2v.pipelines.interpolation.extension import extend_clip
    from t2v.pipelines.interpolation.inputs import open_sequence

    for name, value in (("--forward", forward), ("--backward", backward)):
        if not 0 <= value <= MAX_SECONDS:
            raise InputError(f"{name} must be from 0 to {MAX_SECONDS:g} seconds, got {value:g}")
    if not forward and not backward:
        raise InputError("nothing to add: give --forward SECONDS, --backward SECONDS, or both")
    check_outputs(output, overwrite)
    encoding = encode_options(output, codec, crf, pix_fmt)
    sequence = open_sequence(video, parse_fps(input_fps, "--input-fps"))
    check_rate(output, sequence.fps)
    if sequence.times is not None:
        raise InputError(f"{video} has a variable frame rate: make it steady first, with `t2v interpolate --to-fps`")
    after, before = (round(Fraction(seconds) * sequence.fps) for seconds in (forward, backward))
    sampling = options.given(prompt=prompt, seed=seed, num_inference_steps=num_inference_steps, sampler=sampler)
    sampling |= options.given(frame_guidance=frame_guidance, guidance_scale=guidance_scale, scale=scale)
    reporter = Reporter(quiet)
    warn_of_losses(sequence, reporter)
    if sequence.info is not None and sequence.info.audio_codec is not None:
        reporter.note("the sound is left out: the new video has another duration")
    fill, record = FillRequest(method, model, interpolation, device, dtype, sampling, offload).load(reporter)
    with reporter.stage("making frames"):
        pictures = (frame.picture for frame in sequence.frames(keep_alpha=not output.suffix))
        made = extend_clip(pictures, sequence.fps, before, after, fill)
        report = {**record, "inputs": [video], "frames_before": before, "frames_after": after}
        Destination(output, sequence.fps, overwrite, encoding).write(made, report)
    print(Path(output))
