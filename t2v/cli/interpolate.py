"""`t2v interpolate`: frames between pictures, or between the frames of a video."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options
from t2v.cli.filling import (
    Codec,
    Crf,
    FillRequest,
    FrameGuidance,
    HintOption,
    Interpolation,
    Method,
    MethodOption,
    OptionalOutput,
    PixelFormat,
    PromptOption,
    Scale,
    Seed,
    TextGuidance,
    check_outputs,
    encode_options,
    parse_fps,
)
from t2v.cli.interpolate_pictures import DEFAULT_FPS, ClipRequest, Fit, interpolate_pictures
from t2v.cli.interpolate_video import Audio, Dedup, OnCut, RateRequest, interpolate_video, print_cuts
from t2v.errors import InputError
from t2v.pipelines.settings import FRAME_GUIDANCE, Hint

app = typer.Typer(add_completion=False)

_PAIR, _VIDEO = "Pictures", "Video, folder or pattern"
Inputs = Annotated[
    list[str],
    typer.Argument(help="Two or more pictures; with --factor or --to-fps a video, a folder, or a pattern in quotes."),
]
Frames = Annotated[
    int | None, typer.Option(help="Frames in all, the pictures included. [default: 16]", rich_help_panel=_PAIR)
]
Between = Annotated[int | None, typer.Option(help="New frames between two pictures.", rich_help_panel=_PAIR)]
Seconds = Annotated[float | None, typer.Option(help="How long the clip is.", rich_help_panel=_PAIR)]
Times = Annotated[
    str | None, typer.Option(help="Make these moments alone, shares of the clip as in 0.25,0.5.", rich_help_panel=_PAIR)
]
Loop = Annotated[bool, typer.Option("--loop", help="Go back to the first picture.", rich_help_panel=_PAIR)]
FitOption = Annotated[
    Fit | None, typer.Option(help="How a picture of another size than the first fits it.", rich_help_panel=_PAIR)
]
Fps = Annotated[
    str | None, typer.Option(help="Frames per second of the file, as in 12 or 24000/1001. [default: 8; video: its new]")
]
Factor = Annotated[int | None, typer.Option(help="So many times as many frames.", rich_help_panel=_VIDEO)]
ToFps = Annotated[
    str | None, typer.Option(help="New frames per second, as in 60 or 60000/1001.", rich_help_panel=_VIDEO)
]
InputFps = Annotated[str | None, typer.Option(help="Frames per second of a folder or pattern.", rich_help_panel=_VIDEO)]
Cut = Annotated[OnCut, typer.Option(help="What is between two shots.", rich_help_panel=_VIDEO)]
CutThreshold = Annotated[float, typer.Option(help="Difference of a cut, 0 to 255.", rich_help_panel=_VIDEO)]
DedupOption = Annotated[
    Dedup, typer.Option(help="Whether exact repeats of a frame are made anew.", rich_help_panel=_VIDEO)
]
AudioOption = Annotated[
    Audio,
    typer.Option(
        help="Sound: copied where the duration stays, left out, or slowed down with the pictures.",
        rich_help_panel=_VIDEO,
    ),
]
Cuts = Annotated[
    Path | None, typer.Option(help="CSV file of cuts, instead of looking for them.", rich_help_panel=_VIDEO)
]
PrintCuts = Annotated[
    bool,
    typer.Option("--print-cuts", help="Print the cuts as such a file, and do nothing else.", rich_help_panel=_VIDEO),
]


@app.command()
def interpolate(
    inputs: Inputs,
    output: OptionalOutput = None,
    frames: Frames = None,
    between: Between = None,
    seconds: Seconds = None,
    fps: Fps = None,
    times: Times = None,
    loop: Loop = False,
    fit: FitOption = None,
    factor: Factor = None,
    to_fps: ToFps = None,
    input_fps: InputFps = None,
    on_cut: Cut = OnCut.HOLD,
    cut_threshold: CutThreshold = 27.0,
    cuts: Cuts = None,
    print_cuts_only: PrintCuts = False,
    dedup: DedupOption = Dedup.OFF,
    audio: AudioOption = Audio.COPY,
    method: MethodOption = Method.DIFFUSION,
    prompt: PromptOption = "",
    seed: Seed = 0,
    model: options.Model = None,
    interpolation: Interpolation = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    frame_guidance: FrameGuidance = FRAME_GUIDANCE,
    hint: HintOption = Hint.CROSSFADE,
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
    """Make the frames between pictures, as in: t2v interpolate a.png b.png -o clip.mp4.

    Or raise the frame rate of a video: t2v interpolate clip.mp4 --to-fps 60 -o smooth.mp4. Known frames are written
    as they are. The .json beside the output says which frames are known and which were made.
    """
    from t2v.cli.progress import Reporter

    if print_cuts_only:
        _refuse("does not go with --print-cuts, which only prints", {"--output": output, "--cuts": cuts})
        print_cuts(_only(inputs), parse_fps(input_fps, "--input-fps"), cut_threshold)
        return
    if output is None:
        raise InputError("say where to write with --output, as in -o clip.mp4")
    check_outputs(output, overwrite)
    encoding = encode_options(output, codec, crf, pix_fmt)
    sampling = options.given(prompt=prompt, seed=seed, num_inference_steps=num_inference_steps, sampler=sampler)
    sampling |= options.given(frame_guidance=frame_guidance, guidance_scale=guidance_scale, scale=scale, hint=hint)
    request = FillRequest(method, model, interpolation, device, dtype, sampling, offload)
    reporter, file_fps = Reporter(quiet), parse_fps(fps, "--fps")
    if factor is None and to_fps is None:
        _refuse("is for a new frame rate: give --factor or --to-fps too", {"--input-fps": input_fps, "--cuts": cuts})
        clip = ClipRequest(frames, between, seconds, times, loop, fit, file_fps or DEFAULT_FPS)
        interpolate_pictures(inputs, clip, request, output, encoding, overwrite, reporter)
        return
    rate_option = "--to-fps" if factor is None else "--factor"
    given = {"--frames": frames, "--between": between, "--seconds": seconds, "--times": times, "--loop": loop or None}
    both = {"--to-fps": to_fps if factor is not None else None}
    _refuse(f"does not go with {rate_option}: give one of them", {**given, **both})
    if factor is not None and not 1 <= factor <= 1000:
        raise InputError(f"--factor must be a whole number from 1 to 1000, got {factor}")
    rates = parse_fps(to_fps, "--to-fps"), parse_fps(input_fps, "--input-fps"), file_fps
    new_rate = RateRequest(factor, *rates, on_cut, cut_threshold, cuts, dedup, audio)
    interpolate_video(_only(inputs), new_rate, request, output, encoding, overwrite, reporter)


def _refuse(reason: str, given: dict[str, object]) -> None:
    """InputError naming the first option that was given."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} {reason}")


def _only(inputs: list[str]) -> str:
    if len(inputs) != 1:
        raise InputError(f"a new frame rate is for one video, folder or 'PATTERN' in quotes, got {len(inputs)} inputs")
    return inputs[0]
