"""The sound of a stretch of video, exact to the sample, and its way into an mp4."""

from pathlib import Path

import av
import numpy as np

from t2v.data.video_io.location import media_url
from t2v.errors import InputError

SOUND_RATE = 48_000  # samples per second
_LEAD = 1.0  # seconds that decoding begins early: codecs need what came before
_BLOCK = 1024  # samples of an AAC frame


def read_sound(path: Path, start: float, end: float) -> np.ndarray | None:
    """The first audio stream from `start` to `end`, silence where it has nothing; None where there is no such stream.

    Args:
        start: seconds on the file's own clock, that of presentation times.

    Returns:
        float32 (channels, samples) at SOUND_RATE, 1 or 2 channels.

    Raises:
        InputError: the sound cannot be decoded.
    """
    try:
        with av.open(media_url(path), metadata_errors="ignore") as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            layout = "mono" if stream.channels == 1 else "stereo"
            sound = np.zeros((1 if layout == "mono" else 2, round((end - start) * SOUND_RATE)), np.float32)
            container.seek(max(0, int((start - _LEAD) * av.time_base)), backward=True)
            _fill(sound, container, stream, layout, start)
            return sound
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the sound cannot be decoded ({reason})") from error


def _fill(
    sound: np.ndarray, container: av.container.InputContainer, stream: av.AudioStream, layout: str, start: float
) -> None:
    """Put decoded samples where their times say; the first frame's time is trusted, the others follow it."""
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=SOUND_RATE)
    place = None
    for frame in container.decode(stream):
        if place is None:
            place = round((float(frame.time or 0.0) - start) * SOUND_RATE)
        for piece in resampler.resample(frame):
            _paste(sound, piece.to_ndarray(), place)
            place += piece.samples
        if place > sound.shape[1]:
            return


def _paste(sound: np.ndarray, samples: np.ndarray, place: int) -> None:
    first, last = max(0, place), min(sound.shape[1], place + samples.shape[1])
    if last > first:
        sound[:, first:last] = samples[:, first - place : last - place]


def add_sound_track(container: av.container.OutputContainer, sound: np.ndarray) -> av.AudioStream:
    """An AAC stream for such sound."""
    stream: av.AudioStream = container.add_stream("aac", rate=SOUND_RATE, layout=_layout(sound))
    return stream


def write_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    """Encode all of it."""
    for place in range(0, sound.shape[1], _BLOCK):
        samples = np.ascontiguousarray(sound[:, place : place + _BLOCK])
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=_layout(sound))
        frame.sample_rate, frame.pts = SOUND_RATE, place
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _layout(sound: np.ndarray) -> str:
    return "mono" if len(sound) == 1 else "stereo"
