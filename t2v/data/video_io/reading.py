"""Read frames of any video exactly: by index or by time, turned upright, with true timestamps."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.stream import Disposition

from t2v.data.video_io.index import FrameIndex, index_frames
from t2v.data.video_io.info import VideoInfo
from t2v.data.video_io.pictures import PictureFolder
from t2v.errors import InputError

_BROKEN = (av.error.FFmpegError, OSError, ValueError, EOFError)
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


def probe(path: str | Path) -> VideoInfo:
    """Facts about a video file, an image folder included; InputError with the reason where it cannot be read."""
    with VideoReader(path) as reader:
        return reader.info


def read_frames(
    path: str | Path, indices: Sequence[int] | None = None, *, times: Sequence[float] | None = None
) -> np.ndarray:
    """Frames of a video, uint8 (F, H, W, 3): those at `indices`, those shown at `times` (seconds), or all.

    Raises:
        InputError: the file cannot be read, or has no such frame.
    """
    assert indices is None or times is None, "choose frames by index or by time"
    with VideoReader(path) as reader:
        if times is not None:
            return reader.frames_at(times)
        return reader.frames(range(reader.num_frames) if indices is None else indices)


class VideoReader:
    """Random access to the frames of a video file or of a folder of pictures.

    Frame i is the i-th frame that a player shows: hidden frames are not counted, variable rates and rotation
    are honoured. Use as a context manager, or call close().

    Args:
        path: a file that FFmpeg can read, or a folder whose pictures, in natural order of their names, are the frames.
        threads: of the decoder; 0 takes one per core. Data loaders with many workers want 1.
        folder_fps: frames per second of a folder of pictures, which cannot say it itself.
        size: (width, height) that upright frames are scaled to; None keeps that of the file, which `info` tells.

    Raises:
        InputError: missing, unreadable or broken file; no video in it; no frame in it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 0,
        folder_fps: float | Fraction = 24,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise InputError(f"video not found: {path}")
        self._source: _File | PictureFolder
        if self.path.is_dir():
            self._source = PictureFolder(self.path, Fraction(folder_fps).limit_denominator(100_000), size)
        else:
            self._source = _File(self.path, threads, size)

    @property
    def info(self) -> VideoInfo:
        return self._source.info

    @property
    def timestamps(self) -> np.ndarray:
        """Seconds from the first frame to each: float64 (num_frames,)."""
        return self._source.timestamps

    @property
    def num_frames(self) -> int:
        return self.info.num_frames

    @property
    def fps(self) -> float:
        return float(self.info.fps)

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames at `indices` (0 to num_frames - 1, any order, repeats allowed): uint8 (F, H, W, 3)."""
        wanted = sorted({int(index) for index in indices})
        if not wanted:
            raise InputError("no frame was asked for")
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            outside = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise InputError(f"{self.path} has frames 0 to {self.num_frames - 1}, asked for frame {outside}")
        read = dict(zip(wanted, self._source.pictures(wanted), strict=True))
        return np.stack([read[int(index)] for index in indices])

    def frames_at(self, times: Sequence[float]) -> np.ndarray:
        """The frames on screen at `times`, seconds from the first frame: uint8 (F, H, W, 3)."""
        return self.frames(self.indices_at(times))

    def indices_at(self, times: Sequence[float]) -> list[int]:
        """Indices of the frames on screen at `times`; InputError before the first frame or after the end."""
        late = [t for t in times if t < -_TIME_TOLERANCE or t > self.info.duration + _TIME_TOLERANCE]
        if late:
            raise InputError(f"{self.path} lasts {self.info.duration:.3f} s, asked for the frame at {late[0]:.3f} s")
        places = np.searchsorted(self.timestamps, np.asarray(times) + _TIME_TOLERANCE, side="right") - 1
        return np.maximum(places, 0).tolist()

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames in order, one at a time."""
        return self._source.pictures(range(self.num_frames))

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_TIME_TOLERANCE = 1e-4  # seconds; containers round times to 1/1000 s or finer


class _File:
    """A video file read through PyAV."""

    def __init__(self, path: Path, threads: int, size: tuple[int, int] | None) -> None:
        self.path, self._threads = path, threads
        try:
            self._open()
            self._index = index_frames(self._container, self._stream)
            if not self._index.num_frames:
                raise InputError("no frames in it")
            self._open()
            first = next(self._container.decode(self._stream))
            self.info = _describe(self._container, self._stream, self._index, first)
        except StopIteration:
            raise InputError(f"{path} cannot be read as video (no frame decodes)") from None
        except _BROKEN as error:
            raise InputError(f"{path} cannot be read as video ({_reason(error)})") from error
        self.timestamps = np.array(self._index.times) * float(self._index.time_base)
        self._stored_size = size[::-1] if size and self.info.rotation % 180 else size
        self._decoder: Iterator[av.VideoFrame] | None = None
        self._next = 0  # index of the frame that the decoder gives next, at the earliest

    def _open(self) -> None:
        """(Re)open the file at its start. Reopening is exact where seeking to the start is not."""
        self.close()
        self._container = av.open(str(self.path), metadata_errors="ignore")
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise InputError("no video stream in it")
        self._stream = streams[0]
        self._stream.codec_context.thread_count = self._threads
        self._stream.thread_type = "AUTO"

    def close(self) -> None:
        if hasattr(self, "_container"):
            self._container.close()

    def pictures(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames at ascending indices, each (H, W, 3)."""
        try:
            for index in wanted:
                yield self._upright(self._frame(index))
        except _BROKEN as error:
            self._decoder = None
            raise InputError(
                f"{self.path}: frame {index} of {self.info.num_frames} cannot be decoded ({_reason(error)})"
            ) from error

    def _frame(self, index: int) -> av.VideoFrame:
        if not self._index.pts:
            return self._frame_by_counting(index)
        pts = self._index.pts[index]
        key, place = self._index.key_before(pts)
        if self._decoder is None or index < self._next or key > self._index.pts[self._next]:
            self._container.seek(place, stream=self._stream, backward=True)
            self._decoder = self._container.decode(self._stream)
        found = self._decode_until(pts)
        if found is None:  # the seek landed too late, or this key frame does not stand alone
            self._open()
            self._decoder = self._container.decode(self._stream)
            found = self._decode_until(pts)
        if found is None:
            raise ValueError("no picture comes out of the decoder for it")
        self._next = index + 1
        if self._next == self.info.num_frames:
            self._decoder = None
        return found

    def _decode_until(self, pts: int) -> av.VideoFrame | None:
        assert self._decoder is not None
        for frame in self._decoder:
            if frame.pts is None or frame.pts > pts:
                return None
            if frame.pts == pts:
                return frame
        return None

    def _frame_by_counting(self, index: int) -> av.VideoFrame:
        if self._decoder is None or index < self._next:
            self._open()
            self._decoder, self._next = self._container.decode(self._stream), 0
        for frame in self._decoder:
            self._next += 1
            if self._next == index + 1:
                return frame
        raise ValueError("the video ended early")

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        picture = to_rgb(frame, self._stored_size)
        return np.ascontiguousarray(np.rot90(picture, -self.info.rotation // 90)) if self.info.rotation else picture


def to_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """A decoded frame as uint8 (H, W, 3), scaled to `size` (width, height) where it is given.

    Untagged colour is read as players do: BT.709 from 720 lines, else BT.601.
    """
    colorspace = frame.colorspace
    if colorspace == _UNSPECIFIED:
        colorspace = "ITU709" if frame.height >= 720 else "ITU601"
    if size is None:
        return frame.reformat(format="rgb24", src_colorspace=colorspace).to_ndarray()
    return frame.reformat(*size, "rgb24", src_colorspace=colorspace, interpolation="AREA").to_ndarray()


def _describe(
    container: av.container.InputContainer, stream: av.VideoStream, index: FrameIndex, first: av.VideoFrame
) -> VideoInfo:
    rotation = _clockwise(first)
    width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    steps = np.diff(index.times)
    is_variable = len(steps) > 1 and bool(steps.max() - steps.min() > max(2, 0.02 * steps.mean()))
    return VideoInfo(
        num_frames=index.num_frames,
        fps=_rate(stream, index, is_variable),
        duration=float((index.times[-1] + index.last_duration) * index.time_base),
        width=width,
        height=height,
        rotation=rotation,
        codec=stream.codec_context.codec.canonical_name,
        is_variable_rate=is_variable,
        pixel_aspect=1 / aspect if rotation % 180 else aspect,
        hidden_frames=index.num_hidden,
        pixel_format=stream.codec_context.pix_fmt,
        container=container.format.name,
        audio_codec=next((audio.codec_context.codec.canonical_name for audio in container.streams.audio), None),
    )


def _clockwise(frame: av.VideoFrame) -> int:
    """The turn that makes a frame upright. FFmpeg gives it counter-clockwise; only right angles count."""
    return -frame.rotation % 360 if frame.rotation % 90 == 0 else 0


def _rate(stream: av.VideoStream, index: FrameIndex, is_variable: bool) -> Fraction:
    """The stream's nominal rate where it agrees with the frames to 0.2%, else the mean rate of the frames."""
    span, count = index.times[-1] + index.last_duration, index.num_frames
    if count > 1 and not is_variable:
        span, count = index.times[-1], count - 1
    mean = count / (span * index.time_base) if span else Fraction(25)
    for nominal in (stream.average_rate, stream.guessed_rate):
        if nominal and not is_variable and abs(nominal / mean - 1) < 0.002:
            return nominal
    return mean.limit_denominator(1001)


def _reason(error: BaseException) -> str:
    """An FFmpeg error without its number and path, any other as it is."""
    return error.strerror if isinstance(error, av.error.FFmpegError) else str(error) or type(error).__name__
