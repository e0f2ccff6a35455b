"""Histograms of the scores as SVG."""

from collections.abc import Iterator
from html import escape

import numpy as np

from data_tools.stats import SCORE_MEANINGS, score_columns
from t2v.data.manifest import ClipRow

_BINS, _BAR, _HEIGHT = 24, 10, 80  # pixels
_LEFT, _TOP = 34, 38
_LEGEND = """<p>Dark: clips that are kept. Light: all that have the score. Heights go by the square root of the
number of clips, so that few can be seen beside many.</p>"""


def histograms(rows: list[ClipRow]) -> Iterator[str]:
    """One for each score that any row has, after a word on how to read them."""
    everything = score_columns(rows)
    kept = score_columns([row for row in rows if row.is_usable])
    yield _LEGEND if everything else "<p>none: these clips have not been scored</p>"
    for name, values in everything.items():
        if len(values):
            least, most = values.min(), values.max()
            edges = np.linspace(least, most if most > least else least + 1, _BINS + 1)
            counts = np.histogram(values, edges)[0]
            yield _histogram(name.removeprefix("score_"), counts, np.histogram(kept.get(name, []), edges)[0], edges)


def _histogram(name: str, counts: np.ndarray, kept: np.ndarray, edges: np.ndarray) -> str:
    most = max(1, int(counts.max()))
    floor, right = _TOP + _HEIGHT, _LEFT + _BINS * _BAR
    parts = [_text(10, 16, name, 13), _text(10, 30, SCORE_MEANINGS.get(name, ""), 10)]
    parts += [_text(_LEFT - 4, _TOP + 8, str(most), 10, "end"), _text(_LEFT - 4, floor, "0", 10, "end")]
    parts += [f"<line x1='{_LEFT}' y1='{floor}' x2='{right}' y2='{floor}' stroke='#999'/>"]
    parts += [*_bars(counts, most, "#bcd"), *_bars(kept, most, "#368")]
    middle = (edges[0] + edges[-1]) / 2
    for x, value, anchor in (
        (_LEFT, edges[0], "start"),
        ((_LEFT + right) / 2, middle, "middle"),
        (right, edges[-1], "end"),
    ):
        parts.append(_text(x, floor + 13, f"{value:.4g}", 10, anchor))
    return f"<svg width='{right + 10}' height='{floor + 20}'>{''.join(parts)}</svg>"


def _bars(counts: np.ndarray, most: int, color: str) -> list[str]:
    heights = _HEIGHT * np.sqrt(counts / most)
    return [
        f"<rect x='{_LEFT + _BAR * place}' y='{_TOP + _HEIGHT - height:.1f}' width='{_BAR - 1}' "
        f"height='{height:.1f}' fill='{color}'/>"
        for place, height in enumerate(heights)
        if height
    ]


def _text(x: float, y: float, text: str, size: int, anchor: str = "start") -> str:
    return f"<text x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}'>{escape(text)}</text>"
