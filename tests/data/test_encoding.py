import numpy as np
import pytest

from t2v.data.video_io import CODECS, EncodeOptions, probe, read_frames, write_video
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


def test_lower_crf_is_nearer(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    errors = []
    for crf in (0, 30):
        path = write_video(tmp_path / f"{crf}.mp4", frames, 8, options=EncodeOptions(crf=crf, pixel_format="yuv444p"))
        errors.append(np.abs(read_frames(path).astype(int) - frames).mean())
    assert errors[0] < 2 < 10 < errors[1]
