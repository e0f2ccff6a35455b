"""Encode frames as H.264, AV1, VP9 or, without loss, FFV1.

H.265 is not among them: the x265 that comes with PyAV 18.1 writes beyond its memory on small frames.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from t2v.data.video_io.location import media_url
from t2v.data.video_io.sound import add_sound_track, write_sound
from t2v.errors import InputError

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells of errors alone
_FINE_TIME_BASE = Fraction(1, 90_000)
_YUV = ("yuv420p", "yuv422p", "yuv444p")
# On AVX-512, x264's rate control reads memory that was never written: equal frames gave other bytes one time in four at
# 320 x 240, and never with SSE, in 2% more time.
_X264 = {"x264-params": "asm=sse4.2"} if platform.machine() in ("x86_64", "AMD64") else {}


@dataclass(frozen=True)
class _Codec:
    encoder: str  # FFmpeg's name
    pixel_formats: tuple[str, ...]  # the first is the default
    max_crf: int | None = None  # None: without loss, there is nothing to choose
    settings: dict[str, str] = field(default_factory=dict)
    has_presets: bool = False  # x264's


CODECS = {
    "h264": _Codec("libx264", (*_YUV, "yuv420p10le"), 51, _X264, has_presets=True),
    "av1": _Codec("libsvtav1", ("yuv420p", "yuv420p10le"), 63, {"preset": "8"}),
    "vp9": _Codec("libvpx-vp9", _YUV, 63, {"b": "0", "row-mt": "1", "cpu-used": "4", "deadline": "good"}),
    "ffv1": _Codec("ffv1", ("bgr0", *_YUV), settings={"level": "3"}),
}
CONTAINERS = {".mp4": ("h264", "av1"), ".webm": ("vp9", "av1"), ".mkv": ("ffv1", "h264", "vp9", "av1")}
"""Which codecs a file may hold; the first is the default."""


@dataclass(frozen=True)
class EncodeOptions:
    """How mp4, webm and mkv are compressed; gif, webp and PNG have nothing to choose."""

    crf: int | None = None  # constant quality: lower is better and larger; None is 18
    gop: int = 48  # frames between key frames; <= 16 makes random access fast
    preset: str = "medium"  # x264 speed
    threads: int = 0  # 0: one per core; 1: the same bytes on every machine
    codec: str | None = None  # of CODECS; None: the first of the container
    pixel_format: str | None = None  # FFmpeg's name; None: the first of the codec


@dataclass(frozen=True)
class Content:
    """What goes into a file."""

    frames: Iterator[np.ndarray]
    rate: Fraction
    metadata: dict[str, str]
    times: Sequence[float] | None
    sound: np.ndarray | None


def check_encoding(path: Path, options: EncodeOptions) -> None:
    """Raise InputError for options that the format of `path` does not have, before there are frames."""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        if (options.crf, options.codec, options.pixel_format) != (None, None, None):
            known = ", ".join(CONTAINERS)
            raise InputError(f"{suffix or 'a folder of PNGs'} has no codec, crf or pixel format to choose: use {known}")
        return
    name = options.codec or CONTAINERS[suffix][0]
    if name not in CONTAINERS[suffix]:
        raise InputError(f"a {suffix} holds {', '.join(CONTAINERS[suffix])}, got the codec {name!r}")
    codec = CODECS[name]
    if options.pixel_format not in (None, *codec.pixel_formats):
        raise InputError(f"pixel formats of {name} are {', '.join(codec.pixel_formats)}, got {options.pixel_format!r}")
    if options.crf is None:
        return
    if codec.max_crf is None:
        raise InputError(f"{name} is without loss and has no crf to choose, got {options.crf}")
    if not 0 <= options.crf <= codec.max_crf:
        raise InputError(f"crf of {name} is from 0 (best) to {codec.max_crf}, got {options.crf}")


def encode(target: Path, content: Content, options: EncodeOptions) -> None:
    """Write an mp4, webm or mkv through FFmpeg; YUV is BT.709, limited range, and tagged as such."""
    suffix = target.suffix.lower()
    codec = CODECS[options.codec or CONTAINERS[suffix][0]]
    pixel_format = options.pixel_format or codec.pixel_formats[0]
    shape = _Shape(pixel_format)
    first = shape(next(content.frames))
    container_options = {"fflags": "+bitexact"}  # no random identifiers: equal frames give equal files
    if suffix == ".mp4":
        container_options["movflags"] = "+faststart"
    time_base = 1 / content.rate if content.times is None else _FINE_TIME_BASE
    with av.open(media_url(target), "w", options=container_options) as container:
        container.metadata.update(content.metadata)
        stream = container.add_stream(codec.encoder, rate=content.rate, options=_settings(codec, options))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.gop_size, context.thread_count = options.gop, options.threads
        if shape.is_yuv:
            context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
            context.color_range = 1  # limited
        track = None if content.sound is None else add_sound_track(container, content.sound)
        for index, frame in enumerate(chain([first], content.frames)):
            picture = shape.reformat(shape(frame))
            picture.pts = index if content.times is None else round(content.times[index] / time_base)
            picture.time_base = time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if track is not None and content.sound is not None:
            write_sound(container, track, content.sound)


def _settings(codec: _Codec, options: EncodeOptions) -> dict[str, str]:
    crf = {} if codec.max_crf is None else {"crf": str(18 if options.crf is None else options.crf)}
    preset = {"preset": options.preset} if codec.has_presets else {}
    return {**crf, **preset, **codec.settings}


class _Shape:
    """Frames as a pixel format wants them: even sides where colour is at half the size."""

    def __init__(self, pixel_format: str) -> None:
        self.pixel_format, self.is_yuv = pixel_format, pixel_format.startswith("yuv")
        self.even = [pixel_format.startswith("yuv420"), pixel_format.startswith(("yuv420", "yuv422"))]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The last row or column once more where a side is odd and may not be."""
        more = [(0, side % 2 if even else 0) for side, even in zip(frame.shape[:2], self.even, strict=True)]
        return np.pad(frame, (*more, (0, 0)), mode="edge") if any(pad for _, pad in more) else frame

    def reformat(self, frame: np.ndarray) -> av.VideoFrame:
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        if not self.is_yuv:
            return picture.reformat(format=self.pixel_format)
        return picture.reformat(
            format=self.pixel_format, src_colorspace="ITU709", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
