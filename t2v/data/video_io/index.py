"""Which frames a video stream shows and when: read from its packets, without decoding where these can be trusted.

Frame counts in container headers are often missing or wrong, variable frame rates make index / fps wrong, edit lists
hide frames; presentation times of the packets are right in all these cases.
"""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np

from t2v.data.video_io.info import VideoInfo
from t2v.errors import InputError


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Times of the frames in the order they are shown, in units of `time_base` seconds."""

    time_base: Fraction
    start: int | None  # pts of the first frame; None where the decoder reports none that can be trusted
    times: np.ndarray  # int64 (F,): of the frames from the first, starting at 0
    last_duration: int
    keys: list[tuple[int, int]]  # (pts, place to seek to) of the key frames, ascending
    num_hidden: int = 0  # frames in the file that are never shown

    @classmethod
    def steady(cls, rate: Fraction, num_frames: int) -> "FrameIndex":
        """Frames that follow each other at a rate, without times of their own."""
        return cls(1 / rate, None, np.arange(num_frames), 1, [])

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray:
        """From the first frame to each: float64 (F,)."""
        return self.times * float(self.time_base)

    def pts(self, frame: int) -> int:
        """The time of a frame as the decoder reports it."""
        assert self.start is not None, "frames without times are counted"
        return self.start + int(self.times[frame])

    def key_before(self, pts: int) -> tuple[int, int]:
        """The last key frame shown at or before pts; the start where there is none."""
        assert self.start is not None
        place = bisect_right(self.keys, pts, key=lambda key: key[0])
        return self.keys[place - 1] if place else (self.start, self.start)


@dataclass(frozen=True, eq=False)
class IndexedVideo:
    """What opening a video teaches, so that the next reader need not learn it again."""

    info: VideoInfo
    index: FrameIndex


class _Packet(NamedTuple):
    """What the index needs of a packet; the packets themselves are the size of the file."""

    pts: int | None
    seek: int | None  # where a seek finds it: some formats look for its decoding time, some for its presentation time
    duration: int
    is_key: bool
    is_shown: bool


def index_frames(container: av.container.InputContainer, stream: av.VideoStream) -> FrameIndex:
    """Read the index of a freshly opened stream; leaves it at its end.

    Packets that edit lists discard and VP8's invisible reference frames are left out. AVI has no presentation times, so
    it is decoded once instead, as is any file whose packets lack times.
    """
    packets = [_summary(packet, stream) for packet in container.demux(stream) if packet.size]
    shown = [packet for packet in packets if packet.is_shown]
    times = {packet.pts: packet for packet in shown if packet.pts is not None}
    if len(times) != len(shown) or "avi" in container.format.name:
        return _index_by_decoding(container, stream)
    assert stream.time_base is not None, "packets with times have a time base"
    pts = sorted(times)
    if not pts:
        raise InputError("no frames in it")
    last = times[pts[-1]].duration or _usual_step(pts, stream)
    keys = [(p.pts, p.seek) for p in packets if p.is_key and p.pts is not None and p.seek is not None]
    num_hidden = len(packets) - len(shown)
    return FrameIndex(stream.time_base, pts[0], np.array(pts) - pts[0], last, sorted(keys), num_hidden)


def _summary(packet: av.Packet, stream: av.VideoStream) -> _Packet:
    known = [time for time in (packet.pts, packet.dts) if time is not None]
    is_shown = not packet.is_discard and not _is_invisible(packet, stream)
    return _Packet(packet.pts, min(known, default=None), packet.duration or 0, packet.is_keyframe, is_shown)


def _is_invisible(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether a VP8 packet is only a reference for others: bit 4 of the frame tag, show_frame (RFC 6386, 9.1)."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


def _usual_step(pts: list[int], stream: av.VideoStream) -> int:
    """The median time between frames, or one frame of the stream's rate where there is a single frame."""
    steps = sorted(after - before for before, after in pairwise(pts))
    if steps:
        return steps[len(steps) // 2]
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    assert stream.time_base is not None
    return round(1 / (rate * stream.time_base))


def _index_by_decoding(container: av.container.InputContainer, stream: av.VideoStream) -> FrameIndex:
    """Count frames by decoding them all; their times are taken from the stream's rate."""
    container.seek(0)
    count = sum(1 for _ in container.decode(stream))
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise InputError("neither its packets nor its header tell when frames are shown")
    if not count:
        raise InputError("no frames in it")
    return FrameIndex.steady(rate, count)
