import json

import pyarrow.parquet as pq
import pytest

from t2v.data.manifest import COLUMNS, ClipRow, append_rows, read_manifest, write_manifest
from t2v.errors import InputError

ROWS = [
    ClipRow(
        "a1",
        "clips/a.mp4",
        start=0.5,
        end=2.5,
        num_frames=48,
        fps=24000 / 1001,
        fps_rational="24000/1001",
        width=320,
        height=240,
        rotation=90,
        codec="h264",
        caption='a "cat", naïve\n喵',
    ),
    ClipRow("b2", "b.mp4", error="no video stream", extra={"score_motion": 0.25, "actor": "cat"}),
]


@pytest.mark.parametrize("name", ["m.parquet", "m.jsonl"])
def test_write_then_read_gives_the_same_rows(tmp_path, name):
    write_manifest(ROWS, tmp_path / name)
    rows = read_manifest(tmp_path / name)
    for row, expected in zip(rows, ROWS, strict=True):
        extra = {key: value for key, value in row.extra.items() if value is not None}
        assert {**row.to_dict(), **dict.fromkeys(row.extra)} == {**expected.to_dict(), **dict.fromkeys(row.extra)}
        assert extra == expected.extra
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("error", "extra", "usable"), [(None, {}, True), ("broken", {}, False), (None, {"filtered": "too short"}, False)]
)
def test_failed_and_filtered_rows_are_not_usable(error, extra, usable):
    assert ClipRow("a", "a.mp4", error=error, extra=extra).is_usable == usable


def test_columns_are_those_of_the_design():
    assert (
        *("clip_id", "path", "start", "end", "num_frames", "fps", "fps_rational", "width", "height"),
        *("rotation", "codec", "caption", "error"),
    ) == COLUMNS


def test_write_keeps_column_types_where_all_values_are_missing(tmp_path):
    write_manifest([ClipRow("a", "a.png")], tmp_path / "m.parquet")
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "m.parquet")}
    assert types["caption"] == types["error"] == "string" and types["fps"] == "double"


def test_write_no_rows_makes_an_empty_manifest(tmp_path):
    write_manifest([], tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet") == []


def test_write_refuses_an_extra_column_that_repeats_the_schema(tmp_path):
    with pytest.raises(AssertionError):
        write_manifest([ClipRow("a", "a.png", extra={"width": 3})], tmp_path / "m.parquet")
    assert not list(tmp_path.iterdir())


def test_read_takes_the_folder_of_a_manifest(tmp_path):
    write_manifest(ROWS, tmp_path / "manifest.parquet")
    assert len(read_manifest(tmp_path)) == 2


def test_append_rows_adds_to_the_ledger(tmp_path):
    ledger = tmp_path / "work.jsonl"
    for row in ROWS:
        append_rows([row], ledger)
    assert read_manifest(ledger) == ROWS


def test_read_leaves_out_a_line_cut_off_by_a_crash(tmp_path):
    ledger = tmp_path / "work.jsonl"
    append_rows(ROWS, ledger)
    text = ledger.read_text()
    ledger.write_text(text[:-20])
    assert read_manifest(ledger) == ROWS[:1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", "{}\nnot json\n", "no clip_id"),
        ("m.jsonl", json.dumps({"clip_id": "a", "path": "b"}) + "\n{broken\n", "line 2 is no JSON"),
        ("m.jsonl", '{"clip_id": "a"}\n', "no path"),
        ("m.parquet", "garbage", "cannot be read as Parquet"),
        ("m.csv", "a,b\n", "a .parquet or .jsonl file, got m.csv"),
    ],
)
def test_read_refuses_broken_manifests(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / name)


def test_read_missing_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match="not found"):
        read_manifest(tmp_path)


def test_write_refuses_other_formats(tmp_path):
    with pytest.raises(InputError, match=r"got m\.csv"):
        write_manifest(ROWS, tmp_path / "m.csv")
