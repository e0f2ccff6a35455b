"""Video clips for training: what a folder holds, and which frames show a moment at a chosen frame rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2v.data.manifest import MANIFEST_NAME, ClipRow, read_manifest
from t2v.data.transforms import fit_square
from t2v.data.video_io import VideoReader
from t2v.errors import InputError

CLIP_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif", ".m4v", ".mpg", ".mpeg", ".ts")
_SLACK = 1 - 1e-6  # keeps rounding from making two moments one frame


@dataclass(frozen=True)
class Clip:
    """A stretch of a video file."""

    path: Path
    content: str  # identifies the file's content: its hash from a manifest, else name, size and time
    frames: np.ndarray  # int64 (F,): indices of the clip's frames in the file
    timestamps: np.ndarray  # float64 (F,): seconds of these frames from the first of them, ascending

    @property
    def fps_bounds(self) -> tuple[float, float]:
        """(1 / duration, highest frame rate at which no frame is shown twice); see `sampling_bounds`."""
        if len(self.timestamps) < 2:
            return float("inf"), 0.0
        return 1 / float(self.timestamps[-1]), _SLACK / float(np.diff(self.timestamps).max())

    def sampling_bounds(self, num_frames: int) -> tuple[float, float]:
        """Lowest and highest frame rate at which `num_frames` different frames fit into the clip."""
        inverse_duration, highest = self.fps_bounds
        return (num_frames - 1) * inverse_duration, highest

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """Places 0..F-1 of the frames whose true time is nearest to `times` (seconds)."""
        middles = (self.timestamps[1:] + self.timestamps[:-1]) / 2
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
        if fps is None or len(self.timestamps) < 2:
            return self
        times = np.arange(0.0, float(self.timestamps[-1]) + 1e-6, 1 / fps)
        places = np.unique(self.nearest(times))
        return Clip(self.path, self.content, self.frames[places], self.timestamps[places])

    def read(self, resolution: int) -> np.ndarray:
        """All frames of the clip as uint8 (F, resolution, resolution, 3); InputError where one cannot be decoded."""
        with VideoReader(self.path, threads=1) as reader:
            return fit_frames(reader.frames(self.frames.tolist()), resolution)


def fit_frames(frames: np.ndarray, resolution: int) -> np.ndarray:
    """Resize and centre-crop frames: uint8 (F, H, W, 3) -> (F, resolution, resolution, 3)."""
    if frames.shape[1:3] == (resolution, resolution):
        return frames
    return np.stack([fit_square(frame, resolution) for frame in frames])


@dataclass(frozen=True)
class Skipped:
    """A file that is no use, and why."""

    path: Path
    reason: str


def find_clips(path: str | Path, max_clips: int | None = None) -> tuple[list[Clip], list[Skipped]]:
    """The clips below `path`, in a fixed order, and the files that cannot be read.

    `path` is a folder tree of videos, a folder with a manifest, or a manifest file; the file of each clip is opened
    once, for the true times of its frames.

    Raises:
        InputError: no such folder, or no readable video there.
    """
    path = Path(path)
    clips, skipped = [], []
    for file, content, row in _files(path):
        try:
            clips.append(_open(file, content, row))
        except InputError as error:
            skipped.append(Skipped(file, str(error)))
        if len(clips) == max_clips:
            break
    if not clips:
        reason = f"; the first of {len(skipped)} unreadable ones: {skipped[0].reason}" if skipped else ""
        raise InputError(f"data: no readable videos in {path}{reason}")
    return clips, skipped


def _files(path: Path) -> Iterator[tuple[Path, str, ClipRow | None]]:
    if (path / MANIFEST_NAME).is_file() or path.suffix in (".parquet", ".jsonl"):
        root = path if path.is_dir() else path.parent
        for row in read_manifest(path):
            if row.is_usable:
                yield root / row.path, row.clip_id, row
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in CLIP_SUFFIXES and file.is_file():
                stat = file.stat()
                yield file, f"{file.relative_to(path)}:{stat.st_size}:{stat.st_mtime_ns}", None
    else:
        raise InputError(f"data: no folder {path}; check --data")


def _open(file: Path, content: str, row: ClipRow | None) -> Clip:
    with VideoReader(file, threads=1) as reader:
        timestamps = reader.timestamps
    frames = np.arange(len(timestamps))
    if row is not None and row.end > row.start:
        frames = frames[(timestamps >= row.start) & (timestamps < row.end)]
        if not len(frames):
            raise InputError(f"{file}: no frame between {row.start} s and {row.end} s")
    return Clip(file, content, frames, timestamps[frames] - timestamps[frames[0]])


def frame_chunks(clips: Sequence[Clip], resolution: int, size: int) -> Iterator[np.ndarray]:
    """The frames of all clips, one after another, at most `size` at a time: uint8 (N, resolution, resolution, 3)."""
    for clip in clips:
        frames = clip.read(resolution)
        for start in range(0, len(frames), size):
            yield frames[start : start + size]
