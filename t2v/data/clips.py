"""Video clips for training: which frames show a moment at a chosen frame rate, and how they are read."""

from dataclasses import dataclass, replace

import numpy as np

from t2v.data.transforms import cover_size, cut
from t2v.data.video_io import DecoderName, IndexedVideo, VideoPath, VideoReader
from t2v.errors import InputError

_SLACK = 1 - 1e-6  # keeps rounding from making two moments one frame


@dataclass(frozen=True)
class Decoding:
    """How videos are opened."""

    decoder: DecoderName = "pyav"
    sequence_fps: float = 24.0  # of folders of pictures

    def open(
        self, path: VideoPath, size: tuple[int, int] | None = None, known: IndexedVideo | None = None
    ) -> VideoReader:
        """A reader of one thread, of frames scaled to `size` (width, height); `known` saves it reading the index."""
        return VideoReader(path, threads=1, folder_fps=self.sequence_fps, size=size, decoder=self.decoder, known=known)


@dataclass(frozen=True)
class Window:
    """How frames become pictures of one size: resized until they cover it, then cut."""

    size: tuple[int, int]  # (height, width)
    place: tuple[float, float] = (0.5, 0.5)  # of the cut, down and across, each in [0, 1)
    flip: bool = False  # left and right change sides


@dataclass(frozen=True, eq=False)
class Clip:
    """A stretch of a video file."""

    path: VideoPath
    content: str  # identifies the file's content: its hash from a manifest, else name, size and time
    video: IndexedVideo
    frames: np.ndarray  # int32 (F,): indices of the clip's frames in the file, ascending
    caption: str | None = None

    @property
    def timestamps(self) -> np.ndarray:
        """Seconds of the frames from the first of them: float64 (F,), ascending."""
        times = self.video.index.times[self.frames]
        return (times - times[0]) * float(self.video.index.time_base)

    @property
    def aspect(self) -> float:
        """Width / height of the picture as it is shown."""
        info = self.video.info
        return float(info.width * info.pixel_aspect / info.height)

    @property
    def fps_bounds(self) -> tuple[float, float]:
        """(1 / duration, highest frame rate at which no frame is shown twice); see `sampling_bounds`."""
        timestamps = self.timestamps
        if len(timestamps) < 2:
            return float("inf"), 0.0
        return 1 / float(timestamps[-1]), _SLACK / float(np.diff(timestamps).max())

    def sampling_bounds(self, num_frames: int) -> tuple[float, float]:
        """Lowest and highest frame rate at which `num_frames` different frames fit into the clip."""
        inverse_duration, highest = self.fps_bounds
        return (num_frames - 1) * inverse_duration, highest

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """Places 0..F-1 of the frames whose true time is nearest to `times` (seconds)."""
        timestamps = self.timestamps
        middles = (timestamps[1:] + timestamps[:-1]) / 2
        return np.searchsorted(middles, times, side="right")

    def sample(self, num_frames: int, fps: float, start: float) -> np.ndarray:
        """Places of `num_frames` different frames, evenly spaced in time.

        Args:
            fps: within `sampling_bounds(num_frames)`.
            start: where to begin, 0 (the first possible moment) to 1 (the last one).
        """
        span = (num_frames - 1) / fps
        first = start * max(0.0, float(self.timestamps[-1]) - span)
        return self.nearest(first + np.arange(num_frames) / fps)

    def thinned(self, fps: float | None) -> "Clip":
        """The clip with about `fps` frames a second; None, or a rate above its own: all its frames."""
        if fps is None or len(self.frames) < 2:
            return self
        times = np.arange(0.0, float(self.timestamps[-1]) + 1e-6, 1 / fps)
        return replace(self, frames=self.frames[np.unique(self.nearest(times))])

    def between(self, start: float, end: float) -> "Clip":
        """The frames shown from `start` to before `end` (seconds from the file's first frame).

        Raises:
            InputError: there is none.
        """
        seconds = self.video.index.seconds[self.frames]
        frames = self.frames[(seconds >= start) & (seconds < end)]
        if not len(frames):
            raise InputError(f"{self.path}: no frame between {start} s and {end} s")
        return replace(self, frames=frames)

    def read(self, places: np.ndarray, window: Window, decoding: Decoding) -> np.ndarray:
        """The frames at `places` (int (N,), of 0..F-1, ascending) as uint8 (N, *window.size, 3).

        Raises:
            UndecodableFrame: one of them is broken.
            InputError: the file cannot be opened any more.
        """
        info = self.video.info
        height, width = cover_size((info.height, info.width), window.size, info.pixel_aspect)
        with decoding.open(self.path, (width, height), self.video) as reader:
            pictures = cut(reader.frames(self.frames[places].tolist()), window.size, window.place)
        return np.ascontiguousarray(pictures[:, :, ::-1] if window.flip else pictures)
