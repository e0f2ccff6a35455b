"""A video file read through PyAV, frame by frame."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from t2v.data.video_io.index import FrameIndex, IndexedVideo, index_frames
from t2v.data.video_io.info import VideoInfo
from t2v.data.video_io.location import VideoPath, media_url
from t2v.errors import InputError

_BROKEN = (av.error.FFmpegError, OSError, ValueError, EOFError, ArithmeticError, MemoryError)
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


class PyAVFile:
    """Frames in the order a player shows them, from any place.

    Args:
        size: (width, height) that upright frames are scaled to.
        known: what a former opening learned of this file; without it, all packets are read for the index.

    Raises:
        InputError: unreadable or broken file; no video in it; no frame in it.
    """

    def __init__(
        self,
        path: VideoPath,
        threads: int,
        size: tuple[int, int] | None = None,
        known: IndexedVideo | None = None,
    ) -> None:
        self.path, self._threads = path, threads
        try:
            self._open()
            self.known = known or self._look()
        except StopIteration:
            raise InputError(f"{path} cannot be read as video (no frame decodes)") from None
        except _BROKEN as error:
            raise InputError(f"{path} cannot be read as video ({_reason(error)})") from error
        self._index = self.known.index
        self._stored_size = size[::-1] if size is not None and self.known.info.rotation % 180 else size
        self._scaler = VideoReformatter()
        self._decoder: Iterator[av.VideoFrame] | None = None
        self._next = 0  # index of the frame that the decoder gives next, at the earliest

    def _open(self) -> None:
        """(Re)open the file at its start. Reopening is exact where seeking to the start is not."""
        self.close()
        self._container = av.open(media_url(self.path), metadata_errors="ignore")
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise InputError("no video stream in it")
        self._stream = streams[0]
        self._stream.codec_context.thread_count = self._threads
        self._stream.thread_type = "AUTO"

    def _look(self) -> IndexedVideo:
        index = index_frames(self._container, self._stream)
        self._open()
        first = next(self._container.decode(self._stream))
        return IndexedVideo(_describe(self._container, self._stream, index, first), index)

    def close(self) -> None:
        if hasattr(self, "_container"):
            self._container.close()

    def pictures(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames at ascending indices, each uint8 (H, W, 3)."""
        try:
            for index in wanted:
                yield self._upright(self._frame(index))
        except _BROKEN as error:
            self._decoder = None
            raise InputError(
                f"{self.path}: frame {index} of {self._index.num_frames} cannot be decoded ({_reason(error)})"
            ) from error

    def _frame(self, index: int) -> av.VideoFrame:
        if self._index.start is None:
            return self._frame_by_counting(index)
        pts = self._index.pts(index)
        key, place = self._index.key_before(pts)
        if self._decoder is None or index < self._next or key > self._index.pts(self._next):
            found = self._seek(key, pts) or self._seek(place, pts)
        else:
            found = self._decode_until(pts)
        if found is None:  # the seeks landed too late, or this key frame does not stand alone
            self._open()
            self._decoder = self._container.decode(self._stream)
            found = self._decode_until(pts)
        if found is None:
            raise ValueError("no picture comes out of the decoder for it")
        self._next = index + 1
        if self._next == self._index.num_frames:
            self._decoder = None
        return found

    def _seek(self, place: int, pts: int) -> av.VideoFrame | None:
        self._container.seek(place, stream=self._stream, backward=True)
        self._decoder = self._container.decode(self._stream)
        return self._decode_until(pts)

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
        picture, rotation = to_rgb(frame, self._stored_size, self._scaler), self.known.info.rotation
        return np.ascontiguousarray(np.rot90(picture, -rotation // 90)) if rotation else picture


def to_rgb(
    frame: av.VideoFrame, size: tuple[int, int] | None = None, scaler: VideoReformatter | None = None
) -> np.ndarray:
    """A decoded frame as uint8 (H, W, 3), scaled to `size` (width, height) where it is given: by averaging to
    less than half, else bicubically.

    A scaler that serves many frames prepares its filters once. Untagged colour is read as players do: BT.709 from 720
    lines, else BT.601.
    """
    colorspace = frame.colorspace
    if colorspace == _UNSPECIFIED:
        colorspace = "ITU709" if frame.height >= 720 else "ITU601"
    width, height = size or (frame.width, frame.height)
    method = "AREA" if frame.width >= 2 * width and frame.height >= 2 * height else "BICUBIC"  # half the time
    options = {"src_colorspace": colorspace, "interpolation": method}
    return (scaler or VideoReformatter()).reformat(frame, width, height, "rgb24", **options).to_ndarray()


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
        pixel_format=_pixel_format(stream),
        container=container.format.name,
        audio_codec=next((audio.codec_context.codec.canonical_name for audio in container.streams.audio), None),
    )


def _pixel_format(stream: av.VideoStream) -> str | None:
    """That of the file: VP8 and VP9 hold alpha in a layer of its own, which the decoder does not look at."""
    name = stream.codec_context.pix_fmt
    has_layer = any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())
    return name.replace("yuv", "yuva", 1) if name and has_layer else name


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
