from hashlib import sha256

import numpy as np
import pytest

from t2v.data.video_io import CODECS, EncodeOptions, VideoReader, probe, read_frames, write_video
from t2v.data.video_io.encoding import CONTAINERS

CASES = [
    (suffix, codec, pixel_format)
    for suffix, codecs in CONTAINERS.items()
    for codec in codecs
    for pixel_format in CODECS[codec].pixel_formats
]


@pytest.mark.parametrize(("suffix", "codec", "pixel_format"), CASES)
def test_every_codec_and_pixel_format_is_read_back(tmp_path, suffix, codec, pixel_format):
    y, x = np.mgrid[:33, :41]
    frames = (
        np.stack([np.stack([6 * x, 7 * y, 3 * (x + y) + 5 * k], -1) for k in range(6)]).clip(0, 255).astype(np.uint8)
    )
    options = EncodeOptions(codec=codec, pixel_format=pixel_format, threads=1)
    path = write_video(tmp_path / f"a{suffix}", frames, 8, options=options)
    info, read = probe(path), read_frames(path)
    assert (info.num_frames, info.fps, info.pixel_format) == (6, 8, pixel_format)
    assert info.codec == codec
    height = 34 if "420" in pixel_format else 33
    assert read.shape == (6, height, 42 if pixel_format.startswith(("yuv420", "yuv422")) else 41, 3)
    assert np.abs(read[:, :33, :41].astype(int) - frames).mean() < 4


def test_ffv1_keeps_every_pixel(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 33, 41, 3), np.uint8)
    assert np.array_equal(read_frames(write_video(tmp_path / "a.mkv", frames, 24)), frames)


def test_equal_frames_give_equal_bytes(tmp_path):
    """What was decoded before fills the memory that x264 is given; on AVX-512 the file depended on it."""
    barcodes = np.repeat(255 * (np.arange(30)[:, None] >> np.arange(8) & 1).astype(np.uint8), 40, axis=1)
    frames = np.broadcast_to(barcodes[:, None, :, None], (30, 240, 320, 3))
    source = write_video(tmp_path / "source.mp4", frames, 25, options=EncodeOptions(crf=12, gop=12, preset="veryfast"))
    options = EncodeOptions(gop=16, preset="veryfast", threads=1)
    digests = set()
    for _ in range(60):
        with VideoReader(source, threads=1) as reader:
            decoded = (reader.frames([place])[0] for place in range(5, 25))
            path = write_video(tmp_path / "a.mp4", decoded, 25, overwrite=True, options=options)
        digests.add(sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_lower_crf_is_nearer(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    errors = []
    for crf in (0, 30):
        path = write_video(tmp_path / f"{crf}.mp4", frames, 8, options=EncodeOptions(crf=crf, pixel_format="yuv444p"))
        errors.append(np.abs(read_frames(path).astype(int) - frames).mean())
    assert errors[0] < 2 < 10 < errors[1]
