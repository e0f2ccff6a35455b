"""What a person names as input: picture files, a folder or pattern of them, or a video."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from t2v.data.video_io import (
    PICTURE_SUFFIXES,
    VideoInfo,
    VideoReader,
    may_be_transparent,
    natural_key,
    read_picture,
)
from t2v.errors import InputError
from t2v.pipelines.interpolation.cuts import SourceFrame
from t2v.pipelines.interpolation.filling import Pictures


def is_pattern(name: str) -> bool:
    """Whether a name stands for several files, as in 'frames/*.png'."""
    return glob.has_magic(name) and not Path(name).exists()


def picture_files(names: Sequence[str]) -> list[Path]:
    """The picture files that names stand for; those of a folder or pattern in natural order, 2 before 10.

    Raises:
        InputError: a file that is missing or no picture, a folder or pattern without pictures.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if is_pattern(name) or path.is_dir():
            found = [Path(file) for file in glob.glob(name, recursive=True)] if is_pattern(name) else path.iterdir()
            pictures = sorted((file for file in found if file.suffix.lower() in PICTURE_SUFFIXES), key=natural_key)
            if not pictures:
                raise InputError(f"{name} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
            files += pictures
        elif not path.is_file():
            raise InputError(f"no picture at {name}")
        elif path.suffix.lower() not in PICTURE_SUFFIXES:
            raise InputError(
                f"{name} is no picture file ({', '.join(PICTURE_SUFFIXES)}); for a video give --factor or --to-fps"
            )
        else:
            files.append(path)
    return files


@dataclass(frozen=True)
class FrameSequence:
    """A video, or pictures that are frames of one, read frame by frame."""

    name: str
    num_frames: int
    fps: Fraction
    duration: Fraction  # seconds
    files: tuple[Path, ...] = ()  # of pictures; none: `name` is a video file
    info: VideoInfo | None = None  # of a video file
    times: tuple[Fraction, ...] | None = None  # of a video with a variable rate

    def frames(self, keep_alpha: bool = False) -> Iterator[SourceFrame]:
        """The frames in order, with exact times.

        Args:
            keep_alpha: pictures (H, W, 4) where one of them may be transparent. A video is never.

        Raises:
            InputError: a picture cannot be read, has another size, or is transparent though alpha is not kept.
        """
        pictures = self._video_frames() if self.info is not None else self._pictures(keep_alpha)
        for index, picture in enumerate(pictures):
            time = self.times[index] if self.times is not None else index / self.fps
            yield SourceFrame(index, time, picture)

    def _video_frames(self) -> Iterator[Pictures]:
        with VideoReader(self.name) as reader:
            yield from reader

    def _pictures(self, keep_alpha: bool) -> Iterator[Pictures]:
        channels = 4 if keep_alpha and any(may_be_transparent(file) for file in self.files) else 3
        first = None
        for file in self.files:
            picture = read_picture(file, keep_alpha=True)
            if picture.shape[2] > channels:
                raise InputError(f"{file} is transparent: write PNGs, with an --output that has no extension")
            picture = with_channels(picture, channels)
            first = picture.shape if first is None else first
            if picture.shape != first:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (picture.shape, first)]
                raise InputError(f"{file} is {sizes[0]}, {self.files[0].name} is {sizes[1]}: frames have one size")
            yield picture


def with_channels(picture: Pictures, channels: int) -> Pictures:
    """A picture with opaque alpha where it has none and `channels` is 4."""
    if picture.shape[2] == channels:
        return picture
    return np.concatenate([picture, np.full((*picture.shape[:2], 1), 255, np.uint8)], axis=2)


def open_sequence(name: str, fps: Fraction | None) -> FrameSequence:
    """A video file, or the pictures of a folder or pattern.

    Args:
        fps: of pictures, which cannot say it themselves.

    Raises:
        InputError: it cannot be read, or `fps` is missing or not for it.
    """
    if is_pattern(name) or Path(name).is_dir():
        if fps is None:
            raise InputError(f"{name}: pictures do not say how fast they are shown; give --input-fps")
        files = picture_files([name])
        return FrameSequence(name, len(files), fps, len(files) / fps, tuple(files))
    if Path(name).suffix.lower() in PICTURE_SUFFIXES:
        raise InputError(f"{name} is one picture: a higher frame rate needs a video, a folder or a pattern")
    if fps is not None:
        raise InputError(f"{name} is a video and has its own frame rate; --input-fps is for pictures")
    with VideoReader(name) as reader:
        info, seconds = reader.info, reader.timestamps
    if not info.is_variable_rate:
        return FrameSequence(name, info.num_frames, info.fps, info.num_frames / info.fps, info=info)
    times = tuple(_exact(second) for second in seconds)
    return FrameSequence(name, info.num_frames, info.fps, _exact(info.duration), info=info, times=times)


def _exact(seconds: float) -> Fraction:
    """The tick of a container that a time in seconds was."""
    return Fraction(float(seconds)).limit_denominator(1_000_000)
