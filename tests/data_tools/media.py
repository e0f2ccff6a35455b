"""Small videos whose frames can be told apart, and where the real ones lie."""

import csv
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

DATA = Path(os.environ.get("T2V_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "MANIFEST.csv").is_file(), reason=f"no test media in {DATA}")


def listed(folder: str) -> list[dict[str, str]]:
    """Rows of the list of test media; none where there are none."""
    if not (DATA / "MANIFEST.csv").is_file():
        return []
    with (DATA / "MANIFEST.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["file"].startswith(folder)]


def counted(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame `index` as eight black or white columns, its binary digits: survives any coding and scaling."""
    digits = [255 * (index >> place & 1) for place in range(8)]
    columns = np.repeat(np.array(digits, np.uint8), -(-width // 8))[:width]
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def counts(frames: np.ndarray) -> list[int]:
    """The indices that `counted` frames show."""
    width = frames.shape[2]
    middles = [int((place + 0.5) * width / 8) for place in range(8)]
    bright = frames[:, frames.shape[1] // 2, middles].mean(-1) > 128
    return [sum(1 << place for place, bit in enumerate(row) if bit) for row in bright]


def encode(
    path: Path,
    frames: list[np.ndarray],
    pts: list[int] | None = None,
    codec: str = "libx264",
    time_base: Fraction = Fraction(1, 25),
    pix_fmt: str = "yuv420p",
    sound: bool = False,
) -> Path:
    """A video of `frames` shown at `pts`, 25 a second by default, with a tone if `sound`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2", "crf": "12", "preset": "veryfast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = pix_fmt, time_base, time_base
        stream.codec_context.gop_size = 12
        tone = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts[index] if pts else index, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            samples = np.sin(np.arange(len(frames) * 640) * 0.2).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(tone.encode(frame))
            container.mux(tone.encode(None))
    return path
