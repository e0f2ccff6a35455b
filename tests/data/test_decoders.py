"""decord behind the same interface: the same frames, or a refusal."""

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v.data.video_io import ShardMember, VideoReader
from t2v.errors import InputError

DATA = Path(os.environ.get("T2V_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "MANIFEST.csv").is_file(), reason=f"no test media in {DATA}")
Numbered = Callable[..., Path]
Numbers = Callable[[np.ndarray], list[int]]


@pytest.fixture
def decord() -> Any:
    return pytest.importorskip("decord")


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_decord_gives_the_frames_that_are_asked_for(
    decord: Any, tmp_path: Path, numbered: Numbered, numbers: Numbers, name: str
) -> None:
    path = numbered(tmp_path / name, size=(32, 64))
    with VideoReader(path, decoder="decord", size=(32, 16)) as reader:
        frames = reader.frames([11, 3, 3, 7])
        assert frames.shape == (4, 16, 32, 3) and numbers(frames) == [11, 3, 3, 7]
        known = reader.indexed
    with VideoReader(path, decoder="decord", known=known) as reader:
        assert numbers(reader.frames([5])) == [5]


def test_decord_reads_a_member_of_a_tar_file(decord: Any, tmp_path: Path, numbered: Numbered, numbers: Numbers) -> None:
    content = numbered(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "shard").write_bytes(b"before" + content + b"after")
    member = ShardMember(tmp_path / "shard", "a.mp4", 6, len(content))
    for decoder in ("pyav", "decord"):
        with VideoReader(member, decoder=decoder) as reader:  # type: ignore[arg-type]
            assert numbers(reader.frames([4, 9])) == [4, 9]


def test_decord_leaves_folders_of_pictures_to_us(
    decord: Any, tmp_path: Path, numbered: Numbered, numbers: Numbers
) -> None:
    with VideoReader(numbered(tmp_path / "pictures"), decoder="decord", size=(16, 16)) as reader:
        assert numbers(reader.frames([4, 9])) == [4, 9]


REFUSED = {
    "portrait_man_av1.mp4": "cannot be read by decord",
    "bolts.gif": "cannot be read by decord",
    "nasa_13013.mp4": "decord counts 390 frames where 325 are shown",  # two video streams
    "slowmo_floor.mp4": "decord counts 64 frames where 63 are shown",  # an edit list
    "eye_makeup.avi": "decord misreads when its frames are shown",
    "bbb_mpeg2.ts": "decord loses its place",
}


@needs_data
@pytest.mark.parametrize("name", REFUSED)
def test_decord_refuses_what_it_would_read_wrongly(decord: Any, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*{REFUSED[name]}.*use the decoder pyav") as caught:
        VideoReader(DATA / "videos" / name, decoder="decord")
    assert "\n" not in str(caught.value)


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "phone_rot180_vfr.mp4",
        "pen_rot90.mp4",
        "rot_270.mov",
        "asl_book.mkv",
        "bear_vp9_161x121.webm",
        "portrait_man.flv",
    ],
)
def test_decoders_agree_on_real_files(decord: Any, name: str) -> None:
    with VideoReader(DATA / "videos" / name) as ours, VideoReader(DATA / "videos" / name, decoder="decord") as theirs:
        picks = sorted({0, ours.num_frames // 2, ours.num_frames - 1})
        difference = np.abs(ours.frames(picks).astype(int) - theirs.frames(picks)).mean((1, 2, 3))
    assert difference.max() < 1


@needs_data
def test_decord_names_the_frame_that_breaks(decord: Any) -> None:
    with (
        VideoReader(DATA / "broken" / "corrupted_packets.mp4", decoder="decord") as reader,
        pytest.raises(InputError, match=r"corrupted_packets\.mp4: frame \d+ of 50 cannot be decoded by decord"),
    ):
        reader.frames(range(50))


def test_missing_decord_is_named(tmp_path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "decord":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"decord is not installed: pip install 't2v\[decord\]', or use pyav"):
        VideoReader(numbered(tmp_path / "a.mp4"), decoder="decord")


def test_reader_that_knows_the_file_reads_no_packet_too_many(
    tmp_path: Path, numbered: Numbered, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t2v.data.video_io import pyav_file

    for path in (numbered(tmp_path / "a.mp4"), numbered(tmp_path / "pictures")):
        with VideoReader(path) as reader:
            known = reader.indexed
        with monkeypatch.context() as patch:
            patch.setattr(pyav_file, "index_frames", lambda *arguments: pytest.fail("indexed again"))
            with VideoReader(path, known=known, size=(16, 16)) as reader:
                assert numbers(reader.frames([10, 2])) == [10, 2]
