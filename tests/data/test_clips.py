from pathlib import Path

import numpy as np
import pytest

from t2v.data.clips import Clip, find_clips, frame_chunks
from t2v.data.manifest import ClipRow, write_manifest
from t2v.data.video_io import write_video
from t2v.errors import InputError


def clip(timestamps: np.ndarray) -> Clip:
    return Clip(Path("a.mp4"), "content", np.arange(len(timestamps)), timestamps)


def steady(num_frames: int = 48, fps: float = 24.0) -> Clip:
    return clip(np.arange(num_frames) / fps)


def uneven() -> Clip:
    """Frame times with gaps of 20 to 100 ms."""
    gaps = np.random.default_rng(0).uniform(0.02, 0.1, 80)
    return clip(np.concatenate([[0.0], np.cumsum(gaps)]))


def write_numbered(path: Path, num_frames: int = 12, size: tuple[int, int] = (32, 32)) -> None:
    """A video whose frames are grey, 10 levels brighter each time."""
    frames = np.broadcast_to(np.arange(num_frames)[:, None, None, None] * 10 + 20, (num_frames, *size, 3))
    write_video(path, frames.astype(np.uint8), 24)


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


def test_find_clips_walks_a_tree_and_reports_broken_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_numbered(tmp_path / "deep" / "b.mp4")
    write_numbered(tmp_path / "a.gif")
    (tmp_path / "c.mp4").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no video")
    clips, skipped = find_clips(tmp_path)
    assert [found.path.name for found in clips] == ["a.gif", "b.mp4"]
    assert [file.path.name for file in skipped] == ["c.mp4"] and "c.mp4" in skipped[0].reason
    assert len(clips[1].timestamps) == 12 and clips[1].timestamps[-1] == pytest.approx(11 / 24, abs=1e-3)


def test_find_clips_reads_segments_of_a_manifest(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4")
    rows = [
        ClipRow("x", "a.mp4", start=0.25, end=0.45),
        ClipRow("y", "a.mp4"),  # no end: the whole file
        ClipRow("z", "gone.mp4", error="missing"),
    ]
    write_manifest(rows, tmp_path / "manifest.parquet")
    (segment, whole), skipped = find_clips(tmp_path)
    assert segment.frames.tolist() == [6, 7, 8, 9, 10] and segment.timestamps[0] == 0
    assert len(whole.frames) == 12 and not skipped
    pixels = segment.read(32)
    assert np.abs(pixels.mean(axis=(1, 2, 3)) - (np.arange(6, 11) * 10 + 20)).max() < 3


def test_find_clips_refuses_a_place_without_videos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable videos"):
        find_clips(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"unreadable.*a\.mp4"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        find_clips("nowhere")


def test_find_clips_stops_at_max_clips(tmp_path: Path) -> None:
    for name in "abc":
        write_numbered(tmp_path / f"{name}.mp4", 4)
    assert [found.path.stem for found in find_clips(tmp_path, 2)[0]] == ["a", "b"]


def test_frame_chunks_give_all_frames_in_order_and_in_bounds(tmp_path: Path) -> None:
    for name in "ab":
        write_numbered(tmp_path / f"{name}.mp4", size=(40, 64))
    chunks = list(frame_chunks(find_clips(tmp_path)[0], 32, 5))
    assert [chunk.shape for chunk in chunks] == [(5, 32, 32, 3), (5, 32, 32, 3), (2, 32, 32, 3)] * 2
    levels = np.concatenate(chunks).mean(axis=(1, 2, 3))
    assert np.abs(levels - np.tile(np.arange(12) * 10 + 20, 2)).max() < 3
