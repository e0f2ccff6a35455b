"""Lists of cuts that a person has made or corrected: CSV files with the columns path,seconds, or seconds alone."""

import csv
from fractions import Fraction
from pathlib import Path

from t2v.errors import InputError

COLUMNS = ("path", "seconds")


def read_cuts(file: Path) -> dict[Path | None, tuple[Fraction, ...]]:
    """The seconds at which shots begin, ascending, for each video that a list names.

    Returns:
        Absolute paths (in the list they are relative to it) with their cuts; None stands for the one video of a list
        without the column `path`.

    Raises:
        InputError: the file cannot be read, or a line lacks one of its columns or a time from 0.
    """
    cuts: dict[Path | None, list[Fraction]] = {}
    number = 1
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            lines = csv.DictReader(text)
            columns = lines.fieldnames or ()
            if "seconds" not in columns:
                raise ValueError("no column seconds")
            for line in lines:
                number = lines.line_num
                video = _video(file, line["path"]) if "path" in columns else None
                cuts.setdefault(video, []).append(_seconds(line["seconds"]))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (csv.Error, ValueError, OverflowError, ZeroDivisionError):
        raise InputError(f"{file}: a list of cuts has the columns path,seconds; check line {number}") from None
    return {video: tuple(sorted(seconds)) for video, seconds in cuts.items()}


def _video(file: Path, path: str | None) -> Path:
    if not path:
        raise ValueError("no path")
    return (file.parent / path).resolve()


def _seconds(text: str | None) -> Fraction:
    seconds = Fraction(text or "")
    if float(seconds) < 0:
        raise ValueError("before the first frame")
    return seconds
