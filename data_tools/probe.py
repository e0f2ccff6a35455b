"""What every file of a folder is: one row each, the broken ones with the reason."""

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_tools.stage import in_order
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoInfo, VideoReader
from t2v.errors import InputError

_SIDECARS = re.compile(r".*\.(txt|jsonl?|csv|tsv|xml|ya?ml|md|html|pdf|nfo|log|parquet|srt|vtt|ass|ssa|sub|idx)", re.I)
_PLAIN_REASONS = {
    "Invalid data found when processing input": "its data is damaged, encrypted or no video",
    "End of file": "it ends before the first frame",
    "Operation not permitted": "no frame decodes",
}
_SMALL = (16, 16)  # size at which frames are decoded when only their decoding matters


@dataclass(frozen=True)
class Probe:
    """The stage: a bare row becomes one with facts.

    Args:
        root: folder that paths are relative to.
        decode: decode every frame, to find damage that the packets do not show.
    """

    root: Path = field(repr=False)
    decode: bool = False

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        (row,) = rows
        path = self.root / row.path
        digest = file_digest(path)
        row = replace(row, clip_id=digest[:16], extra={"sha256": digest, "bytes": path.stat().st_size})
        try:
            with VideoReader(path, threads=1, size=_SMALL if self.decode else None) as reader:
                described(row, reader.info)
                if self.decode:
                    for _ in reader:
                        pass
        except InputError as error:
            row.error = reason_of(error, path)
        return [row]


def described(row: ClipRow, info: VideoInfo) -> None:
    """Fill in the facts."""
    row.end, row.num_frames = info.duration, info.num_frames
    row.fps, row.fps_rational = float(info.fps), info.fps_rational
    row.width, row.height, row.rotation, row.codec = info.width, info.height, info.rotation, info.codec
    row.extra |= {
        "container": info.container,
        "pixel_format": info.pixel_format,
        "pixel_aspect": float(info.pixel_aspect),
        "is_variable_rate": info.is_variable_rate,
        "hidden_frames": info.hidden_frames,
        "audio_codec": info.audio_codec,
    }


def file_digest(path: Path) -> str:
    """SHA-256 of the content, in hexadecimal digits."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def reason_of(error: InputError, path: Path) -> str:
    """The message without the path, which a row has already, in words for people."""
    if not path.stat().st_size:
        return "the file is empty"
    reason = str(error).removeprefix(str(path)).lstrip(": ")
    for terse, plain in _PLAIN_REASONS.items():
        reason = reason.replace(terse, plain)
    return reason


def bare_rows(source: Path, root: Path) -> list[ClipRow]:
    """A row for every file below `source`, hidden files and texts left out; `source` may be one file.

    A file's caption is the text of the .txt file of its name beside it.

    The identity of a bare row changes with the file's size and time, so that a changed file is probed again.
    """
    if not source.exists():
        raise InputError(f"no such file or folder: {source}")
    files = [source] if source.is_file() else [path for path in source.rglob("*") if _is_wanted(path, source)]
    if not files:
        raise InputError(f"no files in {source}")
    return sorted((_bare_row(file, root) for file in files), key=in_order)


def _is_wanted(path: Path, source: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
    return not is_hidden and not _SIDECARS.fullmatch(path.name) and path.is_file()


def _bare_row(file: Path, root: Path) -> ClipRow:
    path = Path(os.path.relpath(file, root)).as_posix()
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    stat = file.stat()
    identity = hashlib.sha256(f"{name}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    error = None if name == path else "its name is not UTF-8 text; rename it"
    return ClipRow(identity, name, caption=_caption(file.with_suffix(".txt")), error=error)


def _caption(sidecar: Path) -> str | None:
    try:
        return " ".join(sidecar.read_text(encoding="utf-8", errors="replace").split()) or None
    except OSError:
        return None
