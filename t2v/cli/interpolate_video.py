"""`t2v interpolate` on a video, or on pictures that are frames of one: a new rate, cuts, sound."""

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from t2v.cli.filling import Destination, FillRequest, Sound, warn_of_losses
from t2v.errors import InputError

if TYPE_CHECKING:
    from t2v.cli.progress import Reporter
    from t2v.data.video_io import EncodeOptions
    from t2v.pipelines.interpolation.inputs import FrameSequence
    from t2v.pipelines.interpolation.rate import OutputFrame, RateOptions


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


class Audio(StrEnum):
    """What is done with the sound."""

    COPY = "copy"
    NONE = "none"
    STRETCH = "stretch"


@dataclass(frozen=True)
class RateRequest:
    """What is asked for of a video."""

    factor: int | None
    to_fps: Fraction | None
    input_fps: Fraction | None
    fps: Fraction | None  # of the file; None: the new rate
    on_cut: OnCut
    cut_threshold: float
    cuts: Path | None
    dedup: Dedup
    audio: Audio

    def options(self, sequence: "FrameSequence") -> "RateOptions":
        """The new rate, in frames made for each second of the source, and how it is reached."""
        from t2v.pipelines.interpolation.cut_list import cuts_of_video
        from t2v.pipelines.interpolation.rate import RateOptions

        if self.to_fps is None:
            assert self.factor is not None
            rate = sequence.fps * self.factor
        else:
            rate = self.to_fps
        cuts = None if self.cuts is None else cuts_of_video(self.cuts, sequence.name)
        if cuts and cuts[-1] > sequence.duration:
            seconds = f"{float(cuts[-1]):g} s, after the {float(sequence.duration):g} s of {sequence.name}"
            raise InputError(f"{self.cuts} has a cut at {seconds}: cuts are seconds from the first frame")
        return RateOptions(rate, self.on_cut, self.dedup is Dedup.FILL, self.cut_threshold, cuts)


def interpolate_video(
    name: str,
    new: RateRequest,
    request: FillRequest,
    output: Path,
    encoding: "EncodeOptions",
    overwrite: bool,
    reporter: "Reporter",
) -> None:
    """Write a video at its new rate."""
    from t2v.data.video_io import check_rate
    from t2v.pipelines.interpolation.inputs import open_sequence
    from t2v.pipelines.interpolation.rate import num_output_frames, raise_rate

    sequence = open_sequence(name, new.input_fps)
    if sequence.files:
        reporter.note(f"{len(sequence.files)} pictures, {sequence.files[0].name} to {sequence.files[-1].name}")
    warn_of_losses(sequence, reporter)
    options = new.options(sequence)
    file_fps = new.fps or options.fps
    check_rate(output, file_fps)
    fill, record = request.load(reporter)
    num_frames = num_output_frames(sequence.duration, options.fps)
    sound = _sound(sequence, output, options.fps / file_fps, new.audio, reporter)
    with reporter.stage("making frames"):
        made = raise_rate(sequence.frames(keep_alpha=not output.suffix), num_frames, fill, options)
        report = {
            **record,
            "inputs": [name],
            "source_fps": str(sequence.fps),
            "rate": str(options.fps),
            "on_cut": str(new.on_cut),
            "dedup": str(new.dedup),
        }
        destination = Destination(output, file_fps, overwrite, encoding, sound)
        destination.write(_counted(made, num_frames, reporter), report)
    print(output)


def _counted(frames: "Iterable[OutputFrame]", total: int, reporter: "Reporter") -> "Iterator[OutputFrame]":
    for done, frame in enumerate(frames, start=1):
        yield frame
        reporter.step(done, total)


def _sound(
    sequence: "FrameSequence", output: Path, stretch: Fraction, wanted: Audio, reporter: "Reporter"
) -> Sound | None:
    """Where the sound comes from; a note where there is one that is left out.

    Args:
        stretch: duration of the new video, relative to the source.
    """
    from t2v.data.video_io import can_hold_audio, can_stretch_audio

    if wanted is Audio.NONE or sequence.info is None or sequence.info.audio_codec is None:
        return None
    source, kind = Path(sequence.name), output.suffix or "a folder of PNGs"
    if stretch == 1 and can_hold_audio(output, sequence.info):
        return Sound(source)
    if not can_stretch_audio(output):
        reporter.note(f"the sound is left out: {kind} cannot hold any")
    elif wanted is Audio.STRETCH:
        return Sound(source, stretch)
    elif stretch != 1:
        reporter.note("the sound is left out: the new video has another duration; --audio stretch fits it")
    else:
        codec = sequence.info.audio_codec
        reporter.note(f"the sound is left out: {kind} cannot hold {codec} as it is; --audio stretch compresses it anew")
    return None


def print_cuts(name: str, input_fps: Fraction | None, threshold: float) -> None:
    """Print where shots begin, as a list that --cuts takes from any folder: the path is absolute."""
    from t2v.data.cut_list import COLUMNS
    from t2v.pipelines.interpolation.cuts import mark_cuts
    from t2v.pipelines.interpolation.inputs import open_sequence

    sequence = open_sequence(name, input_fps)
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(COLUMNS)
    for frame in mark_cuts(sequence.frames(), threshold):
        if frame.after_cut:
            lines.writerow((Path(name).absolute(), f"{float(frame.time):.6f}"))
