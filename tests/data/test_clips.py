from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from t2v.data.clips import Clip, Decoding, Window
from t2v.data.video_io import FrameIndex, IndexedVideo, VideoInfo
from t2v.errors import InputError


def clip(timestamps: np.ndarray) -> Clip:
    """A clip of no file, in microseconds."""
    index = FrameIndex(Fraction(1, 1_000_000), 0, np.round(timestamps * 1e6).astype(np.int64), 1, [])
    info = VideoInfo(len(timestamps), Fraction(24), float(timestamps[-1]), 64, 36, 0, "h264")
    return Clip(Path("a.mp4"), "content", IndexedVideo(info, index), np.arange(len(timestamps), dtype=np.int32))


def steady(num_frames: int = 48, fps: float = 24.0) -> Clip:
    return clip(np.arange(num_frames) / fps)


def uneven() -> Clip:
    """Frame times with gaps of 20 to 100 ms."""
    gaps = np.random.default_rng(0).uniform(0.02, 0.1, 80)
    return clip(np.concatenate([[0.0], np.cumsum(gaps)]))


def opened(path: Path) -> Clip:
    with Decoding().open(path) as reader:
        return Clip(path, "content", reader.indexed, np.arange(reader.num_frames, dtype=np.int32))


@pytest.mark.parametrize("make", [steady, uneven])
@pytest.mark.parametrize("start", [0.0, 0.37, 1.0])
def test_sample_never_repeats_a_frame(make: type, start: float) -> None:
    source = make()
    low, high = source.sampling_bounds(16)
    for fps in np.linspace(low, high, 9):
        places = source.sample(16, float(fps), start)
        assert (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] < len(source.timestamps)


def test_sample_takes_the_frames_nearest_in_true_time() -> None:
    source = uneven()
    places = source.sample(8, 3.0, 0.5)
    times = source.timestamps[places[0]] + np.arange(8) / 3
    ideal = 0.5 * (source.timestamps[-1] - 7 / 3) + np.arange(8) / 3
    nearest = np.abs(source.timestamps[:, None] - ideal).argmin(axis=0)
    assert places.tolist() == nearest.tolist()
    assert np.abs(source.timestamps[places] - times).max() <= 0.1


def test_sample_spans_the_clip_from_start_to_end() -> None:
    assert steady().sample(4, 6.0, 0.0).tolist() == [0, 4, 8, 12]
    assert steady().sample(4, 6.0, 1.0).tolist() == [35, 39, 43, 47]
    assert steady(16).sample(16, 24.0 * (1 - 1e-6), 0.3).tolist() == list(range(16))


def test_sampling_bounds_of_steady_and_uneven_clips() -> None:
    low, high = steady().sampling_bounds(16)
    assert low == pytest.approx(15 / (47 / 24)) and high == pytest.approx(24, rel=1e-5)
    assert uneven().sampling_bounds(16)[1] == pytest.approx(1 / np.diff(uneven().timestamps).max(), rel=1e-5)
    low, high = clip(np.zeros(1)).sampling_bounds(2)
    assert low > high  # a single frame is no clip


def test_thinned_keeps_true_times() -> None:
    thin = steady().thinned(8.0)
    assert thin.frames.tolist() == list(range(0, 48, 3))
    assert np.array_equal(thin.timestamps, steady().timestamps[thin.frames])
    assert steady().thinned(None).frames.tolist() == steady().thinned(240.0).frames.tolist() == list(range(48))


def test_between_takes_the_frames_shown_in_a_stretch_of_time() -> None:
    segment = steady().between(0.25, 0.45)
    assert segment.frames.tolist() == [6, 7, 8, 9, 10] and segment.timestamps[0] == 0
    assert segment.thinned(12.0).frames.tolist() == [6, 8, 10]
    with pytest.raises(InputError, match=r"no frame between 7 s and 8 s"):
        steady().between(7, 8)


def test_read_gives_the_frames_of_a_stretch(
    tmp_path: Path, numbered: Callable[..., Path], numbers: Callable[[np.ndarray], list[int]]
) -> None:
    segment = opened(numbered(tmp_path / "a.mp4", size=(48, 64))).between(0.25, 10)
    pixels = segment.read(np.array([0, 2, 5]), Window((32, 32)), Decoding())
    assert pixels.shape == (3, 32, 32, 3) and pixels.dtype == np.uint8
    assert numbers(pixels) == [6, 8, 11]


def test_read_cuts_and_flips_a_window(tmp_path: Path) -> None:
    """A ramp from left to right: the place of the cut and its direction can be read off."""
    from t2v.data.video_io import write_video

    ramp = np.broadcast_to(np.arange(0, 240, 2)[None, None, :, None], (2, 40, 120, 3)).astype(np.uint8)
    source = opened(write_video(tmp_path / "folder", ramp, 24))
    first, second = np.array([0]), np.array([0, 1])
    centre = source.read(second, Window((40, 40)), Decoding())
    assert centre.shape == (2, 40, 40, 3) and centre[0, 0, 0, 0] == 80
    left, right = (source.read(first, Window((40, 40), (0.5, x)), Decoding())[0, 0, :, 0] for x in (0.0, 0.9999))
    assert left.tolist() == list(range(0, 80, 2)) and right.tolist() == list(range(160, 240, 2))
    flipped = source.read(first, Window((40, 40), (0.5, 0.0), flip=True), Decoding())[0, 0, :, 0]
    assert flipped.tolist() == left.tolist()[::-1]


def test_read_shows_wide_pixels_as_they_are_meant() -> None:
    info = VideoInfo(10, Fraction(24), 1.0, 100, 100, 0, "h264", pixel_aspect=Fraction(4, 3))
    wide = Clip(Path("a.mp4"), "", IndexedVideo(info, FrameIndex.steady(Fraction(24), 10)), np.arange(10))
    assert wide.aspect == pytest.approx(4 / 3)
