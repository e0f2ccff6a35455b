"""A folder of pictures as a video: natural order of names, turned upright, all of one size."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from t2v.data.video_io.index import FrameIndex, IndexedVideo
from t2v.data.video_io.info import VideoInfo
from t2v.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


class PictureFolder:
    """The pictures of a folder, those of its sub-folders not included."""

    def __init__(
        self, folder: Path, fps: Fraction, size: tuple[int, int] | None = None, known: IndexedVideo | None = None
    ) -> None:
        self._size = size
        files = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES]
        if not files:
            raise InputError(f"{folder} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
        self._files = sorted(files, key=natural_key)
        self.known = known or self._look(fps)

    def _look(self, fps: Fraction) -> IndexedVideo:
        count = len(self._files)
        height, width, _ = read_picture(self._files[0]).shape
        codec = self._files[0].suffix.lower().lstrip(".")
        info = VideoInfo(count, fps, float(count / fps), width, height, rotation=0, codec=codec)
        return IndexedVideo(info, FrameIndex.steady(fps, count))

    def pictures(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Pictures at the given places, each uint8 (H, W, 3)."""
        info = self.known.info
        for index in wanted:
            picture = read_picture(self._files[index])
            height, width, _ = picture.shape
            if (width, height) != (info.width, info.height):
                first = f"{info.width}x{info.height}"
                raise InputError(f"{self._files[index]} is {width}x{height}, the first {first}")
            if self._size not in (None, (width, height)):
                picture = np.asarray(Image.fromarray(picture).resize(self._size, Image.Resampling.BICUBIC))
            yield picture

    def close(self) -> None:
        """Nothing is held open."""


def read_picture(path: Path) -> np.ndarray:
    """A picture file as uint8 (H, W, 3), turned upright by its EXIF tag; InputError where it is broken."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error})") from error
