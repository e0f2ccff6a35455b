"""Read frames of any video exactly: by index or by time, turned upright, with true timestamps."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np

from t2v.data.video_io.decord_file import DecordFile
from t2v.data.video_io.index import IndexedVideo
from t2v.data.video_io.info import VideoInfo
from t2v.data.video_io.location import ShardMember, VideoPath
from t2v.data.video_io.pictures import PictureFolder
from t2v.data.video_io.pyav_file import PyAVFile
from t2v.errors import InputError

DecoderName = Literal["pyav", "decord"]


class FrameSource(Protocol):
    """What every decoder offers."""

    known: IndexedVideo

    def pictures(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames at ascending indices, each uint8 (H, W, 3)."""

    def close(self) -> None:
        """Let go of the file."""


class UndecodableFrame(InputError):
    """A frame of a video that could be opened cannot be decoded."""

    def __init__(self, message: str, frame: int) -> None:
        super().__init__(message)
        self.frame = frame


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
        path: a file that FFmpeg can read, a member of a tar file, or a folder whose pictures, in natural order of their
            names, are the frames.
        threads: of the decoder; 0 takes one per core. Data loaders with many workers want 1.
        folder_fps: frames per second of a folder of pictures, which cannot say it itself.
        size: (width, height) that upright frames are scaled to; None keeps that of the file, which `info` tells.
        decoder: what decodes the frames of a file; which frames there are is found through PyAV in any case.
        known: the `indexed` of a former reader of this file, which saves reading all of its packets.

    Raises:
        InputError: missing, unreadable or broken file; no video in it; no frame in it; the decoder is not installed, or
            would give other frames.
    """

    def __init__(
        self,
        path: str | VideoPath,
        *,
        threads: int = 0,
        folder_fps: float | Fraction = 24,
        size: tuple[int, int] | None = None,
        decoder: DecoderName = "pyav",
        known: IndexedVideo | None = None,
    ) -> None:
        self.path = Path(path) if isinstance(path, str) else path
        file = self.path.shard if isinstance(self.path, ShardMember) else self.path
        if not file.exists():
            raise InputError(f"video not found: {path}")
        self._source: FrameSource
        if isinstance(self.path, Path) and self.path.is_dir():
            self._source = PictureFolder(self.path, Fraction(folder_fps).limit_denominator(100_000), size, known)
        else:
            self._source = (DecordFile if decoder == "decord" else PyAVFile)(self.path, threads, size, known)

    @property
    def indexed(self) -> IndexedVideo:
        """What was learned by opening the file."""
        return self._source.known

    @property
    def info(self) -> VideoInfo:
        return self.indexed.info

    @property
    def timestamps(self) -> np.ndarray:
        """Seconds from the first frame to each: float64 (num_frames,)."""
        return self.indexed.index.seconds

    @property
    def num_frames(self) -> int:
        return self.info.num_frames

    @property
    def fps(self) -> float:
        return float(self.info.fps)

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames at `indices` (0 to num_frames - 1, any order, repeats allowed): uint8 (F, H, W, 3).

        Raises:
            InputError: there is no such frame.
            UndecodableFrame: there is, and it is broken.
        """
        wanted = sorted({int(index) for index in indices})
        if not wanted:
            raise InputError("no frame was asked for")
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            outside = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise InputError(f"{self.path} has frames 0 to {self.num_frames - 1}, asked for frame {outside}")
        read: dict[int, np.ndarray] = {}
        try:
            for index, picture in zip(wanted, self._source.pictures(wanted), strict=True):
                self._check_size(index, picture, read.get(wanted[0], picture))
                read[index] = picture
        except InputError as error:
            raise UndecodableFrame(str(error), wanted[len(read)]) from error
        return np.stack([read[int(index)] for index in indices])

    def _check_size(self, index: int, picture: np.ndarray, first: np.ndarray) -> None:
        if picture.shape != first.shape:
            sizes = [f"{width}x{height}" for height, width, _ in (picture.shape, first.shape)]
            raise InputError(f"{self.path}: frame {index} is {sizes[0]}, others are {sizes[1]}")

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

    def stream(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames at ascending `indices`, without repeats, one at a time: each uint8 (H, W, 3)."""
        first: np.ndarray | None = None
        for index, picture in zip(indices, self._source.pictures(indices), strict=True):
            first = picture if first is None else first
            self._check_size(index, picture, first)
            yield picture

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames in order, one at a time."""
        return self.stream(range(self.num_frames))

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
