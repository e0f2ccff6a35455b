"""What a data path holds: videos of a folder tree, of a manifest, or of tar shards, with their captions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from t2v.data.manifest import MANIFEST_NAME, read_manifest
from t2v.data.shards import read_caption, read_shard
from t2v.data.video_io import PICTURE_SUFFIXES, VideoPath
from t2v.errors import InputError

CLIP_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".flv", ".wmv", ".3gp", ".ogv", ".vob", ".y4m"),
)
_SHARD_ENDINGS = (".tar", ".tar.gz", ".tgz")  # those that are compressed are refused with the reason


@dataclass(frozen=True)
class Source:
    """A video that may be read, or a stretch of one."""

    path: VideoPath
    content: str  # identifies the file's content: its hash from a manifest, else name, size and time
    caption: str | None = None
    start: float = 0.0  # seconds from the first frame
    end: float = 0.0  # not above start: to the end of the file

    @property
    def is_stretch(self) -> bool:
        """Whether start or end are given; the end may be that of the file."""
        return self.start > 0 or self.end > self.start


@dataclass(frozen=True)
class Skipped:
    """A file that is no use, and why."""

    path: VideoPath
    reason: str


def find_sources(path: str | Path) -> Iterator[Source | Skipped]:
    """The videos below `path`, in a fixed order, and the shards that are broken; no video is opened.

    `path` is a folder with a manifest, a manifest file, a tar shard, or a folder tree. In a tree, a video's caption is
    the text of the `.txt` file of its name; a folder that holds pictures and no videos is one clip, captioned by the
    `.txt` file beside it. Folders of training runs are left out, for their samples.

    Raises:
        InputError: there is no such path.
    """
    path = Path(path)
    if (path / MANIFEST_NAME).is_file() or path.suffix in (".parquet", ".jsonl"):
        yield from _from_manifest(path)
    elif path.is_file() and path.name.lower().endswith(_SHARD_ENDINGS):
        yield from _from_shard(path, path.parent)
    elif path.is_dir():
        yield from _from_tree(path, path)
    else:
        raise InputError(f"data: no folder {path}; check the path")


def _from_manifest(path: Path) -> Iterator[Source]:
    root = path if path.is_dir() else path.parent
    for row in read_manifest(path):
        if row.is_usable:
            yield Source(root / row.path, row.clip_id, row.caption, row.start, row.end)


def _from_tree(folder: Path, root: Path) -> Iterator[Source | Skipped]:
    """Names that begin with a dot are left out."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        yield Skipped(folder, f"{folder} cannot be listed ({error.strerror})")
        return
    pictures = _files(entries, PICTURE_SUFFIXES)
    if len(pictures) > 1 and not _files(entries, CLIP_SUFFIXES):
        yield Source(folder, _identity(folder, root, pictures), _text_beside(folder))
    for entry in entries:
        if entry.is_dir():
            is_loop = entry.is_symlink() and folder.resolve().is_relative_to(entry.resolve())
            if not is_loop and not _is_run(entry):
                yield from _from_tree(entry, root)
        elif entry.name.lower().endswith(_SHARD_ENDINGS):
            yield from _from_shard(entry, root)
        elif _files([entry], CLIP_SUFFIXES):
            yield Source(entry, _identity(entry, root, [entry]), _text_beside(entry))


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() and (folder / "checkpoints").is_dir()


def _files(entries: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [entry for entry in entries if entry.suffix.lower() in suffixes and entry.is_file()]


def _from_shard(shard: Path, root: Path) -> Iterator[Source | Skipped]:
    identity = _identity(shard, root, [shard])
    try:
        pairs = read_shard(shard, CLIP_SUFFIXES)
    except InputError as error:
        yield Skipped(shard, str(error))
        return
    for member, sidecar in pairs:
        try:
            caption = read_caption(sidecar) if sidecar is not None else None
        except InputError as error:
            yield Skipped(member, str(error))
            continue
        yield Source(member, f"{identity}:{member.name}", caption)


def _identity(path: Path, root: Path, files: list[Path]) -> str:
    stats = [file.stat() for file in files]
    return f"{path.relative_to(root)}:{sum(s.st_size for s in stats)}:{max(s.st_mtime_ns for s in stats)}"


def _text_beside(path: Path) -> str | None:
    text = path.parent / f"{path.name if path.is_dir() else path.stem}.txt"
    return text.read_text(encoding="utf-8", errors="replace").strip() if text.is_file() else None
