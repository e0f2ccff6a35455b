"""A video file read through decord, an optional package, where it gives the frames that the packet index lists."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BytesIO
from typing import Any

import numpy as np

from t2v.data.video_io.index import IndexedVideo
from t2v.data.video_io.location import ShardMember, VideoPath
from t2v.data.video_io.pyav_file import PyAVFile
from t2v.errors import InputError

_STREAMS = ("mpegts", "mpeg")  # FFmpeg's names of formats without a table of their frames
_TIME_TOLERANCE = 2e-3  # seconds; decord keeps times in single precision


class DecordFile:
    """Frames of a file through decord; the index comes from PyAV.

    decord counts frames that an edit list hides, takes the wrong one of two video streams, seeks wrongly in MPEG
    transport streams, and cannot open AV1 and many GIFs: such files are refused, never read wrongly.

    Raises:
        InputError: decord is not installed; the file is unreadable; decord would give other frames.
    """

    def __init__(
        self,
        path: VideoPath,
        threads: int,
        size: tuple[int, int] | None = None,
        known: IndexedVideo | None = None,
    ) -> None:
        self._decord = _import_decord()
        self.path, self._size = path, size
        self._threads = threads or 1  # decord's own choice, 0, fails on VP9
        if known is None:
            with closing(PyAVFile(path, threads)) as file:
                known = file.known
            self._check(known)
        self.known = known

    def _open(self) -> Any:
        width, height = self._size or (-1, -1)
        media = BytesIO(self.path.read()) if isinstance(self.path, ShardMember) else str(self.path)
        try:
            return self._decord.VideoReader(media, width=width, height=height, num_threads=self._threads)
        except (self._decord.DECORDError, RuntimeError, AssertionError) as error:
            raise InputError(f"{self.path} cannot be read by decord ({_reason(error)}); use the decoder pyav") from None

    def _check(self, known: IndexedVideo) -> None:
        if known.info.container in _STREAMS:
            raise InputError(f"{self.path}: decord loses its place in MPEG streams; use the decoder pyav")
        reader, index = self._open(), known.index
        if len(reader) != index.num_frames:
            raise InputError(
                f"{self.path}: decord counts {len(reader)} frames where {index.num_frames} are shown; "
                "use the decoder pyav"
            )
        starts = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        if np.abs(starts - starts[0] - index.seconds).max() > _TIME_TOLERANCE:
            raise InputError(f"{self.path}: decord misreads when its frames are shown; use the decoder pyav")

    def pictures(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames at ascending indices, each uint8 (H, W, 3)."""
        reader = self._open()
        try:
            for index in wanted:
                yield reader[index].asnumpy()
        except (self._decord.DECORDError, RuntimeError) as error:
            count = self.known.info.num_frames
            raise InputError(
                f"{self.path}: frame {index} of {count} cannot be decoded by decord ({_reason(error)})"
            ) from None

    def close(self) -> None:
        """Nothing is held open."""


def _import_decord() -> Any:
    try:
        import decord
    except ImportError:
        raise InputError("the decoder decord is not installed: pip install 't2v[decord]', or use pyav") from None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _reason(error: BaseException) -> str:
    """The first line of an error, without the place in decord's source."""
    return (str(error).splitlines() or [type(error).__name__])[0].rpartition(": ")[2]
