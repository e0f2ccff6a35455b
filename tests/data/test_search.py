import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2v.data import search
from t2v.data.clips import Decoding
from t2v.data.manifest import ClipRow, write_manifest
from t2v.data.search import find_clips
from t2v.data.video_io import VideoReader
from t2v.errors import InputError

Numbered = Callable[..., Path]


def test_find_clips_opens_a_tree_and_reports_broken_files(tmp_path: Path, numbered: Numbered) -> None:
    numbered(tmp_path / "deep" / "b.mp4")
    (tmp_path / "deep" / "b.txt").write_text("levels of grey")
    numbered(tmp_path / "a.gif")
    numbered(tmp_path / "pictures", 5)
    (tmp_path / "c.mp4").write_bytes(b"broken")
    found = find_clips(tmp_path, Decoding(sequence_fps=10))
    assert [str(clip.path.relative_to(tmp_path)) for clip in found.clips] == ["a.gif", "deep/b.mp4", "pictures"]
    assert [skipped.path.name for skipped in found.skipped] == ["c.mp4"] and "c.mp4" in found.skipped[0].reason
    _, video, pictures = found.clips
    assert video.timestamps == pytest.approx(np.arange(12) / 24, abs=1e-3) and video.caption == "levels of grey"
    assert pictures.timestamps == pytest.approx(np.arange(5) / 10)


def test_find_clips_opens_a_file_once_for_all_its_stretches(
    tmp_path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered(tmp_path / "a.mp4")
    rows = [ClipRow("x", "a.mp4", start=0.25, end=0.45), ClipRow("y", "a.mp4"), ClipRow("z", "a.mp4", start=9, end=10)]
    write_manifest(rows, tmp_path / "manifest.parquet")
    opened = _count_openings(monkeypatch)
    found = find_clips(tmp_path, Decoding())
    assert len(opened) == 1
    assert [clip.frames.tolist() for clip in found.clips] == [[6, 7, 8, 9, 10], list(range(12))]
    assert "no frame between 9" in found.skipped[0].reason


def _count_openings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    opened: list[Path] = []
    original = Decoding.open

    def counted(self: Decoding, path: Path, *arguments: object) -> VideoReader:
        opened.append(path)
        return original(self, path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoding, "open", counted)
    return opened


def test_find_clips_knows_unchanged_files_the_next_time(
    tmp_path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, index_file = tmp_path / "data", tmp_path / "indices.parquet"
    for name in ("a.mp4", "b.webm", "c.gif"):
        numbered(data / name)
    numbered(data / "d")
    first = find_clips(data, Decoding(), index_file=index_file).clips
    opened = _count_openings(monkeypatch)
    second = find_clips(data, Decoding(), index_file=index_file).clips
    assert not opened
    for one, other in zip(first, second, strict=True):
        assert one.video.info == other.video.info
        assert vars(one.video.index) | {"times": 0} == vars(other.video.index) | {"times": 0}
        assert np.array_equal(one.timestamps, other.timestamps)
    numbered(tmp_path / "new.mp4", 7).replace(data / "a.mp4")
    assert len(find_clips(data, Decoding(), index_file=index_file).clips[0].frames) == 7
    assert opened == [data / "a.mp4"]
    index_file.write_bytes(b"broken")
    assert len(find_clips(data, Decoding(), index_file=index_file).clips) == 4


def test_find_clips_stops_at_max_clips(tmp_path: Path, numbered: Numbered) -> None:
    for name in "abc":
        numbered(tmp_path / f"{name}.mp4", 4)
    assert [clip.path.stem for clip in find_clips(tmp_path, Decoding(), max_clips=2).clips] == ["a", "b"]


def test_find_clips_gives_up_a_file_that_does_not_answer(
    tmp_path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered(tmp_path / "a.mp4", 4)
    numbered(tmp_path / "b.mp4", 4)
    original = search.Indices._index

    opened = []

    def hang(self: search.Indices, path: Path) -> object:
        opened.append(path.stem)
        if path.name == "a.mp4":
            time.sleep(5)
        return original(self, path)

    monkeypatch.setattr(search.Indices, "_index", hang)
    index_file = tmp_path / "indices.parquet"
    for timeout, tried in ((0.5, ["a", "b"]), (0.5, []), (0.3, []), (0.6, ["a"])):  # again only with more patience
        opened.clear()
        found = find_clips(tmp_path, Decoding(), timeout=timeout, index_file=index_file)
        assert sorted(opened) == tried
        assert [clip.path.stem for clip in found.clips] == ["b"]
        assert "a.mp4: no answer of the decoder in 0." in found.skipped[0].reason


def test_find_clips_refuses_a_place_without_videos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable videos"):
        find_clips(tmp_path, Decoding())
    (tmp_path / "a.mp4").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"unreadable.*a\.mp4"):
        find_clips(tmp_path, Decoding())
