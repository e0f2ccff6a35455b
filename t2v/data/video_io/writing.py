"""Write frames as mp4, webm, mkv, gif, webp or a folder of PNGs, whole or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from t2v.data.video_io.encoding import CONTAINERS, Content, EncodeOptions, check_encoding, encode
from t2v.errors import InputError

VIDEO_SUFFIXES = (*CONTAINERS, ".gif", ".webp")
_GIF_TICK = 10  # milliseconds: a GIF counts its frame durations in hundredths of a second
_MAX_GIF_RATE = 50  # browsers slow down frames shorter than two ticks
_FRAME_NAME = re.compile(r"frame_\d+\.png")


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float | Fraction,
    metadata: dict[str, str] | None = None,
    *,
    overwrite: bool = False,
    options: EncodeOptions | None = None,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
) -> Path:
    """Write a video in the format of its extension: .mp4, .webm, .mkv, .gif, .webp, or none for a folder of PNGs.

    Without `options`, mp4 is H.264, yuv420p, BT.709, playable before it is fully loaded; webm is VP9; mkv is FFV1 in
    RGB, which keeps every pixel as it is. yuv420p needs even sides: an odd side grows by one pixel, a copy of the last
    column or row. gif and webp loop for ever; gif durations are hundredths of a second, and their rounding errors do
    not add up.

    Args:
        path: must not exist unless `overwrite`; its folder must exist. A folder that holds other files than frames is
            never overwritten.
        frames: uint8 (F, H, W, 3), or an iterable of (H, W, 3), consumed one frame at a time (gif and webp keep all).
            PNGs may have alpha, (H, W, 4).
        fps: frames per second, > 0.
        metadata: container tags, for mp4, webm and mkv; mp4 keeps the common ones (title, comment, artist, ...) alone.
        times: when each frame is shown, seconds from 0, ascending, for a variable rate in mp4, webm and mkv; `fps` is
            then the mean rate.
        sound: of an mp4, float32 (channels, samples) in -1..1 at SOUND_RATE, 1 or 2 channels; it becomes AAC.

    Raises:
        InputError: the path cannot be written, its extension is unknown or does not have these options; nothing is
            left behind.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    check_rate(path, fps)
    options = options or EncodeOptions()
    check_encoding(path, options)
    rate = Fraction(fps).limit_denominator(100_000)
    assert sound is None or path.suffix.lower() == ".mp4", "only mp4 is written with sound"
    assert times is None or path.suffix.lower() in CONTAINERS, "only mp4, webm and mkv have a variable rate"
    frames = _checked(frames, (3,) if path.suffix else (3, 4))
    content = Content(frames, rate, metadata or {}, times, sound)
    target = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        target.touch() if path.suffix else target.mkdir()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        match path.suffix.lower():
            case ".mp4" | ".webm" | ".mkv":
                encode(target, content, options)
            case ".gif":
                _write_gif(target, frames, rate)
            case ".webp":
                _write_webp(target, frames, rate)
            case _:
                _write_folder(target, frames)
        _move_into_place(target, path)
    finally:
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
    return path


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise InputError where `write_video` would: unknown extension, missing or read-only folder, existing file.

    Lets a command refuse before the hours of work, not after.
    """
    path = Path(path)
    if path.suffix and path.suffix.lower() not in VIDEO_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES)
        raise InputError(f"cannot write {path.name}: unknown format {path.suffix!r}; use {known}, or none for PNGs")
    check_parent(path)
    if path.exists() and path.is_dir() == bool(path.suffix):
        raise InputError(f"cannot write {path}: it is a {'folder' if path.is_dir() else 'file'}")
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        if not all(_FRAME_NAME.fullmatch(name) for name in names):
            raise InputError(f"cannot write {path}: it holds other files than frames; choose another folder")
        if not names:
            return
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; choose another name or overwrite it (--overwrite)")


def check_parent(path: Path) -> None:
    """Raise InputError unless the folder that `path` is to lie in is there and lets files be made."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: no permission to write in {path.parent}")


def check_rate(path: str | Path, fps: float | Fraction) -> None:
    """Raise InputError for frames per second that the format of `path` cannot hold, before there are frames."""
    if not fps > 0:
        raise InputError(f"fps must be above 0, got {fps}")
    if Path(path).suffix.lower() == ".gif" and fps > _MAX_GIF_RATE:
        raise InputError(
            f"a GIF shows at most {_MAX_GIF_RATE} frames per second, got {float(fps):g}; use .mp4 or .webp"
        )


def _move_into_place(source: Path, path: Path) -> None:
    if source.is_dir() and path.is_dir():
        shutil.rmtree(path)
    os.replace(source, path)


def _checked(frames: Iterable[np.ndarray], channels: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The same frames, each checked; InputError when there is none."""
    shape = None
    for frame in frames:
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in channels:
            raise InputError(f"a frame must be uint8 (H, W, {channels[-1]}), got {frame.dtype} {frame.shape}")
        shape = shape or frame.shape
        if frame.shape != shape:
            raise InputError(f"all frames must have one size, got {shape} and {frame.shape}")
        yield frame
    if shape is None:
        raise InputError("a video needs at least one frame, got none")


def _write_gif(target: Path, frames: Iterator[np.ndarray], rate: Fraction) -> None:
    """Durations in whole ticks whose sum stays within half a tick of the true time."""
    video = np.stack(list(frames))
    times = [round(index * 1000 / _GIF_TICK / rate) for index in range(len(video) + 1)]
    durations = [(after - before) * _GIF_TICK for before, after in pairwise(times)]
    iio.imwrite(target, video, plugin="pillow", extension=".gif", duration=durations, loop=0)


def _write_webp(target: Path, frames: Iterator[np.ndarray], rate: Fraction) -> None:
    video = np.stack(list(frames))
    times = [round(index * 1000 / rate) for index in range(len(video) + 1)]
    durations = [after - before for before, after in pairwise(times)]
    iio.imwrite(target, video, plugin="pillow", extension=".webp", duration=durations, loop=0, quality=90)


def _write_folder(target: Path, frames: Iterator[np.ndarray]) -> None:
    """frame_00000.png and so on."""
    for index, frame in enumerate(frames):
        iio.imwrite(target / f"frame_{index:05d}.png", frame)
