"""A list of cuts that a person has made or corrected, as `t2v-data split --cuts` takes it too."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from t2v.errors import InputError
from t2v.pipelines.interpolation.cuts import SourceFrame

COLUMNS = ("path", "seconds")
_ROUNDED = Fraction(1, 1000)  # seconds that a written time may be late


def read_cuts(file: Path, video: str) -> tuple[Fraction, ...]:
    """The seconds at which shots of a video begin, ascending, from a CSV file with a column `seconds`.

    Where there is a column `path` (relative to the file), only lines of this video count.

    Raises:
        InputError: the file cannot be read, has no such column, or names other videos alone.
    """
    lines = _lines(file)
    if lines and "path" in lines[0]:
        lines = [line for line in lines if (file.parent / line["path"]).resolve() == Path(video).resolve()]
        if not lines:
            raise InputError(f"{file} has no cut of {video}: its paths are relative to it")
    try:
        return tuple(sorted(Fraction(line["seconds"]) for line in lines))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise InputError(f"{file}: a list of cuts has the columns path,seconds, or seconds alone") from None


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            return list(csv.DictReader(text))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError):
        raise InputError(f"{file} is no CSV file: a list of cuts has the columns path,seconds") from None


def mark_listed(frames: Iterable[SourceFrame], seconds: Sequence[Fraction]) -> Iterator[SourceFrame]:
    """The same frames, the first one at or after each of these times marked as the beginning of a shot."""
    waiting = sorted(seconds)
    for frame in frames:
        due = [second for second in waiting if second <= frame.time + _ROUNDED]
        waiting = waiting[len(due) :]
        yield replace(frame, after_cut=bool(due) and frame.index > 0)
