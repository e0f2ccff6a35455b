"""`t2v animate`: a still picture begins to move."""

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
    Output,
    PixelFormat,
    Scale,
    Seed,
    TextGuidance,
    check_alpha,
    check_outputs,
    encode_options,
    parse_fps,
)
from t2v.errors import InputError
from t2v.pipelines.settings import FRAME_GUIDANCE

app = typer.Typer(add_completion=False)


@app.command()
def animate(
    image: Annotated[str, typer.Argument(help="A picture, the first frame.")],
    output: Output,
    prompt: Annotated[str, typer.Argument(help="What the clip shows; may be left out.")] = "",
    num_frames: Annotated[int | None, typer.Option(help="Frames, the picture included. [default: the model's]")] = None,
    fps: Annotated[str | None, typer.Option(help="Frames per second. [default: the model's]")] = None,
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
    """Make a picture move, as in: t2v animate cat.png "a cat jumping" -o cat.mp4. Its first frame is the picture."""
    from t2v.cli.progress import Reporter
    from t2v.data.video_io import check_rate, read_picture
    from t2v.pipelines.interpolation.inputs import picture_files

    files = picture_files([image])
    if len(files) > 1:
        raise InputError(f"{image} stands for {len(files)} pictures, and one is animated: give one file")
    if num_frames is not None and not 2 <= num_frames <= 10_000:
        raise InputError(f"--num-frames must be from 2 to 10000, got {num_frames}")
    rate = parse_fps(fps, "--fps")
    check_outputs(output, overwrite)
    encoding = encode_options(output, codec, crf, pix_fmt)
    picture = read_picture(files[0], keep_alpha=True)
    check_alpha([picture], output)

    from t2v.pipelines.interpolation.extension import continue_frames
    from t2v.pipelines.interpolation.rate import OutputFrame

    sampling = options.given(prompt=prompt, seed=seed, num_inference_steps=num_inference_steps, sampler=sampler)
    sampling |= options.given(frame_guidance=frame_guidance, guidance_scale=guidance_scale, scale=scale)
    reporter = Reporter(quiet)
    fill = FillRequest(Method.DIFFUSION, model, interpolation, device, dtype, sampling, offload).load_network(reporter)
    rate = rate or Fraction(fill.defaults.fps).limit_denominator(1001)
    check_rate(output, rate)
    count = (num_frames or fill.max_frames or fill.defaults.num_frames) - 1
    with reporter.stage("making frames"):
        fill.on_step = reporter.step
        made = [OutputFrame(new, None) for new in continue_frames([picture], count, rate, fill)]
        report = {"method": "diffusion", **fill.record(), "inputs": [image]}
        Destination(output, rate, overwrite, encoding).write([OutputFrame(picture, 0), *made], report)
    print(Path(output))
