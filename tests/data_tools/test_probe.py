import os
from pathlib import Path

import pytest

from data_tools.executors.isolated import Limits, run_isolated
from data_tools.probe import Probe, bare_rows
from data_tools.stage import group_by_file
from t2v.errors import InputError
from tests.data_tools.media import DATA, listed, needs_data

BROKEN = {
    "audio_only.mp3": "no video stream",
    "audio_only_opus.mp4": "no video stream",
    "chunk_out_of_range.mp4": "damaged, encrypted or no video",
    "corrupted_packets.mp4": "frame 28 of 50 cannot be decoded",
    "crash_4163.gif": "ends before the first frame",
    "encrypted_clearkey.mp4": "damaged, encrypted or no video",
    "header_only_5544frames.mp4": "no frames in it",
    "invalid_vp9_bitstream.webm": "damaged, encrypted or no video",
    "no_timescale.mp4": "frame 8 of 182 cannot be decoded",
    "subtitle_only.mkv": "no video stream",
    "tiny_1x1_noframes.avi": "no frame decodes",
    "tiny_no_streams.mp4": "no video stream",
    "tiny_noframes.gif": "no frame decodes",
    "tiny_unopenable.flv": "ends before the first frame",
    "truncated.jpg": "damaged, encrypted or no video",
    "ts_0x0.ts": "no frames in it",
    "zero_bytes.webm": "the file is empty",
}
# The list has the header's rate; the rate of the frames is another. Three files count frames that nobody sees.
WRONG_HEADER_RATE = {
    "bolts.gif": 14.98,
    "classroom.gif": 15.0,
    "man_head_turns.gif": 12.02,
    "parking_car.gif": 12.02,
    "newtonscradle.gif": 43.9,
    "portrait_man.flv": 29.99,
    "slowmo_floor.mp4": 30.0,
    "asl_brother.mkv": 29.55,
    "bbb_mpeg2.ts": 23.2,
}
# The list has the format of the pictures without the layer that lies beside them.
ALPHA_LAYER = {"transparent.webm": "yuva420p", "no_duration.webm": "yuva420p"}


def _probe(source, root, decode=False):
    groups = group_by_file(bare_rows(source, root))
    results = run_isolated(Probe(root, decode), groups, 2, Limits())
    return {Path(row.path).name: row for _, (row,) in results}


@needs_data
def test_probe_is_right_about_all_real_videos():
    rows = _probe(DATA / "videos", DATA)
    expected = {Path(entry["file"]).name: entry for entry in listed("videos/")}
    assert rows.keys() == expected.keys()
    for name, entry in expected.items():
        row = rows[name]
        rotation = -int(entry["rotation"]) % 360
        size = (int(entry["width"]), int(entry["height"]))
        assert row.error is None and row.num_frames == int(entry["frames"]), name
        assert row.rotation == rotation and (row.width, row.height) == (size[::-1] if rotation % 180 else size), name
        assert row.fps == pytest.approx(WRONG_HEADER_RATE.get(name, float(entry["fps"])), rel=0.003), name
        assert row.codec == entry["codec"] and entry["container"] in row.extra["container"], name
        if entry["pix_fmt"] not in ("yuva420p", "bgra"):
            assert row.extra["pixel_format"] == ALPHA_LAYER.get(name, entry["pix_fmt"]), name
        assert row.extra["sha256"] == entry["sha256"], name
    assert {name for name, row in rows.items() if row.extra["is_variable_rate"]} >= {"phone_rot180_vfr.mp4"}
    assert rows["cockatoo.mp4"].extra["audio_codec"] and rows["bear_vp9.webm"].extra["audio_codec"] is None


@needs_data
def test_probe_names_the_reason_for_every_broken_file():
    rows = _probe(DATA / "broken", DATA, decode=True)
    assert rows.keys() == {Path(entry["file"]).name for entry in listed("broken/")}
    assert {name for name, row in rows.items() if row.error} == BROKEN.keys()
    for name, reason in BROKEN.items():
        assert reason in rows[name].error and "\n" not in rows[name].error and str(DATA) not in rows[name].error
    for entry in listed("broken/"):
        row = rows[Path(entry["file"]).name]
        if not row.error and entry["frames"]:
            assert row.num_frames == int(entry["frames"]) and row.width == int(entry["width"])


def test_bare_rows_are_the_files_of_a_tree(tmp_path):
    for name in ("b.mp4", "sub/a.MOV", "noext", "notes.txt", ".hidden.mp4", ".git/x.mp4", "a.SRT"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [row.path for row in bare_rows(tmp_path, tmp_path)] == ["b.mp4", "noext", "sub/a.MOV"]
    assert [row.path for row in bare_rows(tmp_path / "sub", tmp_path / "out")] == ["../sub/a.MOV"]
    assert [row.path for row in bare_rows(tmp_path / "b.mp4", tmp_path)] == ["b.mp4"]


def test_a_text_of_the_same_name_is_the_caption(tmp_path):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("a cat\n on the beach\n")
    (tmp_path / "b.txt").write_text(" ")
    assert [row.caption for row in bare_rows(tmp_path, tmp_path)] == ["a cat on the beach", None, None]


def test_a_changed_file_has_another_identity(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"1")
    (before,) = bare_rows(tmp_path, tmp_path)
    assert bare_rows(tmp_path, tmp_path) == [before]
    os.utime(tmp_path / "a.mp4", ns=(1, 1))
    assert bare_rows(tmp_path, tmp_path)[0].clip_id != before.clip_id


def test_a_name_that_is_not_text_is_reported(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
    (row,) = bare_rows(tmp_path, tmp_path)
    assert row.path == r"\xff.mp4" and "not UTF-8" in row.error


def test_nothing_to_probe_is_refused(tmp_path):
    with pytest.raises(InputError, match="no files in"):
        bare_rows(tmp_path, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        bare_rows(tmp_path / "none", tmp_path)


@needs_data
def test_only_decoding_finds_what_packets_hide():
    path = DATA / "broken/corrupted_packets.mp4"
    assert _probe(path, DATA)[path.name].error is None
    assert _probe(path, DATA, decode=True)[path.name].error
