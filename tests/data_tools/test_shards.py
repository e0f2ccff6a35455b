import json
import tarfile
from dataclasses import replace

import pytest

from data_tools.shards import ShardOptions, write_shards
from t2v.data.manifest import ClipRow
from t2v.errors import InputError


@pytest.fixture
def rows(tmp_path):
    rows = []
    for i in range(7):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]) * 1000)
        rows.append(ClipRow(f"id{i}", f"{i}.mp4", end=2.0, caption="naïve" if i == 2 else None))
    rows[5].error = "broken"
    rows[6].extra["filtered"] = "dull"
    return rows


def test_shards_hold_clip_row_and_caption(tmp_path, rows):
    index = write_shards(rows, tmp_path, tmp_path / "out", ShardOptions(max_clips=2))
    assert [shard["num_clips"] for shard in index["shards"]] == [2, 2, 1] and index["num_clips"] == 5
    assert json.loads((tmp_path / "out/index.json").read_text()) == index and index["seconds"] == 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"00000{i}.tar" for i in range(3)),
        "index.json",
    ]
    with tarfile.open(tmp_path / "out/000001.tar") as tar:
        assert tar.getnames() == ["id2.mp4", "id2.json", "id2.txt", "id3.mp4", "id3.json"]
        assert tar.extractfile("id2.mp4").read() == bytes([2]) * 1000
        assert json.load(tar.extractfile("id2.json"))["clip_id"] == "id2"
        assert tar.extractfile("id2.txt").read().decode() == "naïve"


def test_a_full_shard_is_closed(tmp_path, rows):
    index = write_shards(rows, tmp_path, tmp_path / "out", ShardOptions(max_megabytes=0.0025))
    assert [shard["num_clips"] for shard in index["shards"]] == [2, 2, 1]
    index = write_shards(rows, tmp_path, tmp_path / "out", ShardOptions(max_megabytes=1e-6), overwrite=True)
    assert [shard["num_clips"] for shard in index["shards"]] == [1] * 5


def test_equal_clips_give_equal_bytes_and_old_shards_go(tmp_path, rows):
    first = write_shards(rows, tmp_path, tmp_path / "out", ShardOptions(max_clips=1))
    assert write_shards(rows, tmp_path, tmp_path / "out", ShardOptions(max_clips=1), overwrite=True) == first
    write_shards(rows, tmp_path, tmp_path / "out", ShardOptions(), overwrite=True)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1


def test_a_folder_without_index_was_not_finished(tmp_path, rows):
    write_shards(rows, tmp_path, tmp_path / "out", ShardOptions())
    with pytest.raises(InputError, match="holds shards already"):
        write_shards(rows, tmp_path, tmp_path / "out", ShardOptions())
    (tmp_path / "out/index.json").unlink()
    write_shards(rows, tmp_path, tmp_path / "out", ShardOptions())


def test_parts_of_files_are_refused(tmp_path, rows):
    for parts in ([replace(rows[0], start=1.0)], [rows[0], replace(rows[0], clip_id="other")]):
        with pytest.raises(InputError, match="t2v-data cut"):
            write_shards(parts, tmp_path, tmp_path / "out", ShardOptions())


def test_a_missing_clip_is_named(tmp_path, rows):
    (tmp_path / "3.mp4").unlink()
    with pytest.raises(InputError, match=r"cannot read .*3\.mp4"):
        write_shards(rows, tmp_path, tmp_path / "out", ShardOptions())
    assert not (tmp_path / "out/index.json").exists()


def test_one_clip_twice_is_packed_once(tmp_path, rows):
    index = write_shards([rows[0], rows[0]], tmp_path, tmp_path / "out", ShardOptions())
    assert index["num_clips"] == 1
    with pytest.raises(InputError, match="at least a clip"):
        ShardOptions(max_clips=0).check()
