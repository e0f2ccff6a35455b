"""Pictures of how a training is doing."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_LABEL_HEIGHT = 14


def picture_grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Lay pictures out row by row: uint8 (N, H, W, 3) -> (rows * H, columns * W, 3); empty places are black."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, height, width, 3), dtype=np.uint8)
    padded[:count] = pictures
    grid = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, 3)


def label_pictures(pictures: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """A strip with text below each picture: (N, H, W, 3) -> (N, H + strip, W, 3); long labels take more lines."""
    _, height, width, _ = pictures.shape
    lines_per_label = [_wrap(label, max(1, width // 6)) for label in labels]
    strip = _LABEL_HEIGHT * max(len(lines) for lines in lines_per_label)
    labelled = []
    for picture, lines in zip(pictures, lines_per_label, strict=True):
        canvas = Image.new("RGB", (width, height + strip), "white")
        canvas.paste(Image.fromarray(picture), (0, 0))
        ImageDraw.Draw(canvas).multiline_text((2, height), "\n".join(lines), fill="black", spacing=2)
        labelled.append(np.asarray(canvas))
    return np.stack(labelled)


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as PNG under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    Image.fromarray(picture).save(temporary, format="PNG")
    os.replace(temporary, path)
