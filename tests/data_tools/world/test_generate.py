import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data_tools.world import generate
from data_tools.world.actors import DEFAULT_FONT, FontGlyphs
from data_tools.world.generate import WorldConfig, generate_board, generate_clips, generate_images, write_sprites
from data_tools.world.world import is_held_out
from t2v.data.manifest import read_manifest
from t2v.data.video_io import VideoReader
from t2v.errors import InputError
from t2v.evaluation.board import BoardData


def _config(folder, num, **changes):
    return WorldConfig(folder, num, size=64, num_backgrounds=2, **changes)


def _contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def test_generate_images_writes_captioned_stills_and_a_manifest(tmp_path, glyphs):
    done = []
    folder = generate_images(_config(tmp_path / "images", 6), glyphs, done.append)
    rows = read_manifest(folder)
    assert sum(done) == len(rows) == 6
    for row in rows:
        assert np.asarray(Image.open(folder / row.path)).shape == (64, 64, 3)
        assert (row.width, row.height, row.num_frames, row.codec, row.extra) == (64, 64, 1, "png", {})
        assert row.caption and row.fps is None
    assert len({row.clip_id for row in rows}) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_generate_images_item_depends_on_seed_and_number_only(tmp_path, glyphs):
    first = _contents(generate_images(_config(tmp_path / "a", 3), glyphs))
    longer = _contents(generate_images(_config(tmp_path / "b", 5), glyphs))
    other = _contents(generate_images(_config(tmp_path / "c", 3, seed=1), glyphs))
    for name in ("0000/0000000.png", "0000/0000001.png", "0000/0000002.png"):
        assert first[name] == longer[name] != other[name]
    assert first["manifest.parquet"] != longer["manifest.parquet"]


@pytest.mark.skipif(not DEFAULT_FONT.is_file(), reason=f"{DEFAULT_FONT} is not installed")
def test_generate_images_is_the_same_for_any_number_of_workers(tmp_path):
    one = _contents(generate_images(_config(tmp_path / "one", 20), FontGlyphs()))
    two = _contents(generate_images(_config(tmp_path / "two", 20, workers=2), FontGlyphs()))
    assert one == two


def test_generate_images_fills_folders_of_limited_size(tmp_path, glyphs, monkeypatch):
    monkeypatch.setattr(generate, "_PER_FOLDER", 2)
    rows = read_manifest(generate_images(_config(tmp_path / "images", 5), glyphs))
    assert [row.path.split("/")[0] for row in rows] == ["0000", "0000", "0001", "0001", "0002"]


def test_generate_clips_writes_unlabeled_video(tmp_path, glyphs):
    folder = generate_clips(_config(tmp_path / "clips", 2, captions=False), glyphs)
    for row in read_manifest(folder):
        assert row.caption is None and row.extra == {}
        assert row.fps == 24 and row.fps_rational == "24/1" and 4 <= row.end <= 6
        with VideoReader(folder / row.path) as reader:
            assert (reader.num_frames, reader.fps) == (row.num_frames, 24)
            assert (reader.info.width, reader.info.height) == (64, 64)
            keys = reader._source._index.keys
        assert np.diff([pts for pts, _ in keys]).max() <= 16 * reader._source._index.times[1]


def test_generate_clips_labels_give_the_true_path(tmp_path, glyphs):
    folder = generate_clips(_config(tmp_path / "clips", 3, labels=True, held_out=True), glyphs)
    for row in read_manifest(folder):
        assert row.caption and is_held_out(row.extra["actor"], row.extra["scene"])
        path = json.loads(row.extra["actor_path"])
        assert {len(path[name]) for name in ("x", "y", "angle", "turn")} == {row.num_frames}
        with VideoReader(folder / row.path) as reader:
            frames = reader.frames([0, row.num_frames // 2]).astype(int)
        for frame, index in zip(frames, (0, row.num_frames // 2), strict=True):
            x, y = round(path["x"][index]), round(path["y"][index])
            assert frame[y, x, 1] - frame[y, x, 0] > 120, "the green actor is not at its path"


def test_generate_clips_is_repeatable(tmp_path, glyphs):
    clips = [_contents(generate_clips(_config(tmp_path / name, 1), glyphs)) for name in "ab"]
    assert clips[0] == clips[1]


def test_generate_refuses_a_folder_with_files_unless_told(tmp_path, glyphs):
    folder = generate_images(_config(tmp_path / "images", 2), glyphs)
    with pytest.raises(InputError, match=r"not empty.*--overwrite"):
        generate_images(_config(folder, 1), glyphs)
    assert len(read_manifest(folder)) == 2
    generate_images(_config(folder, 1, overwrite=True), glyphs)
    assert len(read_manifest(folder)) == 1


def test_generate_never_replaces_a_folder_it_did_not_make(tmp_path, glyphs):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        generate_images(_config(tmp_path, 1, overwrite=True), glyphs)
    assert (tmp_path / "keep.txt").read_text() == "mine"


def test_generate_leaves_nothing_behind_when_it_fails(tmp_path, glyphs):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_images(_config(tmp_path / "images", 3), glyphs, stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num": 0}, "num must be at least 1, got 0"),
        ({"size": 65}, "even"),
        ({"workers": 0}, "workers"),
        ({"preset": "tiny"}, "small, large"),
    ],
)
def test_generate_refuses_senseless_values(tmp_path, glyphs, changes, message):
    with pytest.raises(InputError, match=message):
        generate_images(replace(_config(tmp_path / "x", 1), **changes), glyphs)
    assert not list(tmp_path.iterdir())


def test_write_sprites_gives_each_actor_alone(tmp_path, glyphs):
    folder = write_sprites(tmp_path / "sprites", "small", 128, glyphs)
    index = json.loads((folder / "actors.json").read_text())
    assert len(index) >= 64 and index["rocket"]["facing"] == 1
    sprite = Image.open(folder / index["teddy bear"]["file"])
    assert sprite.mode == "RGBA" and 50 < max(sprite.size) <= 74


def test_generate_board_writes_what_the_scoreboard_reads(tmp_path, glyphs):
    done = []
    config = WorldConfig(tmp_path / "board", 2, size=32, num_backgrounds=1, labels=True)
    data = BoardData.read(generate_board(config, glyphs, done.append), 2)
    assert sum(done) == 8 and len(data.reference) == 4
    assert not any(is_held_out(clip.actor, clip.scene) for clip in data.seen)
    assert all(is_held_out(clip.actor, clip.scene) for clip in (*data.held_out, *data.reference))
    assert {clip.truth for clip in data.held_out}.isdisjoint(clip.truth for clip in data.reference)
    assert all(data.pictures(clip.actor).shape[-1] == 4 for clip in data.seen)
