"""Still pictures with captions: a folder with a manifest, or a folder tree of picture files."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t2v.data.manifest import MANIFEST_NAME, read_manifest
from t2v.data.transforms import fit_square
from t2v.data.video_io import PICTURE_SUFFIXES, read_picture
from t2v.errors import InputError


@dataclass(frozen=True)
class Still:
    """One picture file."""

    path: Path
    caption: str | None
    content: str  # identifies the file's content: its hash from a manifest, else name, size and time


def find_stills(path: str | Path) -> list[Still]:
    """The pictures below `path`, in a fixed order; rows of a manifest with an error are left out.

    Without a manifest, a caption is the text of the `.txt` file beside a picture.

    Raises:
        InputError: no such folder, or no pictures there.
    """
    path = Path(path)
    if (path / MANIFEST_NAME).is_file() or path.suffix in (".parquet", ".jsonl"):
        root = path if path.is_dir() else path.parent
        stills = [Still(root / row.path, row.caption, row.clip_id) for row in read_manifest(path) if row.is_usable]
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
        stills = [_from_file(file, path) for file in files]
    else:
        raise InputError(f"data: no folder {path}; check the path")
    if not stills:
        raise InputError(f"data: no pictures in {path}; expected {', '.join(PICTURE_SUFFIXES)} or {MANIFEST_NAME}")
    return stills


def _from_file(file: Path, root: Path) -> Still:
    text = file.with_suffix(".txt")
    caption = text.read_text(encoding="utf-8").strip() if text.is_file() else None
    stat = file.stat()
    return Still(file, caption, f"{file.relative_to(root)}:{stat.st_size}:{stat.st_mtime_ns}")


def read_still(path: Path, resolution: int) -> np.ndarray:
    """One picture as uint8 (resolution, resolution, 3); InputError when it cannot be read."""
    return fit_square(read_picture(path), resolution)


def read_stills(
    stills: Sequence[Still],
    resolution: int,
    num_threads: int = 4,
    on_read: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """All pictures as uint8 (N, resolution, resolution, 3)."""
    pixels = np.empty((len(stills), resolution, resolution, 3), dtype=np.uint8)

    def read(index: int) -> None:
        pixels[index] = read_still(stills[index].path, resolution)

    with ThreadPoolExecutor(num_threads) as pool:
        for done, _ in enumerate(pool.map(read, range(len(stills))), start=1):
            on_read(done)
    return torch.from_numpy(pixels)
