"""Opening what a data path holds: the clips that can be read, and the files that cannot."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from t2v.data.clips import Clip, Decoding
from t2v.data.index_cache import load_indices, save_indices
from t2v.data.sources import Skipped, Source, find_sources
from t2v.data.timeout import Unresponsive, within
from t2v.data.video_io import IndexedVideo, ShardMember, VideoPath
from t2v.errors import InputError

_GROUP = 256  # files opened at a time
_THREADS = 4


@dataclass
class Found:
    """What a data path holds."""

    clips: list[Clip] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def find_clips(
    path: str | Path,
    decoding: Decoding,
    *,
    max_clips: int | None = None,
    timeout: float = 120.0,
    index_file: Path | None = None,
    on_opened: Callable[[int], None] = lambda count: None,
) -> Found:
    """The clips below `path` (see `find_sources`), in a fixed order, and the files that cannot be read.

    Every file is opened once, for the true times of its frames.

    Args:
        timeout: seconds after which a file that does not open is given up.
        index_file: keeps what the files taught, for the next time.
        on_opened: told now and then how many files there are so far.

    Raises:
        InputError: no such folder, or no readable video there.
    """
    indices = Indices(decoding, timeout, index_file)
    found = Found()
    sources = find_sources(path)
    while len(found.clips) != max_clips and (group := list(islice(sources, _GROUP))):
        for result in indices.open(group):
            (found.clips if isinstance(result, Clip) else found.skipped).append(result)  # type: ignore[arg-type]
            if len(found.clips) == max_clips:
                break
        on_opened(len(found.clips) + len(found.skipped))
    indices.close()
    if not found.clips:
        skipped = found.skipped
        reason = f"; the first of {len(skipped)} unreadable ones: {skipped[0].reason}" if skipped else ""
        raise InputError(f"data: no readable videos in {path}{reason}")
    return found


class Indices:
    """Opens files for their index, each once in the life of the index file, also those that do not answer."""

    def __init__(self, decoding: Decoding, timeout: float, file: Path | None) -> None:
        self.decoding, self.timeout, self.file = decoding, timeout, file
        self._known: dict[str, IndexedVideo] = {}
        self._failed: dict[str, InputError] = {}
        for key, found in (load_indices(file) if file is not None else {}).items():
            if not isinstance(found, Unresponsive):
                self._known[key] = found
            elif found.seconds >= timeout:  # else it may answer this time
                self._failed[key] = found
        self._unsaved = 0

    def open(self, sources: Iterable[Source | Skipped]) -> Iterator[Clip | Skipped]:
        """What each source is: a clip, or skipped."""
        group = list(sources)
        keys = [self._key(source.path) for source in group]
        new = {
            key: source.path
            for key, source in zip(keys, group, strict=True)
            if isinstance(source, Source) and key not in self._known and key not in self._failed
        }
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._learn, new.keys(), new.values()))
        self._save(len(new))
        for key, source in zip(keys, group, strict=True):
            yield source if isinstance(source, Skipped) else self._clip(source, key)

    def _key(self, path: VideoPath) -> str:
        """Changes with the file and with how it is read."""
        file = path.shard if isinstance(path, ShardMember) else path
        stat = file.stat() if file.exists() else None
        return f"{path}:{stat and (stat.st_size, stat.st_mtime_ns)}:{self.decoding}"

    def _learn(self, key: str, path: VideoPath) -> None:
        try:
            self._known[key] = within(self.timeout, partial(self._index, path), path)
        except InputError as error:
            self._failed[key] = error.with_traceback(None)

    def _save(self, num_new: int, share: float = 0.1) -> None:
        """Write the index file when a tenth of what is known is new, so that an interrupted search loses little."""
        self._unsaved += num_new
        if self.file is not None and self._unsaved > share * len(self._known):
            hanging = {key: error for key, error in self._failed.items() if isinstance(error, Unresponsive)}
            save_indices(self._known | hanging, self.file)
            self._unsaved = 0

    def close(self) -> None:
        """Save what is not yet saved."""
        self._save(0, share=0.0)

    def _index(self, path: VideoPath) -> IndexedVideo:
        with self.decoding.open(path) as reader:
            return reader.indexed

    def _clip(self, source: Source, key: str) -> Clip | Skipped:
        if key in self._failed:
            return Skipped(source.path, str(self._failed[key]))
        video = self._known[key]
        frames = np.arange(video.index.num_frames, dtype=np.int32)
        clip = Clip(source.path, source.content, video, frames, source.caption)
        try:
            return clip.between(source.start, source.end) if source.end > source.start else clip
        except InputError as error:
            return Skipped(source.path, str(error))
