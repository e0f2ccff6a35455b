"""`t2v interpolate` on pictures: how many frames there are and when, and writing them."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from t2v.cli.filling import Destination, FillRequest, check_alpha
from t2v.errors import InputError

if TYPE_CHECKING:
    from t2v.cli.progress import Reporter
    from t2v.data.video_io import EncodeOptions
    from t2v.pipelines.interpolation.stills import Timeline

DEFAULT_FRAMES, DEFAULT_FPS = 16, Fraction(8)


class Fit(StrEnum):
    """What is done with a picture of another size than the first."""

    PAD = "pad"
    CROP = "crop"
    STRETCH = "stretch"


@dataclass(frozen=True)
class ClipRequest:
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


def interpolate_pictures(
    inputs: list[str],
    clip: ClipRequest,
    request: FillRequest,
    output: Path,
    encoding: "EncodeOptions",
    overwrite: bool,
    reporter: "Reporter",
) -> None:
    """Write the clip that pictures are frames of."""
    from t2v.data.video_io import check_rate, read_picture
    from t2v.pipelines.interpolation.inputs import is_pattern, picture_files

    files = picture_files(inputs)
    if any(is_pattern(name) or Path(name).is_dir() for name in inputs):
        reporter.note(f"in this order: {', '.join(file.name for file in files)}")
    timeline = clip.timeline(len(files))
    check_rate(output, timeline.fps)

    from t2v.pipelines.interpolation.rate import OutputFrame
    from t2v.pipelines.interpolation.stills import make_clip, same_size

    pictures = [read_picture(file, keep_alpha=True) for file in files]
    pictures = same_size(pictures, [str(file) for file in files], clip.fit)
    check_alpha(pictures, output)
    fill, record = request.load(reporter)
    with reporter.stage("making frames"):
        frames = make_clip(pictures, timeline, fill, reporter.step)
        made = (OutputFrame(*pair) for pair in zip(frames, timeline.sources, strict=True))
        times = [str(time) for time in timeline.times]
        report = {**record, "inputs": [str(file) for file in files], "times": times}
        Destination(output, timeline.fps, overwrite, encoding).write(made, report)
    print(output)
