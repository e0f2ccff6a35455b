"""Clips packed into tar files in the layout of WebDataset: KEY.mp4, KEY.json with the row, KEY.txt with the caption."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2v.data.manifest import ClipRow
from t2v.errors import InputError

INDEX_NAME = "index.json"


@dataclass(frozen=True)
class ShardOptions:
    """When a shard is full."""

    max_clips: int = 1000
    max_megabytes: float = 1000.0

    def check(self) -> None:
        """InputError for values that make no sense."""
        if self.max_clips < 1 or not self.max_megabytes > 0:
            raise InputError(f"a shard holds at least a clip, got {self.max_clips} and {self.max_megabytes:g} MB")


def write_shards(
    rows: list[ClipRow], root: Path, folder: Path, options: ShardOptions, overwrite: bool = False
) -> dict[str, Any]:
    """Pack the usable clips, in order, and write the index last: a folder with an index is whole.

    Equal clips give equal bytes. A clip_id that comes twice is packed once.

    Args:
        root: folder that the rows' paths are relative to.

    Returns:
        The index: for each shard its name, number of clips, seconds, bytes and SHA-256.

    Raises:
        InputError: rows are parts of longer files; the folder holds shards already; a clip cannot be read.
    """
    usable = {row.clip_id: row for row in rows if row.is_usable}
    if any(row.start > 0 for row in usable.values()) or len({row.path for row in usable.values()}) < len(usable):
        raise InputError("the manifest holds parts of longer files; make clips of them first: t2v-data cut")
    _prepare(folder, overwrite)
    shards = [
        _write_shard(folder / f"{number:06d}.tar", part, root)
        for number, part in enumerate(_parts(list(usable.values()), root, options))
    ]
    index = {"num_clips": len(usable), "seconds": round(sum(s["seconds"] for s in shards), 3), "shards": shards}
    temporary = folder / f".{INDEX_NAME}.tmp"
    temporary.write_text(json.dumps(index, indent=1))
    os.replace(temporary, folder / INDEX_NAME)
    return index


def _prepare(folder: Path, overwrite: bool) -> None:
    """Make the folder, or clear it of what an earlier run of ours left."""
    if (folder / INDEX_NAME).exists() and not overwrite:
        raise InputError(f"{folder} holds shards already; choose another --output or add --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX_NAME).unlink(missing_ok=True)
        for shard in folder.glob("[0-9]" * 6 + ".tar"):
            shard.unlink()
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error


def _parts(rows: list[ClipRow], root: Path, options: ShardOptions) -> Iterator[list[ClipRow]]:
    """The rows of one shard after another; none is empty."""
    part: list[ClipRow] = []
    size = 0
    for row in rows:
        try:
            clip_size = (root / row.path).stat().st_size
        except OSError as error:
            raise InputError(f"cannot read {root / row.path}: {error.strerror}") from error
        if part and (len(part) == options.max_clips or size + clip_size > options.max_megabytes * 1e6):
            yield part
            part, size = [], 0
        part.append(row)
        size += clip_size
    if part:
        yield part


def _write_shard(path: Path, rows: list[ClipRow], root: Path) -> dict[str, Any]:
    temporary = path.with_name(f".{path.name}.tmp")
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            clip = root / row.path
            _add(tar, f"{row.clip_id}{clip.suffix.lower()}", clip.read_bytes())
            _add(tar, f"{row.clip_id}.json", json.dumps(row.to_dict(), ensure_ascii=False, sort_keys=True).encode())
            if row.caption is not None:
                _add(tar, f"{row.clip_id}.txt", row.caption.encode())
    os.replace(temporary, path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    seconds = round(sum(row.end - row.start for row in rows), 3)
    return {
        "name": path.name,
        "num_clips": len(rows),
        "seconds": seconds,
        "bytes": path.stat().st_size,
        "sha256": digest,
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
