"""Write frames as mp4, webm, gif, webp or a folder of PNGs, whole or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np

from t2v.data.video_io.location import media_url
from t2v.data.video_io.sound import add_sound_track, write_sound
from t2v.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".webm", ".gif", ".webp")
_GIF_TICK = 10  # milliseconds: a GIF counts its frame durations in hundredths of a second
_MAX_GIF_RATE = 50  # browsers slow down frames shorter than two ticks
_FINE_TIME_BASE = Fraction(1, 90_000)
_FRAME_NAME = re.compile(r"frame_\d+\.png")


@dataclass(frozen=True)
class EncodeOptions:
    """How mp4 and webm are compressed; gif, webp and PNG have nothing to choose."""

    crf: int = 18  # constant quality: lower is better and larger
    gop: int = 48  # frames between key frames; <= 16 makes random access fast
    preset: str = "medium"  # x264 speed
    threads: int = 0  # 0: one per core; 1: the same bytes on every machine


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
    """Write a video in the format of its extension: .mp4, .webm, .gif, .webp, or none for a folder of PNGs.

    mp4 is H.264, yuv420p, BT.709, playable before it is fully loaded; webm is VP9. Both need even sides: an odd side
    grows by one pixel, a copy of the last column or row. gif and webp loop for ever; gif durations are hundredths of a
    second, and their rounding errors do not add up.

    Args:
        path: must not exist unless `overwrite`; its folder must exist. A folder that holds other files than frames is
            never overwritten.
        frames: uint8 (F, H, W, 3), or an iterable of (H, W, 3), consumed one frame at a time (gif and webp keep all).
            PNGs may have alpha, (H, W, 4).
        fps: frames per second, > 0.
        metadata: container tags, for mp4 and webm; mp4 keeps the common ones (title, comment, artist, ...) alone.
        times: when each frame is shown, seconds from 0, ascending, for a variable rate in mp4 and webm; `fps` is then
            the mean rate.
        sound: of an mp4, float32 (channels, samples) in -1..1 at SOUND_RATE, 1 or 2 channels; it becomes AAC.

    Raises:
        InputError: the path cannot be written, or its extension is unknown; nothing is left behind.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    check_rate(path, fps)
    rate = Fraction(fps).limit_denominator(100_000)
    assert sound is None or path.suffix.lower() == ".mp4", "only mp4 is written with sound"
    assert times is None or path.suffix.lower() in (".mp4", ".webm"), "only mp4 and webm have a variable rate"
    frames = _checked(frames, (3,) if path.suffix else (3, 4))
    content = _Content(frames, rate, metadata or {}, times, sound)
    target = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        target.touch() if path.suffix else target.mkdir()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        match path.suffix.lower():
            case ".mp4":
                _encode_mp4(target, content, options or EncodeOptions())
            case ".webm":
                _encode_webm(target, content, options or EncodeOptions())
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


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeat the last row or column where a side is odd: 4:2:0 video has even sides only."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame


@dataclass(frozen=True)
class _Content:
    """What goes into an mp4 or webm."""

    frames: Iterator[np.ndarray]
    rate: Fraction
    metadata: dict[str, str]
    times: Sequence[float] | None
    sound: np.ndarray | None


def _encode_mp4(target: Path, content: _Content, options: EncodeOptions) -> None:
    settings = {"crf": str(options.crf), "preset": options.preset, "movflags": "+faststart"}
    _encode(target, content, options, "libx264", settings)


def _encode_webm(target: Path, content: _Content, options: EncodeOptions) -> None:
    settings = {"crf": str(options.crf), "b": "0", "row-mt": "1", "cpu-used": "4", "deadline": "good"}
    _encode(target, content, options, "libvpx-vp9", settings)


def _encode(target: Path, content: _Content, options: EncodeOptions, codec: str, settings: dict[str, str]) -> None:
    """Encode through FFmpeg, in BT.709 and tagged as such."""
    first = _even(next(content.frames))
    container_options = {"fflags": "+bitexact"}  # no random identifiers: equal frames give equal files
    if "movflags" in settings:
        container_options["movflags"] = settings.pop("movflags")
    time_base = 1 / content.rate if content.times is None else _FINE_TIME_BASE
    with av.open(media_url(target), "w", options=container_options) as container:
        container.metadata.update(content.metadata)
        stream = container.add_stream(codec, rate=content.rate, options=settings)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.gop_size, context.thread_count = options.gop, options.threads
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1  # limited
        track = None if content.sound is None else add_sound_track(container, content.sound)
        for index, frame in enumerate(chain([first], content.frames)):
            picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
            picture = picture.reformat(
                format="yuv420p", src_colorspace="ITU709", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            picture.pts = index if content.times is None else round(content.times[index] / time_base)
            picture.time_base = time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if track is not None and content.sound is not None:
            write_sound(container, track, content.sound)


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
