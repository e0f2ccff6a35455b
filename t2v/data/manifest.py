"""The manifest: one row per clip or still, a JSONL ledger while work goes on and Parquet when it is done.

Paths in a manifest are relative to the folder that holds it, so that a data set can be moved.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2v.errors import InputError

MANIFEST_NAME = "manifest.parquet"


@dataclass
class ClipRow:
    """One clip, or one still (num_frames 1, no fps).

    `error` says why a file could not be used; such a row may lack everything else but its path.
    Columns beyond the schema (score_*, labels) are kept in `extra`; one of them, `filtered`, says why a readable clip
    was left out.
    """

    clip_id: str  # content hash
    path: str  # relative to the manifest, with forward slashes
    start: float = 0.0  # seconds from the first frame
    end: float = 0.0
    num_frames: int = 0
    fps: float | None = None
    fps_rational: str | None = None  # "24000/1001"
    width: int = 0  # after rotation
    height: int = 0
    rotation: int = 0  # degrees clockwise that the decoder must turn the stored picture: 0, 90, 180, 270
    codec: str | None = None
    caption: str | None = None
    error: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_usable(self) -> bool:
        """Whether the clip neither failed nor was filtered out."""
        return self.error is None and not self.extra.get("filtered")

    def to_dict(self) -> dict[str, Any]:
        """The row as flat columns, the extra ones last."""
        row = {name: getattr(self, name) for name in COLUMNS}
        assert not row.keys() & self.extra.keys(), "an extra column repeats a column of the schema"
        return row | self.extra

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "ClipRow":
        """The row from flat columns; those outside the schema go to `extra`. InputError without clip_id or path."""
        for name in ("clip_id", "path"):
            if not isinstance(row.get(name), str):
                raise InputError(f"a manifest row has no {name}: {json.dumps(row, default=str)[:120]}")
        known = {name: row[name] for name in COLUMNS if name in row}
        return cls(**known, extra={name: value for name, value in row.items() if name not in COLUMNS})


COLUMNS = tuple(f.name for f in fields(ClipRow) if f.name != "extra")
_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("clip_id", "path", "fps_rational", "codec", "caption", "error"), pa.string()),
    **dict.fromkeys(("start", "end", "fps"), pa.float64()),
    **dict.fromkeys(("num_frames", "width", "height", "rotation"), pa.int32()),
}


def read_manifest(path: str | Path) -> list[ClipRow]:
    """Read the rows of a .parquet or .jsonl manifest, or of the manifest.parquet in a folder."""
    path = Path(path)
    if path.is_dir():
        path = path / MANIFEST_NAME
    if not path.is_file():
        raise InputError(f"manifest not found: {path}")
    if path.suffix == ".jsonl":
        return list(_read_jsonl(path))
    if path.suffix != ".parquet":
        raise InputError(f"a manifest is a .parquet or .jsonl file, got {path.name}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error})") from error
    return [ClipRow.from_dict(row) for row in table.to_pylist()]


def _read_jsonl(path: Path) -> Iterator[ClipRow]:
    """Rows of a ledger. A last line without its newline was cut off by a crash and is left out."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            return
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number} is no JSON ({error.msg})") from error
        yield ClipRow.from_dict(row)


def append_rows(rows: Iterable[ClipRow], path: str | Path) -> None:
    """Append rows to a JSONL ledger and flush them to the disk."""
    text = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_manifest(rows: Iterable[ClipRow], path: str | Path) -> None:
    """Write rows to a .parquet or .jsonl file, replacing it only when all is written."""
    path, rows = Path(path), list(rows)
    if path.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"a manifest is a .parquet or .jsonl file, got {path.name}")
    with _replacing(path) as temporary:
        if path.suffix == ".jsonl":
            append_rows(rows, temporary)
        else:
            pq.write_table(_table(rows), temporary, compression="zstd")


def _table(rows: list[ClipRow]) -> pa.Table:
    """Rows as columns: those of the schema with their fixed types, then the extra ones with inferred types."""
    dicts = [row.to_dict() for row in rows]
    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row.extra)])
    return pa.table({name: pa.array([row.get(name) for row in dicts], _TYPES.get(name)) for name in names})


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside path; it takes path's place at the end, or is removed when an exception passes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
