"""One HTML page, complete in itself: small moving previews, histograms of the scores, what was left out and why."""

import base64
import io
import os
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.cut import sizes
from data_tools.executors.isolated import Limits
from data_tools.executors.local import LocalExecutor
from data_tools.histograms import histograms
from data_tools.stage import group_by_file
from data_tools.stats import outcome, reason_left_out
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoReader

_PREVIEW_FRAMES, _PREVIEW_SIDE, _PREVIEW_MS = 8, 96, 160
_MOST_REASONS = 30  # in the table at the top
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:2em;background:#fafafa;color:#222}
p{max-width:60em}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:12px}
figure{margin:0;font-size:11px;color:#555;overflow:hidden}
figure img,figure p{width:100%;height:110px;margin:0;object-fit:contain;background:#eee;border-radius:3px}
figcaption div{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
figcaption div:first-child{color:#222}
summary{cursor:pointer;color:#368}
svg{margin:0 8px 8px 0;background:#fff;border:1px solid #ddd;border-radius:3px}
table{border-collapse:collapse}
td,th{padding:2px 1.5em 2px 0;vertical-align:top;text-align:left;font-weight:normal}
td.n,th.n{text-align:right}
tr.reason td:first-child{padding-left:1.5em}
tr.total td{font-weight:bold;padding-top:6px}
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
    folder = _common_folder(rows)
    sections = [_summary(rows), "<h2>Scores</h2>", *histograms(rows)]
    kept = _spread([row for row in rows if row.is_usable], options.kept)
    sections += ["<h2>Kept</h2>", _figures(kept, root, folder), "<h2>Filtered</h2>"]
    for reason, count in outcome(rows)["filtered"].most_common():
        of_reason = [row for row in rows if row.error is None and row.extra.get("filtered") == reason]
        sections.append(f"<h3>{escape(reason)}: {count}</h3>")
        sections.append(_figures(_spread(of_reason, options.per_reason), root, folder))
    failures = [row for row in rows if row.error is not None]
    sections += ["<h2>Failed</h2>", _failures(failures, options.failures, folder)]
    page = f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.write_text(page + f"<h1>{escape(title)}</h1>" + "\n".join(sections), encoding="utf-8")
    os.replace(temporary, output)


def _source(row: ClipRow) -> str:
    return str(row.extra.get("source_path") or row.path)


def _common_folder(rows: list[ClipRow]) -> str:
    """What the paths of all sources begin with, which need not be said for each."""
    return os.path.commonpath([os.path.dirname(_source(row)) for row in rows]) if rows else ""


def _short(row: ClipRow, folder: str) -> str:
    return escape(os.path.relpath(_source(row), folder or "."))


def _spread(rows: list[ClipRow], most: int) -> list[ClipRow]:
    """At most that many rows, evenly from all."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    return [rows[place] for place in places]


def _summary(rows: list[ClipRow]) -> str:
    """A table: kept, filtered and failed rows and the reasons, each with its hours."""
    lines = ["<tr><th></th><th class='n'>clips</th><th class='n'>hours</th></tr>"]
    lines.append(_line("kept", [row for row in rows if row.is_usable], "total"))
    for word, reasons in outcome(rows).items():
        lines.append(_line(word, [row for row in rows if reason_left_out(row)[0] == word], "total"))
        for reason, _ in reasons.most_common(_MOST_REASONS):
            lines.append(_line(reason, [row for row in rows if reason_left_out(row) == (word, reason)]))
    return f"<table>{''.join(lines)}</table>"


def _line(name: str, rows: list[ClipRow], kind: str = "reason") -> str:
    hours = sum(row.end - row.start for row in rows) / 3600
    return (
        f"<tr class='{kind}'><td>{escape(name)}</td><td class='n'>{len(rows)}</td><td class='n'>{hours:.3f}</td></tr>"
    )


def _figures(rows: list[ClipRow], root: Path, folder: str) -> str:
    """Previews, each made in a process of its own."""
    results = LocalExecutor()(Preview(root), group_by_file(rows), Limits(seconds=300))
    shown = {(row.path, row.clip_id): row for _, done in results for row in done}
    figures = [_figure(shown[row.path, row.clip_id], folder) for row in rows]
    return f"<div class='grid'>{''.join(figures)}</div>"


def _figure(row: ClipRow, folder: str) -> str:
    preview = row.extra.get("preview")
    picture = f"<img src='data:image/webp;base64,{preview}'>" if preview else f"<p>{escape(row.error or '')}</p>"
    is_cut = row.extra.get("source_start") is not None
    start, end = (row.extra["source_start"], row.extra["source_end"]) if is_cut else (row.start, row.end)
    name = f"<div title='{escape(_source(row))}'>{_short(row, folder)}</div>"
    span = f"<div>{start:.2f} to {end:.2f} s, {row.num_frames} frames</div>"
    values = [f"{name[6:]} {value:.3g}" for name, value in row.extra.items() if _is_score(name, value)]
    scores = f"<details><summary>{row.width}x{row.height}, scores</summary>{'<br>'.join(values)}</details>"
    return f"<figure>{picture}<figcaption>{name}{span}{scores}</figcaption></figure>"


def _is_score(name: str, value: object) -> bool:
    return name.startswith("score_") and isinstance(value, float | int)


def _failures(rows: list[ClipRow], most: int, folder: str) -> str:
    """A table: file, from when on, why."""
    if not rows:
        return "<p>none</p>"
    cells = [
        f"<tr><td>{_short(row, folder)}</td><td class='n'>{f'from {row.start:.2f} s' if row.start else ''}</td>"
        f"<td>{escape(row.error or '')}</td></tr>"
        for row in rows[:most]
    ]
    rest = f"<p>and {len(rows) - most} more</p>" if len(rows) > most else ""
    return f"<table>{''.join(cells)}</table>{rest}"
