"""`t2v interpolate`: frames between pictures, or between the frames of a video."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli import options
from t2v.cli.filling import (
    Destination,
    FillRequest,
    FrameGuidance,
    Interpolation,
    Method,
    MethodOption,
    Output,
    PromptOption,
    Seed,
    TextGuidance,
    check_alpha,
    check_outputs,
    parse_fps,
)
from t2v.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from t2v.cli.progress import Reporter
    from t2v.pipelines.interpolation.inputs import FrameSequence
    from t2v.pipelines.interpolation.rate import OutputFrame
    from t2v.pipelines.interpolation.stills import Timeline

app = typer.Typer(add_completion=False)

DEFAULT_FRAMES, DEFAULT_FPS = 16, Fraction(8)


class Fit(StrEnum):
    """What is done with a picture of another size than the first."""

    PAD = "pad"
    CROP = "crop"
    STRETCH = "stretch"


class OnCut(StrEnum):
    """What is between two shots."""

    HOLD = "hold"
    FADE = "fade"
    MORPH = "morph"
    EXTRAPOLATE = "extrapolate"


class Dedup(StrEnum):
    """What is done with exact repeats of a frame."""

    OFF = "off"
    FILL = "fill"


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
Audio = Annotated[bool, typer.Option(help="Keep the sound where the duration stays.", rich_help_panel=_VIDEO)]


@dataclass(frozen=True)
class _Stills:
    """What is asked for of pictures."""

    frames: int | None
    between: int | None
    seconds: float | None
    times: str | None
    loop: bool
    fit: Fit | None
    fps: Fraction

    def timeline(self, num_pictures: int) -> "Timeline":
        """When each frame is."""
        from t2v.pipelines.interpolation.stills import chosen_timeline, even_timeline

        num_frames = self._num_frames(num_pictures)
        if self.times is None:
            return even_timeline(num_pictures, num_frames, self.fps, self.loop)
        if self.loop:
            raise InputError("--times and --loop do not go together: --times are moments from the first to the last")
        try:
            moments = [float(moment) for moment in self.times.split(",")]
        except ValueError:
            raise InputError(f"--times are numbers such as 0.25,0.5, got {self.times}") from None
        return chosen_timeline(num_pictures, moments, num_frames, self.fps)

    def _num_frames(self, num_pictures: int) -> int:
        given = {"--frames": self.frames, "--between": self.between, "--seconds": self.seconds}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise InputError(f"{' and '.join(named)} both say how many frames there are: give one of them")
        if self.between is not None:
            if self.between < 0:
                raise InputError(f"--between must be at least 0, got {self.between}")
            gaps = num_pictures if self.loop else num_pictures - 1
            return gaps * (self.between + 1) + (not self.loop)
        if self.seconds is not None:
            if not 0 < self.seconds <= 24 * 3600:
                raise InputError(f"--seconds must be above 0 and at most a day, got {self.seconds:g}")
            return max(1, round(Fraction(self.seconds) * self.fps))
        return DEFAULT_FRAMES if self.frames is None else self.frames


@dataclass(frozen=True)
class _NewRate:
    """What is asked for of a video."""

    factor: int | None
    to_fps: Fraction | None
    input_fps: Fraction | None
    fps: Fraction | None  # of the file; None: the new rate
    on_cut: OnCut
    cut_threshold: float
    dedup: Dedup
    audio: bool

    def rate(self, source: Fraction) -> Fraction:
        """Frames made for each second of the source."""
        if self.to_fps is not None:
            return self.to_fps
        assert self.factor is not None
        return source * self.factor


@app.command()
def interpolate(
    inputs: Inputs,
    output: Output,
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
    dedup: DedupOption = Dedup.OFF,
    audio: Audio = True,
    method: MethodOption = Method.DIFFUSION,
    prompt: PromptOption = "",
    seed: Seed = 0,
    model: options.Model = None,
    interpolation: Interpolation = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    frame_guidance: FrameGuidance = 1.0,
    guidance_scale: TextGuidance = 2.0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the frames between pictures, as in: t2v interpolate a.png b.png -o clip.mp4.

    Or raise the frame rate of a video: t2v interpolate clip.mp4 --to-fps 60 -o smooth.mp4. Known frames are written
    as they are. The .json beside the output says which frames are known and which were made.
    """
    from t2v.cli.progress import Reporter

    request = FillRequest(
        method,
        model,
        interpolation,
        device,
        dtype,
        {
            "prompt": prompt,
            "seed": seed,
            "num_inference_steps": num_inference_steps,
            "sampler": sampler,
            "frame_guidance": frame_guidance,
            "guidance_scale": guidance_scale,
        },
    )
    reporter, file_fps = Reporter(quiet), parse_fps(fps, "--fps")
    if factor is None and to_fps is None:
        if input_fps is not None:
            raise InputError("--input-fps is for a new frame rate: give --factor or --to-fps too")
        stills = _Stills(frames, between, seconds, times, loop, fit, file_fps or DEFAULT_FPS)
        _interpolate_stills(inputs, stills, request, output, overwrite, reporter)
        return
    given = {"--frames": frames, "--between": between, "--seconds": seconds, "--times": times, "--loop": loop or None}
    wrong = [name for name, value in given.items() if value is not None]
    if wrong or (factor is not None and to_fps is not None):
        both, rate_option = wrong[0] if wrong else "--to-fps", "--to-fps" if factor is None else "--factor"
        raise InputError(f"{both} does not go with {rate_option}: give one of them")
    if factor is not None and not 1 <= factor <= 1000:
        raise InputError(f"--factor must be a whole number from 1 to 1000, got {factor}")
    rates = parse_fps(to_fps, "--to-fps"), parse_fps(input_fps, "--input-fps"), file_fps
    new_rate = _NewRate(factor, *rates, on_cut, cut_threshold, dedup, audio)
    _interpolate_sequence(inputs, new_rate, request, output, overwrite, reporter)


def _interpolate_stills(
    inputs: list[str], stills: _Stills, request: FillRequest, output: Path, overwrite: bool, reporter: "Reporter"
) -> None:
    from t2v.data.video_io import check_rate, read_picture
    from t2v.pipelines.interpolation.inputs import is_pattern, picture_files

    files = picture_files(inputs)
    if any(is_pattern(name) or Path(name).is_dir() for name in inputs):
        reporter.note(f"in this order: {', '.join(file.name for file in files)}")
    timeline = stills.timeline(len(files))
    check_outputs(output, overwrite)
    check_rate(output, timeline.fps)

    from t2v.pipelines.interpolation.rate import OutputFrame
    from t2v.pipelines.interpolation.stills import make_clip, same_size

    pictures = [read_picture(file, keep_alpha=True) for file in files]
    pictures = same_size(pictures, [str(file) for file in files], stills.fit)
    check_alpha(pictures, output)
    fill, record = request.load(reporter)
    with reporter.stage("making frames"):
        clip = make_clip(pictures, timeline, fill, reporter.step)
        made = (OutputFrame(*pair) for pair in zip(clip, timeline.sources, strict=True))
        times = [str(time) for time in timeline.times]
        report = {**record, "inputs": [str(file) for file in files], "times": times}
        Destination(output, timeline.fps, overwrite).write(made, report)
    print(output)


def _interpolate_sequence(
    inputs: list[str], new: _NewRate, request: FillRequest, output: Path, overwrite: bool, reporter: "Reporter"
) -> None:
    from t2v.data.video_io import check_rate
    from t2v.pipelines.interpolation.inputs import open_sequence
    from t2v.pipelines.interpolation.rate import RateOptions, num_output_frames, raise_rate

    if len(inputs) != 1:
        raise InputError(f"a new frame rate is for one video, folder or 'PATTERN' in quotes, got {len(inputs)} inputs")
    check_outputs(output, overwrite)
    sequence = open_sequence(inputs[0], new.input_fps)
    if sequence.files:
        reporter.note(f"{len(sequence.files)} pictures, {sequence.files[0].name} to {sequence.files[-1].name}")
    _warn_of_depth(sequence, reporter)
    rate = new.rate(sequence.fps)
    rate_options = RateOptions(rate, new.on_cut, new.dedup is Dedup.FILL, new.cut_threshold)
    file_fps = new.fps or rate
    check_rate(output, file_fps)
    fill, record = request.load(reporter)
    num_frames = num_output_frames(sequence.duration, rate)
    audio_from = _audio_source(sequence, output, file_fps == rate, new.audio, reporter)
    with reporter.stage("making frames"):
        made = raise_rate(sequence.frames(), num_frames, fill, rate_options)
        report = {
            **record,
            "inputs": inputs,
            "source_fps": str(sequence.fps),
            "rate": str(rate),
            "on_cut": str(new.on_cut),
            "dedup": str(new.dedup),
        }
        Destination(output, file_fps, overwrite, audio_from).write(_counted(made, num_frames, reporter), report)
    print(output)


def _counted(frames: "Iterator[OutputFrame]", total: int, reporter: "Reporter") -> "Iterator[OutputFrame]":
    for done, frame in enumerate(frames, start=1):
        yield frame
        reporter.step(done, total)


def _warn_of_depth(sequence: "FrameSequence", reporter: "Reporter") -> None:
    pixel_format = sequence.info.pixel_format if sequence.info is not None else None
    if pixel_format and any(depth in pixel_format for depth in ("10", "12", "16")):
        reporter.warn(f"{sequence.name} has more than 8 bits a colour ({pixel_format}); the output has 8, without HDR")


def _audio_source(
    sequence: "FrameSequence", output: Path, same_duration: bool, wanted: bool, reporter: "Reporter"
) -> Path | None:
    """The file whose sound is copied; a note where it has one that is not."""
    from t2v.data.video_io import can_hold_audio

    if not wanted or sequence.info is None or sequence.info.audio_codec is None:
        return None
    if not same_duration:
        reporter.note("the sound is left out: the new video has another duration")
        return None
    if not can_hold_audio(output, sequence.info):
        kind = output.suffix or "a folder of PNGs"
        reporter.note(f"the sound is left out: {kind} cannot hold {sequence.info.audio_codec} as it is")
        return None
    return Path(sequence.name)
