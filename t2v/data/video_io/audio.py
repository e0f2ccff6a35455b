"""The sound of one video beside the pictures of another: copied as it is, or stretched to another duration."""

import os
import secrets
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from t2v.data.video_io.info import VideoInfo
from t2v.data.video_io.location import media_url
from t2v.data.video_io.sound import SOUND_RATE, read_sound
from t2v.errors import InputError

# Codecs that a container can hold, by FFmpeg's names.
AUDIO_CODECS: dict[str, tuple[str, ...]] = {
    ".mp4": ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"),
    ".webm": ("opus", "vorbis"),
    ".mkv": ("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "alac", "flac", "pcm_s16le"),
}
_ENCODERS = {".mp4": "aac", ".webm": "libopus", ".mkv": "flac"}  # of stretched sound
_BLOCK_SECONDS = 10  # of sound in memory
_LEAD_OUT = 1  # second more of sound than is needed, which the filters hold back
_SLOWEST = Fraction(1, 2)  # tempo of one filter


def can_hold_audio(path: Path, info: VideoInfo) -> bool:
    """Whether a file of this name can hold the sound of a video, as it is."""
    return info.audio_codec in AUDIO_CODECS.get(path.suffix.lower(), ())


def can_stretch_audio(path: Path) -> bool:
    """Whether a file of this name can hold stretched sound."""
    return path.suffix.lower() in _ENCODERS


def add_audio(video: Path, source: Path, stretch: Fraction | None = None) -> None:
    """Add the first audio stream of `source` to `video`, in step with its pictures.

    The file is replaced when all is written.

    Args:
        stretch: the sound lasts so many times as long, at the same pitch, and is compressed anew; None copies it.

    Raises:
        InputError: a file cannot be read or written.
    """
    target = video.with_name(f".{video.stem}-{secrets.token_hex(4)}{video.suffix}")
    try:
        _mux(video, source, target, stretch)
        os.replace(target, video)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"the sound of {source} cannot be taken over ({error.strerror}); use --audio none") from error
    finally:
        target.unlink(missing_ok=True)


def _mux(video: Path, source: Path, target: Path, stretch: Fraction | None) -> None:
    options = {"movflags": "+faststart"} if target.suffix.lower() == ".mp4" else {}
    with (
        av.open(media_url(video)) as pictures,
        av.open(media_url(source), metadata_errors="ignore") as sound,
        av.open(media_url(target), "w", options=options) as out,
    ):
        out.metadata.update(pictures.metadata)
        shown = sound.streams.video[0]
        first_picture = (shown.start_time or 0) * (shown.time_base or Fraction(0))
        video_in, audio_in = pictures.streams.video[0], sound.streams.audio[0]
        video_out = out.add_stream_from_template(video_in)
        packets: Iterator[av.Packet]
        if stretch is None:
            audio_out = out.add_stream_from_template(audio_in)
            assert audio_in.time_base is not None
            ticks, packets = round(first_picture / audio_in.time_base), iter(sound.demux(audio_in))
        else:
            layout = "mono" if audio_in.channels == 1 else "stereo"
            audio_out = out.add_stream(_ENCODERS[target.suffix.lower()], rate=SOUND_RATE, layout=layout)
            seconds = Fraction(pictures.duration or 0, av.time_base)
            end = first_picture + seconds / stretch + _LEAD_OUT
            stretched = _stretched(_blocks(source, first_picture, end), stretch, layout)
            ticks, packets = 0, _encoded(_cut_off(stretched, round(seconds * SOUND_RATE)), audio_out)
        _interleave(out, [iter(pictures.demux(video_in)), packets], [video_out, audio_out], [0, ticks])


def _blocks(source: Path, start: Fraction, end: Fraction) -> Iterator[np.ndarray]:
    """The sound of a file from `start` to `end` seconds in pieces."""
    while start < end:
        until = min(start + _BLOCK_SECONDS, end)
        piece = read_sound(source, float(start), float(until))
        assert piece is not None, "there is an audio stream"
        yield piece
        start = until


def _stretched(blocks: Iterator[np.ndarray], stretch: Fraction, layout: str) -> Iterator[av.AudioFrame]:
    """Sound (channels, samples) that lasts `stretch` times as long, at the same pitch."""
    tempos, rest = [], 1 / stretch
    while rest < _SLOWEST:
        tempos.append(_SLOWEST)
        rest /= _SLOWEST
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=SOUND_RATE, layout=layout, time_base=Fraction(1, SOUND_RATE))
    filters = [graph.add("atempo", f"{float(tempo):.9f}") for tempo in [*tempos, rest]]
    graph.link_nodes(source, *filters, graph.add("abuffersink")).configure()
    place = 0
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = SOUND_RATE, place
        place += frame.samples
        graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _cut_off(frames: Iterator[av.AudioFrame], num_samples: int) -> Iterator[av.AudioFrame]:
    """The first `num_samples` samples, with times of their own."""
    place = 0
    for frame in frames:
        samples = frame.to_ndarray()[:, : num_samples - place]
        if samples.shape[1]:
            piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", frame.layout.name)
            piece.sample_rate, piece.pts, piece.time_base = SOUND_RATE, place, Fraction(1, SOUND_RATE)
            place += piece.samples
            yield piece


def _pulled(graph: "av.filter.Graph") -> Iterator[av.AudioFrame]:
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):
            return


def _encoded(frames: Iterator[av.AudioFrame], stream: av.AudioStream) -> Iterator[av.Packet]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _interleave(
    out: av.container.OutputContainer,
    sources: list[Iterator[av.Packet]],
    streams: list[av.stream.Stream],
    shifts: list[int],
) -> None:
    """Write packets of several sources in the order of their times."""
    heads = [_next(source) for source in sources]
    while any(head is not None for head in heads):
        packet, place = min(
            ((head, index) for index, head in enumerate(heads) if head is not None), key=lambda pair: _due(pair[0])
        )
        if packet.dts is not None:
            packet.dts -= shifts[place]
        packet.pts -= shifts[place]
        packet.stream = streams[place]
        out.mux(packet)
        heads[place] = _next(sources[place])


def _next(packets: "Iterator[av.Packet]") -> "av.Packet | None":
    """The next packet with content; demuxing ends with an empty one."""
    return next((packet for packet in packets if packet.size), None)


def _due(packet: "av.Packet") -> Fraction:
    """When a packet is decoded; Matroska does not say it of the first ones."""
    return Fraction(-1) if packet.dts is None else packet.dts * packet.time_base
