import re
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

pytest.importorskip("scenedetect", reason="needs the extra curate")

from data_tools.analysis import Watched
from data_tools.cut import Cut
from data_tools.probe import Probe, bare_rows
from data_tools.score import Score
from data_tools.shots import Transition
from data_tools.split import Split, SplitOptions, clip_rows, with_cuts
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoInfo
from t2v.errors import InputError
from tests.data_tools.edits import painted_shot
from tests.data_tools.media import counted, encode

ROW = ClipRow("file", "a.mp4", end=10.0, num_frames=100, fps=10.0)
TIMES = np.arange(100) / 10
INFO = VideoInfo(100, Fraction(10), 10.0, 64, 48, 0, "h264")
WATCHED = Watched(INFO, TIMES, 10.0)


def _spans(rows):
    return [(row.extra["start_frame"], row.num_frames, row.start, row.end) for row in rows]


def _probed(path):
    return Probe(path.parent)(bare_rows(path, path.parent))


def test_clip_rows_hold_times_exact_to_the_frame():
    rows = clip_rows(ROW, WATCHED, [Transition(30, 30, "cut"), Transition(50, 60, "fade")], SplitOptions())
    assert _spans(rows) == [(0, 30, 0.0, 3.0), (30, 20, 3.0, 5.0), (60, 40, 6.0, 10.0)]
    for row in rows:
        inside = (row.start <= TIMES) & (row.end > TIMES)
        assert inside.sum() == row.num_frames and inside.argmax() == row.extra["start_frame"]
        assert row.extra["source_id"] == "file"
    assert len({row.clip_id for row in rows}) == 3


def test_short_shots_are_filtered_and_not_failed():
    rows = clip_rows(ROW, WATCHED, [Transition(5, 5, "cut")], SplitOptions())
    assert [row.extra.get("filtered") for row in rows] == ["shorter than 1 s", None]
    assert all(row.error is None for row in rows)


def test_long_shots_become_equal_pieces():
    rows = clip_rows(ROW, WATCHED, [], SplitOptions(max_seconds=3))
    assert [row.num_frames for row in rows] == [25] * 4
    assert max(row.end - row.start for row in rows) <= 3
    assert [row.end for row in rows[:-1]] == [row.start for row in rows[1:]]


def test_a_file_without_shots_keeps_its_row():
    (row,) = clip_rows(ROW, WATCHED, [Transition(0, 100, "fade")], SplitOptions())
    assert row.extra["filtered"] == "nothing but transitions in it" and row.clip_id == "file"


@pytest.mark.parametrize(("least", "most"), [(2, 1), (-1, 5)])
def test_lengths_that_make_no_sense_are_refused(least, most):
    with pytest.raises(InputError, match="clips last between"):
        SplitOptions(min_seconds=least, max_seconds=most).check()


def test_split_finds_the_cut_of_a_file_with_a_variable_rate(tmp_path):
    rng = np.random.default_rng(0)
    frames = painted_shot(rng, 40) + painted_shot(rng, 40)
    times = np.cumsum(rng.integers(1, 4, 80)).tolist()
    path = encode(tmp_path / "a.mp4", frames, times, time_base=Fraction(1, 50))
    first, second = Split(tmp_path, SplitOptions(min_seconds=0.1))(_probed(path))
    assert second.start == first.end == pytest.approx((times[40] - times[0]) / 50)
    assert (first.num_frames, second.num_frames) == (40, 40)


def damaged(path, frame):
    """Overwrite the data from a key frame on with what no decoder takes."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pts * p.time_base >= frame / 25]
    content = bytearray(path.read_bytes())
    for place, size in packets:
        content[place : place + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def test_a_file_that_breaks_in_mid_way_gives_its_shots_up_to_there(tmp_path):
    rng = np.random.default_rng(0)
    path = damaged(encode(tmp_path / "a.mp4", painted_shot(rng, 30) + painted_shot(rng, 30)), 48)
    *good, rest = Split(tmp_path, SplitOptions(min_seconds=0.1))(_probed(path))
    (broken,) = map(int, re.findall(r"frame (\d+) of 60 cannot be decoded", rest.error))
    assert 44 <= broken <= 48  # some before it are still in the decoder
    assert _spans(good) == [(0, 30, 0.0, 1.2), (30, broken - 30, 1.2, broken / 25)]
    assert all(row.is_usable for row in good)
    assert (rest.start, rest.end, rest.num_frames) == (broken / 25, 2.4, 60 - broken)
    whole = replace(good[0], clip_id="whole", end=2.4, num_frames=60)
    scored = Score(tmp_path)([*good, whole])
    assert [row.error for row in scored] == [None, None, rest.error] and "score_motion" in scored[1].extra
    first, second, third = Cut(tmp_path)([*good, whole])
    assert (first.num_frames, second.num_frames) == (30, broken - 30) and rest.error in third.error


def test_cuts_of_a_list_are_taken_as_they_are(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(75)])
    (tmp_path / "cuts.csv").write_text("path,seconds\na.mp4,1.0\na.mp4,2.0\n")
    rows = with_cuts(_probed(path), tmp_path / "cuts.csv", tmp_path)
    assert [row.num_frames for row in Split(tmp_path)(rows)] == [25, 25, 25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,seconds\nb.mp4,1\n", "not in the manifest"),
        ("path,seconds\na.mp4,one\n", "columns path,seconds; check line 2"),
        ("file,second\na.mp4,1\n", "columns path,seconds"),
        ("seconds\n1\n", "needs the columns path,seconds"),
    ],
)
def test_lists_of_cuts_that_cannot_be_used_are_refused(tmp_path, text, message):
    (tmp_path / "cuts.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        with_cuts([ROW], tmp_path / "cuts.csv", tmp_path)
