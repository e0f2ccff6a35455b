import csv
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from t2v.data.video_io import VideoReader, check_output, check_rate, probe, read_frames, write_video
from t2v.data.video_io.pyav_file import to_rgb
from t2v.errors import InputError

DATA = Path(os.environ.get("T2V_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "MANIFEST.csv").is_file(), reason=f"no test media in {DATA}")


def _listed(folder):
    if not (DATA / "MANIFEST.csv").is_file():
        return []
    with (DATA / "MANIFEST.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["file"].startswith(folder)]


def _gradient(num_frames=10, height=48, width=64):
    """A smooth picture that slides; frame i can be told from its neighbours after lossy coding."""
    y, x = np.mgrid[:height, :width]
    frames = [np.stack([(x * 3 + 18 * i) % 256 // 2 + 60, y * 3 + 40, 0 * x + 12 * i], -1) for i in range(num_frames)]
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def _encode(path, pts, codec="libx264", time_base=Fraction(1, 600), gop=4, **options):
    """A video whose frame i has gray level 10 + 9 i, shown at pts[i]."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"bf": "2", **options})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuv420p", time_base
        stream.codec_context.time_base, stream.codec_context.gop_size = time_base, gop
        for index, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 + 9 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _levels(frames):
    """Which frames of `_encode` these are."""
    return np.round((frames.reshape(len(frames), -1).mean(1) - 10) / 9).astype(int).tolist()


# --- reading


@needs_data
@pytest.mark.parametrize("row", _listed("videos/"), ids=lambda row: Path(row["file"]).name)
def test_reader_agrees_with_sequential_decoding_on_real_files(row):
    path = DATA / row["file"]
    with VideoReader(path) as reader:
        info = reader.info
        assert info.num_frames == int(row["frames"])
        assert info.rotation == -int(row["rotation"]) % 360
        stored = (int(row["width"]), int(row["height"]))
        assert (info.width, info.height) == (stored[::-1] if info.rotation % 180 else stored)
        assert len(reader.timestamps) == info.num_frames and reader.timestamps[0] == 0
        assert (np.diff(reader.timestamps) > 0).all() and reader.timestamps[-1] < info.duration
        picks = sorted({0, info.num_frames // 3, min(24, info.num_frames - 1)})
        last_to_first = reader.frames(picks[::-1])[::-1]
    expected = {}
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in picks:
                expected[index] = np.rot90(to_rgb(frame), -info.rotation // 90)
            if index == picks[-1]:
                break
    for index, frame in zip(picks, last_to_first, strict=True):
        assert np.array_equal(frame, expected[index]), f"frame {index} is another"


# The rate in the list is the header's; for these files it is not the rate of the frames.
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


@needs_data
@pytest.mark.parametrize("row", _listed("videos/"), ids=lambda row: Path(row["file"]).name)
def test_probe_measures_the_rate_of_real_files(row):
    expected = WRONG_HEADER_RATE.get(Path(row["file"]).name, float(row["fps"]))
    assert float(probe(DATA / row["file"]).fps) == pytest.approx(expected, rel=0.003)


@needs_data
def test_probe_keeps_exact_nominal_rates():
    assert probe(DATA / "videos/moonwalk.mp4").fps == Fraction(24000, 1001)
    assert probe(DATA / "videos/bear_vp9.webm").fps_rational == "30000/1001"
    assert probe(DATA / "videos/phone_rot180_vfr.mp4").is_variable_rate
    assert not probe(DATA / "videos/bear_vp9.webm").is_variable_rate
    assert probe(DATA / "videos/pool_net.mp4").pixel_aspect != 1


@pytest.mark.parametrize(
    ("matrix", "rotation", "bright"),
    [((0, 1, -1, 0), 90, "top"), ((-1, 0, 0, -1), 180, "right"), ((0, -1, 1, 0), 270, "bottom")],
    ids=["90", "180", "270"],
)
def test_reader_turns_frames_upright(tmp_path, matrix, rotation, bright):
    """A matrix (a, b, c, d) as phones write it into the track header; the stored picture is bright on the left."""
    video = np.zeros((2, 32, 64, 3), np.uint8)
    video[:, :, :32] = 255
    path = write_video(tmp_path / "a.mp4", video, 8)

    def packed(a, b, c, d):
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    data = path.read_bytes()
    header = data.index(b"tkhd")
    place = data.index(packed(1, 0, 0, 1), header)
    path.write_bytes(data[:place] + packed(*matrix) + data[place + 36 :])
    with VideoReader(path) as reader:
        assert reader.info.rotation == rotation
        frame = reader.frames([0])[0]
    assert frame.shape == ((64, 32, 3) if rotation % 180 else (32, 64, 3))
    assert (reader.info.height, reader.info.width) == frame.shape[:2]
    half = {"top": frame[:28], "right": frame[:, 36:], "bottom": frame[36:]}[bright]
    assert half.min() > 200 and frame.mean() < 150


UNREADABLE = (
    "audio_only.mp3 audio_only_opus.mp4 chunk_out_of_range.mp4 crash_4163.gif encrypted_clearkey.mp4 "
    "header_only_5544frames.mp4 invalid_vp9_bitstream.webm subtitle_only.mkv tiny_1x1_noframes.avi tiny_no_streams.mp4 "
    "tiny_noframes.gif tiny_unopenable.flv truncated.jpg ts_0x0.ts zero_bytes.webm"
)


@needs_data
@pytest.mark.parametrize("name", UNREADABLE.split())
def test_reader_refuses_broken_files_with_a_reason(name):
    with pytest.raises(InputError, match=rf"{name} cannot be read as video \(.+\)") as caught:
        VideoReader(DATA / "broken" / name)
    assert "Errno" not in str(caught.value) and "\n" not in str(caught.value)


@needs_data
def test_reader_reads_up_to_the_broken_frame():
    with VideoReader(DATA / "broken/corrupted_packets.mp4") as reader:
        assert reader.frames([0, 20]).shape[0] == 2
        with pytest.raises(InputError, match="frame 40 of 50 cannot be decoded"):
            reader.frames([40])
        assert reader.frames([5]).shape[0] == 1


@needs_data
@pytest.mark.parametrize(
    ("name", "num_frames"),
    [
        ("-leading-dash-1x1.mp4", 5),
        ("bad_metadata_encoding.3gp", 71),
        ("one_frame_1x1.gif", 1),
        ("mdat_too_long.mp4", 30),
    ],
)
def test_reader_reads_odd_but_valid_files(name, num_frames):
    assert len(read_frames(DATA / "broken" / name)) == num_frames


VARIABLE_PTS = [0, 20, 30, 90, 91, 130, 220, 240, 260, 300, 390, 400, 410, 500, 560]


def test_reader_variable_rate_keeps_true_times(tmp_path):
    path = _encode(tmp_path / "vfr.mp4", VARIABLE_PTS)
    with VideoReader(path) as reader:
        assert reader.timestamps * 600 == pytest.approx(VARIABLE_PTS)
        assert reader.info.is_variable_rate
        assert _levels(reader.frames_at([0.0, 19 / 600, 91 / 600, 299 / 600, 560 / 600])) == [0, 0, 4, 8, 14]
        order = [14, 3, 3, 0, 9, 8]
        assert _levels(reader.frames(order)) == order


def test_reader_scales_upright_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", _gradient(3), 8)
    with VideoReader(path, size=(32, 12)) as reader:
        frames = reader.frames([0, 2])
        assert (reader.info.width, reader.info.height) == (64, 48)
    assert frames.shape == (2, 12, 32, 3)
    averages = read_frames(path, [0, 2]).reshape(2, 12, 4, 32, 2, 3).mean((2, 4))
    assert np.abs(frames - averages).mean() < 3


def test_reader_scales_a_folder_of_pictures(tmp_path):
    write_video(tmp_path / "folder", _gradient(3), 8)
    with VideoReader(tmp_path / "folder", size=(32, 12)) as reader:
        assert reader.frames([1]).shape == (1, 12, 32, 3)


def test_probe_tells_format_and_sound(tmp_path):
    info = probe(write_video(tmp_path / "a.mp4", _gradient(3), 8))
    assert info.pixel_format == "yuv420p" and "mp4" in info.container and info.audio_codec is None
    assert info.hidden_frames == 0


@needs_data
def test_reader_scales_rotated_frames():
    with VideoReader(DATA / "videos/pen_rot90.mp4", size=(36, 44)) as reader:
        assert reader.info.rotation % 180 == 90 and reader.frames([0]).shape == (1, 44, 36, 3)
    assert probe(DATA / "videos/cockatoo.mp4").audio_codec == "mp3"
    assert probe(DATA / "videos/crystal_flower.webm").container == "matroska,webm"


def test_reader_leaves_out_frames_hidden_by_an_edit_list(tmp_path):
    """Cutting 5 frames into a group of pictures keeps them in the file, marked as discarded."""
    source = _encode(tmp_path / "whole.mp4", range(0, 400, 20), gop=10)
    with av.open(str(source)) as container, av.open(str(tmp_path / "cut.mp4"), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        start = VideoReader(source).timestamps[5]
        for packet in container.demux(stream):
            if packet.size:
                offset = round(start / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, copy
                output.mux(packet)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        stream = container.streams.video[0]
        assert any(packet.is_discard for packet in container.demux(stream)), "the file has no edit list to test"
    with VideoReader(tmp_path / "cut.mp4") as reader:
        assert reader.num_frames == 15 and reader.info.hidden_frames == 5
        assert _levels(reader.frames([0, 1, 7, 14])) == [5, 6, 12, 19]


def test_reader_does_not_count_invisible_vp8_frames(tmp_path):
    source = _encode(tmp_path / "shown.webm", range(0, 400, 20), "libvpx", Fraction(1, 1000), gop=30, **{"bf": "0"})
    hidden = tmp_path / "hidden.webm"
    with av.open(str(source)) as container, av.open(str(hidden), "w") as output:
        copy = output.add_stream_from_template(container.streams.video[0])
        for index, packet in enumerate(container.demux(video=0)):
            if packet.size:
                data = bytearray(bytes(packet))
                if index == 6:
                    data[0] &= ~0x10
                twin = av.Packet(bytes(data))
                twin.pts, twin.dts, twin.time_base = packet.pts, packet.dts, packet.time_base
                twin.is_keyframe, twin.stream = packet.is_keyframe, copy
                output.mux(twin)
    with VideoReader(hidden) as reader:
        assert reader.num_frames == 19
        assert _levels(reader.frames([5, 6, 18])) == [5, 7, 19]


def test_reader_counts_frames_where_packets_have_no_times(tmp_path):
    path = _encode(tmp_path / "old.avi", range(0, 20), "mpeg4", Fraction(1, 30))
    with VideoReader(path) as reader:
        assert reader.num_frames == 20 and reader.fps == 30
        assert _levels(reader.frames([13, 2, 19, 2])) == [13, 2, 19, 2]


def test_reader_iterates_over_all_frames(tmp_path):
    with VideoReader(_encode(tmp_path / "a.mp4", range(0, 400, 20))) as reader:
        assert _levels(np.stack(list(reader))) == list(range(20))
        assert _levels(reader.frames([4])) == [4]


@pytest.mark.parametrize("index", [-1, 20])
def test_frames_outside_are_refused(tmp_path, index):
    with (
        VideoReader(_encode(tmp_path / "a.mp4", range(0, 400, 20))) as reader,
        pytest.raises(InputError, match=f"frames 0 to 19, asked for frame {index}"),
    ):
        reader.frames([3, index])


def test_frames_at_a_time_outside_is_refused(tmp_path):
    with (
        VideoReader(_encode(tmp_path / "a.mp4", range(0, 400, 20))) as reader,
        pytest.raises(InputError, match=r"lasts 0\.667 s, asked for the frame at 0\.700 s"),
    ):
        reader.frames_at([0.1, 0.7])


def test_reader_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="not found"):
        VideoReader(tmp_path / "none.mp4")


def test_reader_folder_sorts_names_as_people_do(tmp_path):
    for index in (10, 9, 1, 100):
        Image.new("RGB", (8, 6), (index, 0, 0)).save(tmp_path / f"shot{index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    with VideoReader(tmp_path, folder_fps=12.5) as reader:
        assert reader.frames(range(4))[:, 0, 0, 0].tolist() == [1, 9, 10, 100]
        assert (reader.info.fps, reader.info.duration) == (Fraction(25, 2), 0.32)
        assert (reader.info.width, reader.info.height) == (8, 6)


def test_reader_folder_refuses_pictures_of_two_sizes(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 6)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png is 9x6, the first 8x6"):
        read_frames(tmp_path)


def test_reader_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        VideoReader(tmp_path)


# --- writing


@pytest.mark.parametrize(("name", "tolerance"), [("a.mp4", 4), ("a.webm", 6), ("a.gif", 14), ("folder", 0)])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)], ids=["even", "odd"])
def test_write_then_read_gives_the_same_frames(tmp_path, name, tolerance, size):
    video = _gradient(10, *size)
    assert write_video(tmp_path / name, video, 10) == tmp_path / name
    frames = read_frames(tmp_path / name)
    assert frames.shape[0] == 10
    grown = (48, 64) if name in ("a.mp4", "a.webm") else size
    assert frames.shape[1:3] == grown
    assert np.abs(frames[:, : size[0], : size[1]].astype(int) - video).mean() <= tolerance
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_write_keeps_colours(tmp_path, name):
    """Saturated colours show a wrong matrix (BT.601 read as BT.709) or range at once."""
    colors = np.array([(230, 30, 30), (30, 200, 30), (40, 40, 230), (240, 240, 240), (12, 12, 12)], np.uint8)
    write_video(tmp_path / name, np.broadcast_to(colors[:, None, None], (5, 64, 64, 3)), 5)
    assert np.abs(read_frames(tmp_path / name)[:, 32, 32].astype(int) - colors).max() <= 6


@pytest.mark.parametrize("rate", [8, 24, Fraction(24000, 1001), 12.5], ids=str)
@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_write_keeps_the_rate(tmp_path, name, rate):
    write_video(tmp_path / name, _gradient(), rate)
    info = probe(tmp_path / name)
    assert float(info.fps) == pytest.approx(float(rate), rel=1e-3)
    assert info.duration == pytest.approx(10 / float(rate), abs=0.02)


def test_write_mp4_is_playable_everywhere(tmp_path):
    path = write_video(tmp_path / "a.mp4", _gradient(), 8, {"title": "a cat, ネコ", "comment": "seed 3"})
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert container.metadata["title"] == "a cat, ネコ" and container.metadata["comment"] == "seed 3"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first for playing while loading"


def test_write_mp4_is_the_same_every_time(tmp_path):
    files = [write_video(tmp_path / name, _gradient(), 8).read_bytes() for name in ("a.mp4", "b.mp4")]
    assert files[0] == files[1]


@pytest.mark.parametrize(("name", "rate"), [("a.gif", 8), ("a.gif", 24), ("a.webp", 24), ("a.webp", 8)])
def test_write_animated_images_loop_with_true_durations(tmp_path, name, rate):
    write_video(tmp_path / name, _gradient(12), rate)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 12 and image.info["loop"] == 0
        total = 0
        for index in range(12):
            image.seek(index)
            image.load()
            total += image.info["duration"]
    assert total == pytest.approx(12000 / rate, abs=6)


def test_write_gif_keeps_equal_frames(tmp_path):
    write_video(tmp_path / "a.gif", np.full((6, 16, 16, 3), 90, np.uint8), 10)
    info = probe(tmp_path / "a.gif")
    assert info.duration == pytest.approx(0.6, abs=0.011)


def test_write_takes_frames_from_an_iterator(tmp_path):
    video = _gradient()
    write_video(tmp_path / "a.mp4", iter(video), 8)
    write_video(tmp_path / "b.mp4", video, 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "folder"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_write_interrupted_leaves_what_was_there(tmp_path, name, error):
    write_video(tmp_path / name, _gradient(3), 8)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def frames():
        yield from _gradient(4)
        raise error

    with pytest.raises(error):
        write_video(tmp_path / name, frames(), 8, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["a.mp4", "folder"])
def test_write_overwrites_only_when_told(tmp_path, name):
    write_video(tmp_path / name, _gradient(3), 8)
    with pytest.raises(InputError, match="exists"):
        write_video(tmp_path / name, _gradient(5), 8)
    write_video(tmp_path / name, _gradient(5), 8, overwrite=True)
    assert len(read_frames(tmp_path / name)) == 5


def test_write_never_overwrites_a_folder_with_other_files(tmp_path):
    write_video(tmp_path / "frames", _gradient(3), 8)
    (tmp_path / "frames" / "thesis.doc").write_text("mine")
    with pytest.raises(InputError, match="other files than frames"):
        write_video(tmp_path / "frames", _gradient(5), 8, overwrite=True)
    assert len(list((tmp_path / "frames").iterdir())) == 4


def test_write_fills_an_empty_folder(tmp_path):
    (tmp_path / "frames").mkdir()
    write_video(tmp_path / "frames", _gradient(3), 8)
    assert len(read_frames(tmp_path / "frames")) == 3


def test_write_gif_refuses_a_rate_that_viewers_do_not_keep(tmp_path):
    with pytest.raises(InputError, match="at most 50 frames per second, got 60"):
        write_video(tmp_path / "a.gif", _gradient(2), 60)
    assert not list(tmp_path.iterdir())


def test_check_rate_refuses_before_there_are_frames():
    check_rate("a.gif", 50)
    check_rate("a.mp4", 60)
    with pytest.raises(InputError, match="at most 50 frames per second, got 60"):
        check_rate("a.GIF", 60)
    with pytest.raises(InputError, match="fps must be above 0, got 0"):
        check_rate("a.mp4", 0)


def test_check_output_refuses_what_cannot_be_written(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for path, message in [
        (tmp_path / "a.mov", r"unknown format '\.mov'; use \.mp4"),
        (tmp_path / "none" / "a.mp4", "does not exist"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "file", "is a file"),
    ]:
        with pytest.raises(InputError, match=message):
            check_output(path)


def test_check_output_refuses_a_read_only_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="no permission to write"):
        check_output(tmp_path / "a.mp4")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that lets nobody write")
def test_write_where_nothing_can_be_written_is_refused():
    with pytest.raises(InputError, match=r"cannot write /proc/a\.mp4"):
        write_video("/proc/a.mp4", _gradient(2), 8)


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), 8, "at least one frame"),
        (np.zeros((2, 8, 8, 3), np.float32), 8, "must be uint8"),
        (np.zeros((2, 8, 8), np.uint8), 8, r"\(H, W, 3\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)], 8, "one size"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, "fps must be above 0"),
    ],
    ids=["none", "float", "gray", "sizes", "fps"],
)
def test_write_refuses_wrong_frames(tmp_path, frames, fps, message):
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "a.mp4", frames, fps)
    assert not list(tmp_path.iterdir())


def test_a_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("a:b 100%.mp4", _gradient(), 24)
    assert probe("a:b 100%.mp4").num_frames == 10
    assert read_frames("a:b 100%.mp4").shape == (10, 48, 64, 3)
