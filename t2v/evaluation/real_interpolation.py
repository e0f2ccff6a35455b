"""Frames between on real pictures and videos: the methods side by side, with figures where the truth is known."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2v.data.transforms import fit_square
from t2v.data.video_io import read_frames, read_picture
from t2v.errors import InputError
from t2v.evaluation.frame_metrics import Frames, flow_error, psnr, sharpness
from t2v.evaluation.sheet import strip
from t2v.pipelines.interpolation.filling import Fill, fill_gaps

METRICS = ("psnr", "flow_error", "sharpness")
COLUMNS = ("first", "second", "start", "shown", "credit")


@dataclass(frozen=True)
class Source:
    """Two pictures, or a video from `start` on."""

    files: tuple[Path, ...]
    start: float  # seconds
    shown: bool  # its licence lets frames of it be shown
    credit: str  # who made it, and the licence

    @property
    def name(self) -> str:
        return self.files[0].stem

    @property
    def is_pair(self) -> bool:
        return len(self.files) == 2

    def read(self, num_frames: int, fps: float, size: int) -> Frames:
        """Centre squares of `size` pixels: the two pictures, or `num_frames` of the video at `fps`."""
        if self.is_pair:
            frames = [read_picture(file) for file in self.files]
        else:
            frames = list(read_frames(self.files[0], times=(self.start + np.arange(num_frames) / fps).tolist()))
        return np.stack([fit_square(frame, size) for frame in frames])


@dataclass(frozen=True)
class RealRequest:
    """How sources are compared."""

    methods: Mapping[str, Fill]
    num_frames: int = 9  # of a clip, the first and the last are known
    fps: float = 8.0
    size: int = 128
    columns: int = 5  # frames of a row


def read_sources(file: Path, data: Path) -> list[Source]:
    """The sources that a CSV file lists, with paths relative to `data`: a pair has a second picture, a video a start.

    Raises:
        InputError: the file cannot be read, lacks a column, or lists nothing.
    """
    try:
        with file.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
        sources = [
            Source(
                tuple(data / row[name] for name in ("first", "second") if row[name]),
                float(row["start"] or 0),
                row["shown"] == "yes",
                row["credit"],
            )
            for row in rows
        ]
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file}: a list of sources has the columns {','.join(COLUMNS)}") from None
    if not sources:
        raise InputError(f"{file} lists no source")
    return sources


def compare_real(
    sources: Sequence[Source],
    request: RealRequest,
    on_source: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], list[tuple[str, Frames]]]:
    """Fill in what lies between the first and the last frame of every source, by every method.

    Returns: a report, `sources` with the figures of each method where the truth is known and `mean` over those; and the
    rows of a contact sheet, of sources that may be shown.
    """
    lines: list[dict[str, Any]] = []
    rows: list[tuple[str, Frames]] = []
    for done, source in enumerate(sources):
        frames = source.read(request.num_frames, request.fps, request.size)
        times = (np.arange(request.num_frames) / request.fps).tolist()
        ends = frames[[0, -1]]
        made = {
            name: np.concatenate([ends[:1], fill_gaps(fill, ends, (times[0], times[-1]), times[1:-1]), ends[1:]])
            for name, fill in request.methods.items()
        }
        figures = {} if source.is_pair else {name: _figures(clip, frames) for name, clip in made.items()}
        lines.append({"name": source.name, "credit": source.credit, "methods": figures})
        if source.shown:
            rows += _rows(source, frames, made, figures, request.columns)
        on_source(done + 1, len(sources))
    return {"sources": lines, "mean": _means(lines, list(request.methods))}, rows


def _figures(made: Frames, truth: Frames) -> dict[str, float]:
    inner = slice(1, -1)
    return {
        "psnr": psnr(made[inner], truth[inner]),
        "flow_error": flow_error(made, truth),
        "sharpness": sharpness(made[inner]) / max(sharpness(truth[inner]), 1e-9),
    }


def _rows(
    source: Source, frames: Frames, made: Mapping[str, Frames], figures: Mapping[str, Any], columns: int
) -> Iterator[tuple[str, Frames]]:
    """A row of the truth, where it is known, and one of each method; the first names the source and its licence."""
    title = f"{source.name} ({source.credit})"
    if not source.is_pair:
        yield f"{title}: the truth", strip(frames, columns)
        title = source.name
    for name, clip in made.items():
        found = figures.get(name)
        told = "" if found is None else f", PSNR {found['psnr']:.1f}, flow error {found['flow_error']:.2f}"
        yield f"{title}: {name}{told}", strip(clip, columns)
        title = source.name


def _means(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    known = [line["methods"] for line in lines if line["methods"]]
    if not known:
        return {}
    return {
        name: {metric: float(np.mean([methods[name][metric] for methods in known])) for metric in METRICS}
        for name in names
    }
