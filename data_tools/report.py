"""One HTML page, complete in itself: small moving previews, histograms of the scores, what was left out and why."""

import base64
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.cut import sizes
from data_tools.executors.isolated import Limits
from data_tools.executors.local import LocalExecutor
from data_tools.stage import group_by_file
from data_tools.stats import outcome, score_columns
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoReader

_PREVIEW_FRAMES, _PREVIEW_SIDE, _PREVIEW_MS = 8, 96, 160
_BINS = 24
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:2em;background:#fafafa;color:#222}
figure{display:inline-block;margin:4px;width:180px;vertical-align:top;font-size:11px;color:#555}
figure img{max-width:180px;border-radius:3px;background:#ccc}
svg{margin:6px;background:#fff;border:1px solid #ddd;border-radius:3px}
td{padding:1px 1em 1px 0;vertical-align:top}
td.n{text-align:right}
"""


@dataclass(frozen=True)
class ReportOptions:
    """How much is shown."""

    kept: int = 60  # previews of clips that are kept
    per_reason: int = 8  # previews of filtered clips for each reason
    failures: int = 500  # failed files that are named


@dataclass(frozen=True)
class Preview:
    """The stage: rows get a column `preview`, a small animated WebP in base64."""

    root: Path = field(repr=False)

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        path = self.root / rows[0].path
        with VideoReader(path, threads=1) as reader:
            known, times = reader.indexed, reader.timestamps
        size, _ = sizes(known.info, str(_PREVIEW_SIDE))
        with VideoReader(path, threads=1, size=size, known=known) as reader:
            return [_with_preview(row, reader, times) for row in rows]


def _with_preview(row: ClipRow, reader: VideoReader, times: np.ndarray) -> ClipRow:
    first, last = np.searchsorted(times, [row.start, row.end]).tolist()
    places = np.unique(np.linspace(first, max(first, last - 1), _PREVIEW_FRAMES).astype(int))
    pictures = [Image.fromarray(frame) for frame in reader.stream(places.tolist())]
    file = io.BytesIO()
    pictures[0].save(
        file, "WEBP", save_all=True, append_images=pictures[1:], duration=_PREVIEW_MS, loop=0, quality=40, method=2
    )
    return replace(row, extra=row.extra | {"preview": base64.b64encode(file.getvalue()).decode()})


def write_report(rows: list[ClipRow], root: Path, output: Path, options: ReportOptions, title: str) -> None:
    """Write the page, whole or not at all."""
    reasons = outcome(rows)
    sections = [_summary(rows), "<h2>Scores</h2>", *_histograms(rows)]
    kept = _spread([row for row in rows if row.is_usable], options.kept)
    sections += ["<h2>Kept</h2>", *_figures(kept, root)]
    sections.append("<h2>Filtered</h2>")
    for reason, count in reasons["filtered"].most_common():
        of_reason = [row for row in rows if row.error is None and row.extra.get("filtered") == reason]
        sections.append(f"<h3>{escape(reason)}: {count}</h3>")
        sections += _figures(_spread(of_reason, options.per_reason), root)
    sections += ["<h2>Failed</h2>", _failures([row for row in rows if row.error is not None], options.failures)]
    page = f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.write_text(page + f"<h1>{escape(title)}</h1>" + "\n".join(sections), encoding="utf-8")
    os.replace(temporary, output)


def _spread(rows: list[ClipRow], most: int) -> list[ClipRow]:
    """At most that many rows, evenly from all."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    return [rows[place] for place in places]


def _summary(rows: list[ClipRow]) -> str:
    kept = [row for row in rows if row.is_usable]
    hours = sum(row.end - row.start for row in kept) / 3600
    filtered = sum(outcome(rows)["filtered"].values())
    failed = sum(row.error is not None for row in rows)
    return f"<p>{len(kept)} clips kept ({hours:.2f} h), {filtered} filtered, {failed} failed.</p>"


def _histograms(rows: list[ClipRow]) -> Iterable[str]:
    """Bars of all scored clips, the kept ones darker."""
    everything = score_columns(rows)
    kept = score_columns([row for row in rows if row.is_usable])
    for name, values in everything.items():
        if len(values):
            edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-9), _BINS + 1)
            yield _histogram(name, np.histogram(values, edges)[0], np.histogram(kept.get(name, []), edges)[0], edges)


def _histogram(name: str, counts: np.ndarray, kept: np.ndarray, edges: np.ndarray) -> str:
    bars = []
    for values, color in ((counts, "#bcd"), (kept, "#368")):
        heights = 80 * np.sqrt(values / max(1, counts.max()))  # square roots keep small bins visible
        bars += [
            f"<rect x='{10 + 10 * place}' y='{100 - height:.1f}' width='9' height='{height:.1f}' fill='{color}'/>"
            for place, height in enumerate(heights)
        ]
    text = f"<text x='10' y='14' font-size='12'>{escape(name)}</text>"
    scale = f"<text x='10' y='115' font-size='10'>{edges[0]:.3g}</text>"
    scale += f"<text x='250' y='115' font-size='10' text-anchor='end'>{edges[-1]:.3g}</text>"
    return f"<svg width='260' height='120'>{text}{''.join(bars)}{scale}</svg>"


def _figures(rows: list[ClipRow], root: Path) -> list[str]:
    """Previews, each made in a process of its own."""
    results = LocalExecutor()(Preview(root), group_by_file(rows), Limits(seconds=300))
    shown = {(row.path, row.clip_id): row for _, done in results for row in done}
    return [_figure(shown[row.path, row.clip_id]) for row in rows]


def _figure(row: ClipRow) -> str:
    scores = " ".join(f"{name[6:]} {value:.3g}" for name, value in row.extra.items() if _is_score(name, value))
    preview = row.extra.get("preview")
    picture = f"<img src='data:image/webp;base64,{preview}'>" if preview else f"<p>{escape(row.error or '')}</p>"
    source = escape(str(row.extra.get("source_path") or row.path))
    seconds = f"{row.start:.2f} to {row.end:.2f} s"
    return f"<figure title='{escape(scores)}'>{picture}<br>{source}<br>{seconds}, {row.num_frames} frames</figure>"


def _is_score(name: str, value: object) -> bool:
    return name.startswith("score_") and isinstance(value, float | int)


def _failures(rows: list[ClipRow], most: int) -> str:
    cells = [f"<tr><td>{escape(row.path)}</td><td>{escape(row.error or '')}</td></tr>" for row in rows[:most]]
    rest = f"<p>and {len(rows) - most} more</p>" if len(rows) > most else ""
    return f"<table>{''.join(cells)}</table>{rest}"
