import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2v.data.manifest import ClipRow, write_manifest
from t2v.data.sources import Skipped, Source, find_sources
from t2v.data.video_io import ShardMember, VideoReader
from t2v.errors import InputError

Numbered = Callable[..., Path]


def sources(path: Path) -> list[Source]:
    found = list(find_sources(path))
    assert all(isinstance(source, Source) for source in found)
    return found  # type: ignore[return-value]


def names(path: Path) -> list[str]:
    return [str(source.path).removeprefix(f"{path}/") for source in sources(path)]


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_tree_is_walked_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/z.MKV", "a/notes.txt", "c/deep/x.gif", ".hidden/y.mp4", "._b.mp4", "c/one.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["a/z.MKV", "b.mp4", "c/deep/x.gif"]


def test_tree_has_captions_beside_videos(tmp_path: Path) -> None:
    for name, text in (("a.mp4", b""), ("a.txt", b" a cat\n"), ("b.mp4", b"")):
        (tmp_path / name).write_bytes(text)
    assert [source.caption for source in sources(tmp_path)] == ["a cat", None]


def test_tree_takes_a_folder_of_pictures_as_a_clip(tmp_path: Path, numbered: Numbered) -> None:
    numbered(tmp_path / "shots" / "one")
    (tmp_path / "shots" / "one.txt").write_text("grey")
    numbered(tmp_path / "shots" / "film.mp4")
    (tmp_path / "shots" / "poster1.png").write_bytes((tmp_path / "shots" / "one" / "frame_00000.png").read_bytes())
    (tmp_path / "shots" / "poster2.png").write_bytes((tmp_path / "shots" / "one" / "frame_00000.png").read_bytes())
    assert names(tmp_path) == ["shots/film.mp4", "shots/one"]  # pictures beside a video are no clip
    assert sources(tmp_path)[1].caption == "grey"


def test_tree_does_not_follow_a_link_to_its_parent(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "v.mp4").write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == ["a/v.mp4"]


def test_content_changes_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    before = sources(tmp_path)[0].content
    assert sources(tmp_path)[0].content == before
    (tmp_path / "a.mp4").write_bytes(b"xy")
    assert sources(tmp_path)[0].content != before


@pytest.mark.parametrize("name", ["manifest.parquet", "list.jsonl"])
def test_manifest_gives_stretches_and_captions(tmp_path: Path, name: str) -> None:
    rows = [
        ClipRow("x", "a.mp4", start=0.25, end=0.45, caption="a dog"),
        ClipRow("y", "deep/a.mp4"),
        ClipRow("z", "gone.mp4", error="missing"),
        ClipRow("w", "dull.mp4", extra={"filtered": "static"}),
    ]
    write_manifest(rows, tmp_path / name)
    first, second = sources(tmp_path if name == "manifest.parquet" else tmp_path / name)
    assert first == Source(tmp_path / "a.mp4", "x", "a dog", 0.25, 0.45)
    assert second == Source(tmp_path / "deep/a.mp4", "y")


def test_shard_members_are_read_in_place(
    tmp_path: Path, numbered: Numbered, numbers: Callable[[np.ndarray], list[int]]
) -> None:
    video = numbered(tmp_path / "v.mp4").read_bytes()
    other = numbered(tmp_path / "w.mp4", 5).read_bytes()
    members = {
        "0001.txt": b"first ",
        "0001.mp4": video,
        "0002.mp4": other,
        "0002.json": json.dumps({"caption": "second"}).encode(),
        "dir/3.left.mp4": other,
        "dir/3.txt": b"third",
        "dir/x.jpg": b"picture",
        "dir/4.a.webm": other,
        "dir/4.a.txt": b"fourth",
        "dir/5.mov": other,
    }
    shard = write_tar(tmp_path / "shards.tar", members)
    (tmp_path / "v.mp4").unlink()
    (tmp_path / "w.mp4").unlink()
    found = sources(tmp_path)
    assert found == sources(shard)
    assert [source.caption for source in found] == ["first", "second", "third", "fourth", None]
    member = found[0].path
    assert isinstance(member, ShardMember) and str(member) == f"{shard}/0001.mp4" and member.read() == video
    with VideoReader(member) as reader:
        assert reader.num_frames == 12 and numbers(reader.frames([3, 11])) == [3, 11]
    with VideoReader(found[1].path) as reader:
        assert reader.num_frames == 5


def test_broken_shards_and_captions_are_skipped_with_the_reason(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"1.mp4": b"x", "2.mp4": b"y", "2.json": b"{no json"})
    (tmp_path / "b.tar").write_bytes(b"no tar file" * 100)
    write_tar(tmp_path / "c.tar", {"1.mp4": b"x"}, "w:gz")
    good, caption, garbage, compressed = find_sources(tmp_path)
    assert isinstance(good, Source) and str(good.path).endswith("a.tar/1.mp4")
    for skipped, words in ((caption, "2.json is no JSON"), (garbage, "b.tar"), (compressed, "uncompressed tar")):
        assert isinstance(skipped, Skipped) and words in skipped.reason and "\n" not in skipped.reason


def test_samples_of_training_runs_are_no_clips(tmp_path: Path, numbered: Numbered) -> None:
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints").mkdir()
    numbered(tmp_path / "run" / "samples" / "samples-00000002.mp4", 2)
    numbered(tmp_path / "b.mp4", 2)
    (tmp_path / "run" / "run.json").write_text("[]")
    assert [source.path.name for source in find_sources(tmp_path)] == ["b.mp4"]


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*nowhere; check the path"):
        list(find_sources(tmp_path / "nowhere"))
