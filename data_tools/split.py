"""Files to shots: one row for every shot, those too short marked as filtered."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_tools.analysis import Watched, unwatched, watch
from data_tools.shots import ShotFinder, ShotOptions, Transition, shots
from t2v.data.cut_list import read_cuts
from t2v.data.manifest import ClipRow
from t2v.errors import InputError

_TIME_TOLERANCE = 1e-4  # seconds


@dataclass(frozen=True)
class SplitOptions:
    """Where to split, and how long clips may be, in seconds."""

    shots: ShotOptions = field(default_factory=ShotOptions)
    min_seconds: float = 1.0
    max_seconds: float = 60.0

    def check(self) -> None:
        """InputError for values that make no sense."""
        if not 0 <= self.min_seconds < self.max_seconds:
            raise InputError(
                f"clips last between a least and a greater most time, got {self.min_seconds:g} and {self.max_seconds:g}"
            )


@dataclass(frozen=True)
class Split:
    """The stage: the row of a file becomes one for each shot, in order of time.

    A row with a column `cuts` (seconds, joined by spaces) is split there and nowhere else. A file that breaks in
    mid-way gives its shots up to there, and a row with the reason for the rest.
    """

    root: Path = field(repr=False)
    options: SplitOptions = field(default_factory=SplitOptions)

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        (row,) = rows
        path = self.root / row.path
        if cuts := row.extra.get("cuts"):
            watched = unwatched(path)
            transitions = listed_cuts(cuts, watched.timestamps)
        else:
            finder = ShotFinder(self.options.shots)
            watched = watch(path, [finder])
            transitions = finder.transitions(float(watched.info.fps))
        return clip_rows(row, watched, transitions, self.options)


def listed_cuts(cuts: str, timestamps: np.ndarray) -> list[Transition]:
    """Hard cuts at the seconds that `cuts` lists, joined by spaces."""
    seconds = np.array([float(text) for text in cuts.split()])
    frames = np.searchsorted(timestamps, seconds - _TIME_TOLERANCE).tolist()
    return [Transition(frame, frame, "cut") for frame in sorted(set(frames)) if 0 < frame < len(timestamps)]


def clip_rows(
    row: ClipRow, watched: Watched, transitions: Sequence[Transition], options: SplitOptions
) -> list[ClipRow]:
    """Rows of the shots between the transitions; a shot that is too long becomes several of about one length.

    Of a file that breaks in mid-way, the rest is one more row, with the reason.
    """
    times = [*watched.timestamps.tolist(), watched.end]
    rows = []
    for first, last in shots(transitions, len(watched.timestamps)):
        most = max(1, int(options.max_seconds * (last - first) / (times[last] - times[first]) + 1e-6))
        pieces = -(-(last - first) // most)
        edges = [first + (last - first) * piece // pieces for piece in range(pieces + 1)]
        rows += [_clip_row(row, start, end, times, options.min_seconds) for start, end in pairwise(edges)]
    rows = rows or [replace(row, extra=row.extra | {"filtered": "nothing but transitions in it"})]
    return rows + watched.rest_of(row)


def _clip_row(row: ClipRow, start: int, end: int, times: list[float], min_seconds: float) -> ClipRow:
    clip_id = hashlib.sha256(f"{row.clip_id}:{start}:{end}".encode()).hexdigest()[:16]
    extra = {name: value for name, value in row.extra.items() if name != "cuts"}
    extra |= {"source_id": row.clip_id, "start_frame": start}
    seconds = times[end] - times[start]
    if seconds < min_seconds - _TIME_TOLERANCE:
        extra["filtered"] = f"shorter than {min_seconds:g} s"
    return replace(row, clip_id=clip_id, start=times[start], end=times[end], num_frames=end - start, extra=extra)


def with_cuts(rows: list[ClipRow], file: Path, root: Path) -> list[ClipRow]:
    """Put the cuts of a CSV file with the columns `path` (relative to the file) and `seconds` into the rows."""
    cuts = read_cuts(file)
    if None in cuts:
        raise InputError(f"{file} does not say of which videos its cuts are: it needs the columns path,seconds")
    known = {(root / row.path).resolve() for row in rows}
    if strangers := [path for path in cuts if path not in known]:
        raise InputError(f"{file} names {strangers[0]}, which is not in the manifest")
    return [_with_cuts(row, cuts.get((root / row.path).resolve())) for row in rows]


def _with_cuts(row: ClipRow, cuts: Sequence[Fraction] | None) -> ClipRow:
    return replace(row, extra=row.extra | {"cuts": " ".join(str(float(cut)) for cut in cuts)}) if cuts else row
