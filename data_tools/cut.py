"""Clips as files of their own: exactly their frames, upright, with square pixels, quick to seek in."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from data_tools.probe import described, file_digest, reason_of
from t2v.data.manifest import ClipRow
from t2v.data.video_io import EncodeOptions, VideoInfo, VideoReader, probe, read_sound, write_video
from t2v.errors import InputError

_MAX_GOP = 16
_TIME_TOLERANCE = 1e-6  # seconds
_SOURCE_COLUMNS = ("sha256", "bytes", "hidden_frames", "start_frame")  # of the file that a clip came from


@dataclass(frozen=True)
class CutOptions:
    """How clips are written."""

    size: str | None = None  # "256": short side; "512x288": filled and cropped; None: as it is
    fps: float | None = None  # None: the file's own frames at their own times
    gop: int = _MAX_GOP
    crf: int = 18
    sound: bool = False

    def check(self) -> None:
        """InputError for values that make no sense."""
        if self.size is not None:
            wanted = re.fullmatch(r"(\d+)(x(\d+))?", self.size)
            if not wanted or any(int(side) < 2 or int(side) % 2 for side in wanted.group(1, 3) if side):
                raise InputError(f"size is an even short side or WIDTHxHEIGHT, as in 256 or 512x288; got {self.size!r}")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"fps must be above 0, got {self.fps:g}")
        if not 1 <= self.gop <= _MAX_GOP:
            raise InputError(f"gop must be 1 to {_MAX_GOP}, got {self.gop}")
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf must be 0 to 51, got {self.crf}")

    @property
    def encoding(self) -> EncodeOptions:
        """One thread: the same bytes on every machine."""
        return EncodeOptions(crf=self.crf, gop=self.gop, preset="veryfast", threads=1)


@dataclass(frozen=True)
class Cut:
    """The stage: each clip of a file becomes an mp4 below `root`; a clip that cannot be decoded fails by itself."""

    root: Path = field(repr=False)
    options: CutOptions = field(default_factory=CutOptions)

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        path = self.root / rows[0].path
        try:
            with VideoReader(path, threads=1) as reader:
                known = reader.indexed
            scaled, shown = sizes(known.info, self.options.size)
            with VideoReader(path, threads=1, size=scaled, known=known) as reader:
                return [self._written(row, reader, shown) for row in rows]
        except InputError as error:
            raise InputError(reason_of(error, path)) from error

    def _written(self, row: ClipRow, reader: VideoReader, shown: tuple[int, int]) -> ClipRow:
        target = self.root / row.clip_id[:2] / f"{row.clip_id}.mp4"
        target.parent.mkdir(exist_ok=True)
        unfinished = _unfinished(target, row.path)
        for torn in target.parent.glob(f"*{unfinished.stem}*"):  # a run that was killed left it
            torn.unlink(missing_ok=True)
        source = self.root / row.path
        first, last = np.searchsorted(reader.timestamps, [row.start, row.end]).tolist()
        times = reader.timestamps[first:last] - row.start
        sound_start = row.start + first_time(reader)
        try:
            if last <= first:
                raise InputError(f"no frame between {row.start:g} s and {row.end:g} s")
            places, shown_at = self._chosen(times, row.end - row.start, reader.info)
            write_video(
                unfinished,
                (cropped(frame, shown) for frame in repeated(reader, first + places)),
                reader.info.fps if self.options.fps is None else Fraction(self.options.fps).limit_denominator(1001),
                overwrite=True,
                options=self.options.encoding,
                times=shown_at,
                sound=read_sound(source, sound_start, sound_start + row.end - row.start)
                if self.options.sound
                else None,
            )
        except InputError as error:
            return replace(row, error=reason_of(error, source))
        os.replace(unfinished, target)
        return self._described(row, target)

    def _chosen(self, times: np.ndarray, seconds: float, info: VideoInfo) -> tuple[np.ndarray, list[float] | None]:
        """Which frames of the clip are written, ascending, and their times where the rate is variable."""
        if self.options.fps is None:
            return np.arange(len(times)), times.tolist() if info.is_variable_rate else None
        count = max(1, int(np.floor(seconds * self.options.fps + _TIME_TOLERANCE)))
        moments = np.arange(count) / self.options.fps
        return np.searchsorted(times, moments + _TIME_TOLERANCE, side="right") - 1, None

    def _described(self, row: ClipRow, target: Path) -> ClipRow:
        """The row of the new file; where it came from is kept in columns."""
        extra = {name: value for name, value in row.extra.items() if name not in _SOURCE_COLUMNS}
        extra |= {"shot_id": row.clip_id, "source_path": row.path, "source_start": row.start, "source_end": row.end}
        path = target.relative_to(self.root).as_posix()
        clip = ClipRow(file_digest(target)[:16], path, caption=row.caption, extra=extra)
        described(clip, probe(target))
        return clip


def _unfinished(target: Path, source: str) -> Path:
    """Where a clip is written until it is whole. Copies of a file share a target; each has a name of its own here."""
    return target.with_name(f".{target.stem}-{hashlib.sha256(source.encode()).hexdigest()[:16]}.mp4")


def first_time(reader: VideoReader) -> float:
    """When the first frame is shown on the file's own clock, in seconds."""
    index = reader.indexed.index
    return float((index.start or 0) * index.time_base)


def sizes(info: VideoInfo, wanted: str | None) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """(size to scale frames to, None for none; size to crop them to after), each (width, height).

    Pixels become square. Without a wanted size no side shrinks but the one that the pixels' shape stretches.
    """
    width, height = float(info.width * info.pixel_aspect), float(info.height)
    if wanted is None:
        size = round(width), round(height)
        return (size if info.pixel_aspect != 1 else None), size
    if "x" in wanted:
        box = tuple(int(side) for side in wanted.split("x"))
        scale = max(box[0] / width, box[1] / height)
        return (max(box[0], round(width * scale)), max(box[1], round(height * scale))), (box[0], box[1])
    scale = min(1.0, int(wanted) / min(width, height))
    size = max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
    return size, size


def cropped(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a frame."""
    height, width, _ = frame.shape
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    return frame[top : top + size[1], left : left + size[0]]


def repeated(reader: VideoReader, places: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """Frames at ascending places that may repeat, decoded once each."""
    unique, counts = np.unique(np.asarray(places), return_counts=True)
    for frame, count in zip(reader.stream(unique.tolist()), counts.tolist(), strict=True):
        for _ in range(count):
            yield frame
