"""The sound of one video beside the pictures of another, copied as it is."""

import os
import secrets
from pathlib import Path

import av

from t2v.data.video_io.info import VideoInfo
from t2v.data.video_io.location import media_url
from t2v.errors import InputError

# Codecs that a container can hold, by FFmpeg's names.
AUDIO_CODECS: dict[str, tuple[str, ...]] = {
    ".mp4": ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"),
    ".webm": ("opus", "vorbis"),
}


def can_hold_audio(path: Path, info: VideoInfo) -> bool:
    """Whether a file of this name can hold the sound of a video, as it is."""
    return info.audio_codec in AUDIO_CODECS.get(path.suffix.lower(), ())


def add_audio(video: Path, source: Path) -> None:
    """Add the first audio stream of `source` to `video`, in step with its pictures; nothing is compressed anew.

    The file is replaced when all is written.

    Raises:
        InputError: a file cannot be read or written.
    """
    target = video.with_name(f".{video.stem}-{secrets.token_hex(4)}{video.suffix}")
    try:
        _mux(video, source, target)
        os.replace(target, video)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"the sound of {source} cannot be copied ({error.strerror}); use --no-audio") from error
    finally:
        target.unlink(missing_ok=True)


def _mux(video: Path, source: Path, target: Path) -> None:
    options = {"movflags": "+faststart"} if target.suffix.lower() == ".mp4" else {}
    with (
        av.open(media_url(video)) as pictures,
        av.open(media_url(source), metadata_errors="ignore") as sound,
        av.open(media_url(target), "w", options=options) as out,
    ):
        out.metadata.update(pictures.metadata)
        first_picture = sound.streams.video[0].start_time or 0
        shift = first_picture * (sound.streams.video[0].time_base or 0)
        video_in, audio_in = pictures.streams.video[0], sound.streams.audio[0]
        video_out = out.add_stream_from_template(video_in)
        audio_out = out.add_stream_from_template(audio_in)
        assert audio_in.time_base is not None
        ticks = round(shift / audio_in.time_base)
        packets = [iter(pictures.demux(video_in)), iter(sound.demux(audio_in))]
        _interleave(out, packets, [video_out, audio_out], [0, ticks])


def _interleave(
    out: av.container.OutputContainer,
    sources: list["av.packet.Packet"],
    streams: list[av.stream.Stream],
    shifts: list[int],
) -> None:
    """Write packets of several sources in the order of their times."""
    heads = [_next(source) for source in sources]
    while any(head is not None for head in heads):
        place = min(
            (index for index, head in enumerate(heads) if head is not None),
            key=lambda index: heads[index].dts * heads[index].time_base,  # type: ignore[union-attr]
        )
        packet = heads[place]
        assert packet is not None
        packet.dts -= shifts[place]
        packet.pts -= shifts[place]
        packet.stream = streams[place]
        out.mux(packet)
        heads[place] = _next(sources[place])


def _next(packets: "av.packet.Packet") -> "av.Packet | None":
    """The next packet with content; demuxing ends with an empty one."""
    return next((packet for packet in packets if packet.dts is not None), None)
