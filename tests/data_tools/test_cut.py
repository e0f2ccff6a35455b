import shutil
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from data_tools.cut import Cut, CutOptions, repeated, sizes
from data_tools.probe import Probe, bare_rows
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoInfo, VideoReader
from t2v.errors import InputError
from tests.data_tools.media import DATA, counted, counts, encode, needs_data


def _clips(path, *spans):
    """Rows of the frames first..last-1 of a file."""
    (row,) = Probe(path.parent)(bare_rows(path, path.parent))
    with VideoReader(path) as reader:
        times = [*reader.timestamps.tolist(), reader.info.duration]
    return [replace(row, clip_id=f"{a:03d}{b:03d}", start=times[a], end=times[b], num_frames=b - a) for a, b in spans]


def _cut(path, *spans, **options):
    rows = Cut(path.parent, CutOptions(**options))(_clips(path, *spans))
    assert [row.error for row in rows] == [None] * len(rows)
    return rows


def _frames(path, row):
    with VideoReader(path.parent / row.path) as reader:
        return reader.frames(range(reader.num_frames))


IRREGULAR = np.cumsum(np.random.default_rng(0).integers(1, 9, 60)).tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("variable.mkv", {"pts": IRREGULAR, "time_base": Fraction(1, 100)}),
        ("ten_bit.mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
        ("late.ts", {"pts": list(range(90, 150))}),
        ("old.avi", {"codec": "mpeg4"}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
    ],
)
def test_clips_begin_and_end_on_the_right_frames(tmp_path, name, options):
    path = encode(tmp_path / name, [counted(i) for i in range(60)], **options)
    for row, (first, last) in zip(_cut(path, (0, 7), (7, 31), (31, 60)), [(0, 7), (7, 31), (31, 60)], strict=True):
        assert counts(_frames(path, row)) == list(range(first, last)) and row.num_frames == last - first


def with_edit_list(source, target, start, end):
    """A copy whose edit list shows frames start..end-1 alone, from the key frame before them."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        step = round(1 / (25 * old.streams.video[0].time_base))
        for packet in old.demux(video=0):
            if packet.pts is not None and packet.pts < end * step:
                packet.pts, packet.dts = packet.pts - start * step, packet.dts - start * step
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.mark.parametrize("start", [13, 17])
def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path, start):
    frames = [counted(i) for i in range(60)]
    path = with_edit_list(encode(tmp_path / "whole.mp4", frames), tmp_path / "edited.mp4", start, 60)
    (probed,) = Probe(tmp_path)(bare_rows(path, tmp_path))
    assert probed.num_frames == 60 - start and probed.extra["hidden_frames"] > 0
    for row, (first, last) in zip(_cut(path, (0, 9), (9, 30)), [(0, 9), (9, 30)], strict=True):
        assert counts(_frames(path, row)) == list(range(start + first, start + last))


def test_times_of_a_variable_rate_are_kept(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(60)], IRREGULAR, time_base=Fraction(1, 100))
    (row,) = _cut(path, (10, 40))
    with VideoReader(tmp_path / row.path) as reader:
        assert reader.timestamps * 100 == pytest.approx(np.array(IRREGULAR[10:40]) - IRREGULAR[10], abs=0.01)
    assert row.extra["is_variable_rate"]


def test_another_rate_shows_what_was_on_screen(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(50)])
    (half,) = _cut(path, (10, 40), fps=12.5)
    assert counts(_frames(path, half)) == list(range(10, 40, 2)) and half.fps == 12.5
    (double,) = _cut(path, (10, 20), fps=50)
    assert counts(_frames(path, double)) == [i for i in range(10, 20) for _ in range(2)]


def test_clips_are_quick_to_seek_in(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(60)])
    (row,) = _cut(path, (5, 60), gop=10)
    with av.open(str(tmp_path / row.path)) as container:
        keys = [packet.pts for packet in container.demux(video=0) if packet.is_keyframe]
    assert len(keys) >= 6


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(None, (97, 51)), ("32", (60, 32)), ("64", (96, 52)), ("40x40", (40, 40)), ("128x20", (128, 20))],
)
def test_odd_sizes_become_what_was_asked_for(tmp_path, wanted, expected):
    path = encode(tmp_path / "a.mp4", [counted(i, 51, 97) for i in range(20)], pix_fmt="yuv444p")
    (row,) = _cut(path, (3, 9), size=wanted)
    assert (row.width, row.height) == tuple(side + side % 2 for side in expected)
    if wanted != "40x40":
        assert counts(_frames(path, row)) == list(range(3, 9))


def test_pixels_become_square():
    info = VideoInfo(10, Fraction(25), 0.4, 720, 576, 0, "h264", pixel_aspect=Fraction(16, 15))
    assert sizes(info, None) == ((768, 576), (768, 576))
    assert sizes(info, "288") == ((384, 288), (384, 288))
    assert sizes(info, "256x256") == ((341, 256), (256, 256))


def test_sound_is_kept_to_the_sample_or_dropped(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(50)], sound=True)
    (silent,) = _cut(path, (10, 30))
    assert silent.extra["audio_codec"] is None
    (row,) = _cut(path, (10, 30), sound=True)
    assert row.extra["audio_codec"] == "aac"
    with av.open(str(tmp_path / row.path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(samples) / 48000 == pytest.approx(0.8, abs=0.05)
    assert samples[4800:33600].std() == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_the_same_clip_gives_the_same_bytes_and_keeps_its_origin(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(30)])
    (first,) = _cut(path, (5, 25))
    content = (tmp_path / first.path).read_bytes()
    (second,) = _cut(path, (5, 25))
    assert second == first and (tmp_path / second.path).read_bytes() == content
    assert first.extra["source_path"] == "a.mp4" and first.extra["source_start"] == pytest.approx(0.2)
    assert first.extra["shot_id"] == "005025" and (first.start, first.codec, first.rotation) == (0.0, "h264", 0)


def test_what_a_killed_run_left_of_a_clip_is_removed(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(30)])
    with monkeypatch.context() as killed:
        killed.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # as kill -9: nothing tidies up
        killed.setattr("os.replace", lambda *_: None)
        with pytest.raises(InputError, match="No such file"):
            _cut(path, (5, 25))
    (torn,) = (tmp_path / "00").iterdir()
    _cut(path, (5, 25))
    assert [file.name for file in (tmp_path / "00").iterdir()] == ["005025.mp4"] and torn.name.startswith(".")


def test_copies_of_a_file_are_cut_at_one_time(tmp_path, monkeypatch):
    """They share clip ids, and so a target: while one is being written, the other one comes and goes."""
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(30)])
    shutil.copy(path, tmp_path / "copy.mp4")
    (row,) = _clips(path, (5, 25))
    others = []

    def interrupted(reader, places):
        monkeypatch.undo()
        yield from repeated(reader, places)
        others.extend(Cut(tmp_path)([replace(row, path="copy.mp4")]))

    monkeypatch.setattr("data_tools.cut.repeated", interrupted)
    (one,), (other,) = Cut(tmp_path)([row]), others
    assert one.error is None
    assert one == replace(other, clip_id=one.clip_id, extra=other.extra | {"source_path": "a.mp4"})
    assert [file.name for file in (tmp_path / "00").iterdir()] == ["005025.mp4"]


def test_a_clip_that_cannot_be_decoded_fails_by_itself(tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i) for i in range(30)])
    rows = [*_clips(path, (5, 25)), ClipRow("late", "a.mp4", start=7.0, end=9.0)]
    good, bad = Cut(tmp_path)(rows)
    assert good.error is None and bad.error == "no frame between 7 s and 9 s"
    assert len(list(tmp_path.rglob("*.mp4"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "big"}, "size is an even short side"),
        ({"size": "255"}, "size is an even short side"),
        ({"fps": 0}, "fps must be above 0"),
        ({"gop": 17}, "gop must be 1 to 16"),
        ({"crf": 60}, "crf must be 0 to 51"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        CutOptions(**options).check()


HARD_SOURCES = (
    "smpte_1080p.mp4 phone_rot180_vfr.mp4 pen_rot90.mp4 bracelet_hevc10_rot90.mp4 no_duration.webm pool_net.mp4 "
    "bear_vp9_161x121.webm testsrc_321x241_444_10bit.mp4 delayed_start.mp4 testsrc_nonzero_start.mp4 bbb_mpeg2.ts "
    "newtonscradle.gif eye_makeup.avi testsrc_av1_10bit.mp4 counter_3colours.mp4"
)


@needs_data
@pytest.mark.parametrize("name", HARD_SOURCES.split())
def test_clips_of_real_videos_hold_the_frames_of_the_source(tmp_path, name):
    """Every frame of the clip is nearest to the frame of the source that it should be, among its neighbours."""
    (tmp_path / name).symlink_to(DATA / "videos" / name)
    path = tmp_path / name
    with VideoReader(path) as reader:
        num = reader.num_frames
    first, last = num // 3, min(num, num // 3 + 12)
    (row,) = _cut(path, (first, last), size="64", crf=4)
    with VideoReader(path, size=(row.width, row.height)) as reader:
        around = range(max(0, first - 2), min(num, last + 2))
        source = reader.frames(around).astype(np.int16)
    clip = _frames(path, row).astype(np.int16)
    assert len(clip) == last - first == row.num_frames
    for place, frame in enumerate(clip, start=first):
        distances = np.abs(source - frame).mean((1, 2, 3))
        assert distances[place - around[0]] <= distances.min() + 0.15, f"frame {place}"
    assert clip.shape[1:3] == (row.height, row.width)
