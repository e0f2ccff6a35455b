"""A list of cuts that a person has made or corrected, in the place of those that are found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from t2v.data.cut_list import read_cuts
from t2v.errors import InputError
from t2v.pipelines.interpolation.cuts import SourceFrame

_ROUNDED = Fraction(1, 1000)  # seconds that a written time may be late


def cuts_of_video(file: Path, video: str) -> tuple[Fraction, ...]:
    """The seconds at which shots of one video begin, ascending, from a list that may name others too.

    Raises:
        InputError: the list cannot be read (see `read_cuts`) or names other videos alone.
    """
    cuts = read_cuts(file)
    own = cuts.get(None, cuts.get(Path(video).resolve()))
    if own is None and cuts:
        raise InputError(f"{file} has no cut of {video}: its paths are relative to it")
    return own or ()


def mark_listed(frames: Iterable[SourceFrame], seconds: Sequence[Fraction]) -> Iterator[SourceFrame]:
    """The same frames, the first one at or after each of these times marked as the beginning of a shot."""
    waiting = sorted(seconds)
    for frame in frames:
        due = [second for second in waiting if second <= frame.time + _ROUNDED]
        waiting = waiting[len(due) :]
        yield replace(frame, after_cut=bool(due) and frame.index > 0)
