"""The frame indices of videos on disk, so that a second start need not read every packet of every file again.

Files that did not answer have a row as well. Those that fail at once are not kept: what is wrong may be the permission
to read them, say, or a missing decoder.
"""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from t2v.data.timeout import Unresponsive
from t2v.data.video_io import FrameIndex, IndexedVideo, VideoInfo

_TEXTS = ("codec", "pixel_format", "container", "audio_codec")
_NUMBERS = ("width", "height", "rotation", "hidden_frames")
_FACTS = (*_TEXTS, *_NUMBERS, "duration", "is_variable_rate")  # kept as they are in VideoInfo
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("key", "time_base", "fps", "pixel_aspect", *_TEXTS), pa.string()),
        **dict.fromkeys(("start", "last_duration"), pa.int64()),
        **dict.fromkeys(("times", "key_pts", "key_places"), pa.list_(pa.int64())),
        **dict.fromkeys(_NUMBERS, pa.int32()),
        "duration": pa.float64(),
        "is_variable_rate": pa.bool_(),
        "error": pa.string(),  # of a file that did not answer; the columns above are null then
        "waited": pa.float64(),  # seconds
    }
)


Known = IndexedVideo | Unresponsive  # what a file taught


def load_indices(path: Path) -> dict[str, Known]:
    """What is in a file by the keys of the videos; nothing where there is no such file, or it is broken."""
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    except (OSError, pa.ArrowException):
        return {}
    return {row["key"].as_py(): _from_row(row) for batch in table.to_batches() for row in _rows(batch)}


def save_indices(known: dict[str, Known], path: Path) -> None:
    """Write what is known, replacing the file when all is written."""
    rows = [_to_row(key, video) for key, video in known.items()]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary, compression="zstd")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rows(batch: pa.RecordBatch) -> list[dict[str, pa.Scalar]]:
    return [{name: batch.column(name)[i] for name in _SCHEMA.names} for i in range(batch.num_rows)]


def _to_row(key: str, video: Known) -> dict[str, Any]:
    if isinstance(video, Unresponsive):
        return {"key": key, "error": str(video), "waited": video.seconds}
    info, index = video.info, video.index
    return {
        "key": key,
        "time_base": str(index.time_base),
        "start": index.start,
        "times": index.times,
        "last_duration": index.last_duration,
        "key_pts": [pts for pts, _ in index.keys],
        "key_places": [place for _, place in index.keys],
        "fps": str(info.fps),
        "pixel_aspect": str(info.pixel_aspect),
        **{name: getattr(info, name) for name in _FACTS},
    }


def _from_row(row: dict[str, pa.Scalar]) -> Known:
    if (error := row["error"].as_py()) is not None:
        return Unresponsive(error, row["waited"].as_py())
    times = np.array(row["times"].values)
    info = VideoInfo(
        num_frames=len(times),
        fps=Fraction(row["fps"].as_py()),
        pixel_aspect=Fraction(row["pixel_aspect"].as_py()),
        **{name: row[name].as_py() for name in _FACTS},
    )
    keys = list(zip(row["key_pts"].as_py(), row["key_places"].as_py(), strict=True))
    time_base, start, last = (row[name].as_py() for name in ("time_base", "start", "last_duration"))
    return IndexedVideo(info, FrameIndex(Fraction(time_base), start, times, last, keys, info.hidden_frames))
