"""Contact sheets: videos as strips of frames, one row each under its caption."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GAP = 2  # pixels between frames
_TEXT_SIZE = 13
_TEXT_HEIGHT = 20  # pixels for a caption
_BORDER = 6


def strip(frames: NDArray[np.uint8], num_frames: int) -> NDArray[np.uint8]:
    """Frames evenly spaced from the first to the last: uint8 (F, H, W, 3) -> (num_frames, H, W, 3)."""
    return frames[np.linspace(0, len(frames) - 1, num_frames).round().astype(int)]


def contact_sheet(captions: Sequence[str], strips: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One row per caption, its frames (uint8 (F, H, W, 3), all of one shape) from left to right: uint8 (H, W, 3)."""
    num_frames, height, width, _ = strips[0].shape
    row_height = _TEXT_HEIGHT + height
    size = (2 * _BORDER + num_frames * (width + _GAP) - _GAP, 2 * _BORDER + len(strips) * row_height)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_SIZE)
    for row, (caption, frames) in enumerate(zip(captions, strips, strict=True)):
        top = _BORDER + row * row_height
        draw.text((_BORDER, top + (_TEXT_HEIGHT - _TEXT_SIZE) // 2), caption, fill="black", font=font)
        for column, frame in enumerate(frames):
            place = (_BORDER + column * (width + _GAP), top + _TEXT_HEIGHT)
            sheet.paste(Image.fromarray(frame), place)
    return np.asarray(sheet)


_OPTIONS: dict[str, dict[str, Any]] = {".png": {"optimize": True}, ".jpg": {"quality": 85}}


def save_picture(picture: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 (H, W, 3) as .png or .jpg, whole or not at all."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, {".png": "PNG", ".jpg": "JPEG"}[path.suffix], **_OPTIONS[path.suffix])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(file.getvalue())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
