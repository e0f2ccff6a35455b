"""A folder of pictures as a video: natural order of names, turned upright, all of one size."""

import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from t2v.data.video_io.index import FrameIndex, IndexedVideo
from t2v.data.video_io.info import VideoInfo
from t2v.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 100_000_000  # of a picture; a small file may hold far more, to fill the memory
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")


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


def read_picture(path: Path, keep_alpha: bool = False) -> np.ndarray:
    """A picture file as uint8 (H, W, 3), turned upright by its EXIF tag.

    Texts in a PNG are left unread, however large they are.

    Args:
        keep_alpha: (H, W, 4) where some pixel is not opaque.

    Raises:
        InputError: the file is broken, or has more than MAX_PIXELS pixels.
    """
    try:
        with _quiet_about_size(), Image.open(_without_texts(path)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path} is {image.width}x{image.height}, at most {MAX_PIXELS:,} pixels are read")
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(upright.convert("RGBA" if keep_alpha and upright.has_transparency_data else "RGB"))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is far too large, at most {MAX_PIXELS:,} pixels are read") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error})") from error
    return pixels[..., :3] if pixels.shape[2] == 4 and (pixels[..., 3] == 255).all() else pixels


def may_be_transparent(path: Path) -> bool:
    """Whether the header of a picture file speaks of transparency; broken files are not."""
    try:
        with _quiet_about_size(), Image.open(_without_texts(path)) as image:
            return image.has_transparency_data
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError):
        return False


@contextmanager
def _quiet_about_size() -> Iterator[None]:
    """Pillow only warns of pictures that are refused here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _without_texts(path: Path) -> Path | io.BytesIO:
    """A PNG without its text chunks, which may unpack to any size; any other file as it is."""
    with path.open("rb") as file:
        if file.read(8) != _PNG_SIGNATURE:
            return path
        kept = [_PNG_SIGNATURE]
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[:4])
            if head[4:] in _TEXT_CHUNKS:
                file.seek(length + 4, os.SEEK_CUR)
            else:
                kept += [head, file.read(length + 4)]
    return io.BytesIO(b"".join(kept))
