"""`t2v interpolate VIDEO` from the command line: rates, sound, what is refused."""

import json
import os
import resource
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from t2v.data.video_io import SOUND_RATE, VideoReader, probe, read_frames, read_sound, write_video

HOLD = ("--method", "hold")
DATA = Path(os.environ.get("T2V_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def moving(num: int, size: int = 32) -> np.ndarray:
    frames = np.full((num, size, size, 3), 90, np.uint8)
    for k in range(num):
        frames[k, 4:12, (2 * k) % (size - 8) : (2 * k) % (size - 8) + 8] = (220, 60, 30)
    return frames


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4", moving(24), 24)


@pytest.fixture
def sounding(tmp_path: Path) -> Path:
    seconds = np.arange(48_000) / 48_000
    sound = 0.3 * np.sin(2 * np.pi * 440 * seconds)[None].astype(np.float32)
    return write_video(tmp_path / "sound.mp4", moving(24), 24, sound=sound)


def report_of(path: Path) -> dict:
    return json.loads(path.with_suffix(".json").read_text())


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def test_24_to_60_is_right_to_the_rational(t2v_command, video, tmp_path):
    done = t2v_command("interpolate", video, "--to-fps", 60, "-o", "out.mp4", *HOLD)
    assert (done.code, done.out) == (0, "out.mp4\n"), done.err
    info = probe(tmp_path / "out.mp4")
    assert (info.num_frames, info.fps, info.duration) == (60, 60, 1.0)
    report = report_of(tmp_path / "out.mp4")
    assert report["sources"][:11] == [0, None, None, None, None, 2, None, None, None, None, 4]
    assert report["sources"][-2:] == [23, 23]


def test_factor_on_ntsc_keeps_source_frames_bit_for_bit_in_pngs(t2v_command, tmp_path):
    write_video(tmp_path / "n.mp4", moving(9), Fraction(24000, 1001))
    source = read_frames(tmp_path / "n.mp4")
    assert t2v_command("interpolate", "n.mp4", "--factor", 3, "-o", "out", "--method", "crossfade").code == 0
    out = read_frames(tmp_path / "out")
    assert len(out) == 27 and np.array_equal(out[:25:3], source)
    report = report_of(tmp_path / "out")
    assert report["fps"] == "72000/1001" and report["source_fps"] == "24000/1001"


def test_folder_and_pattern_need_a_rate(t2v_command, video, tmp_path):
    assert t2v_command("interpolate", video, "--factor", 1, "-o", "in", *HOLD).code == 0
    for name in ("in", "in/*.png"):
        done = t2v_command("interpolate", name, "--input-fps", 8, "--factor", 2, "-o", "out.webm", *HOLD, "--overwrite")
        assert done.code == 0 and "24 pictures, frame_00000.png to frame_00023.png" in done.err
        info = probe(tmp_path / "out.webm")
        assert (info.num_frames, info.fps) == (48, 16)


def test_sound_is_copied_where_the_duration_stays(t2v_command, sounding, tmp_path):
    assert t2v_command("interpolate", sounding, "--to-fps", 60, "-o", "out.mp4", *HOLD).code == 0
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(sounding)
    assert report_of(tmp_path / "out.mp4")["audio"] == "copied"
    assert probe(tmp_path / "out.mp4").num_frames == 60
    slow = t2v_command("interpolate", sounding, "--factor", 2, "--fps", 24, "-o", "slow.mp4", *HOLD)
    assert "the sound is left out: the new video has another duration" in slow.err
    assert probe(tmp_path / "slow.mp4").audio_codec is None and probe(tmp_path / "slow.mp4").duration == 2.0
    webm = t2v_command("interpolate", sounding, "--factor", 2, "-o", "w.webm", *HOLD)
    assert webm.code == 0 and ".webm cannot hold aac as it is" in webm.err
    assert t2v_command("interpolate", sounding, "--factor", 2, "-o", "m.mkv", *HOLD).code == 0
    assert audio_packets(tmp_path / "m.mkv") == audio_packets(sounding)
    assert t2v_command("interpolate", sounding, "--factor", 2, "-o", "q.mp4", *HOLD, "--audio", "none").code == 0
    assert probe(tmp_path / "q.mp4").audio_codec is None
    png = t2v_command("interpolate", sounding, "--factor", 2, "-o", "p", *HOLD, "--audio", "stretch")
    assert png.code == 0 and "a folder of PNGs cannot hold any" in png.err


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".webm", "opus"), (".mkv", "flac")])
@pytest.mark.parametrize(("fps", "seconds"), [(24, 2.0), (7, 48 / 7), (96, 0.5)])
def test_sound_is_stretched_at_its_pitch(t2v_command, sounding, tmp_path, suffix, codec, fps, seconds):
    out = tmp_path / f"out{suffix}"
    common = ("--audio", "stretch", "--codec", "vp9" if suffix == ".webm" else "h264")
    done = t2v_command("interpolate", sounding, "--factor", 2, "--fps", fps, "-o", out, *HOLD, *common)
    assert done.code == 0, done.err
    info = probe(out)
    assert (info.audio_codec, info.num_frames) == (codec, 48)
    assert info.duration == pytest.approx(seconds, abs=1 / fps)  # webm and mkv count milliseconds
    assert report_of(out)["audio"] == "stretched"
    sound = read_sound(out, 0.0, seconds + 0.5)[0]
    heard = np.nonzero(np.abs(sound) > 0.05)[0] / SOUND_RATE
    assert heard[0] < 0.1 and heard[-1] == pytest.approx(seconds, abs=0.1)
    middle = sound[int(0.2 * seconds * SOUND_RATE) : int(0.8 * seconds * SOUND_RATE)]
    pitch = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() / len(middle) * SOUND_RATE
    assert pitch == pytest.approx(440, abs=8)


# ---------------------------------------------------------------- cuts


@pytest.fixture
def two_shots(tmp_path: Path) -> Path:
    """Twelve frames of a red shot and twelve of a blue one, at 24 frames per second, without loss."""
    rng = np.random.default_rng(0)
    shots = [(rng.integers(0, 40, (32, 48, 3)) + np.array(c)).astype(np.uint8) for c in ((180, 20, 20), (20, 40, 200))]
    frames = [np.roll(shot, k, axis=1) for shot in shots for k in range(12)]
    return write_video(tmp_path / "shots.mkv", np.stack(frames), 24)


@pytest.mark.parametrize("on_cut", ["hold", "fade", "morph", "extrapolate"])
@pytest.mark.parametrize(
    ("rate", "num"), [(("--to-fps", 60), 60), (("--factor", 3), 72), (("--to-fps", "60000/1001"), 60)]
)
def test_counts_and_times_are_exact_across_a_cut(t2v_command, two_shots, tmp_path, on_cut, rate, num):
    done = t2v_command("interpolate", two_shots, *rate, "-o", "out.mp4", "--on-cut", on_cut, "--method", "crossfade")
    assert done.code == 0, done.err
    with VideoReader(tmp_path / "out.mp4") as reader:
        fps = reader.info.fps
        assert reader.info.num_frames == num and not reader.info.is_variable_rate
        assert fps == (Fraction(rate[1]) if rate[0] == "--to-fps" else 72)
        np.testing.assert_allclose(reader.timestamps, np.arange(num) / float(fps), atol=1e-6)
    report = report_of(tmp_path / "out.mp4")
    for place, source in enumerate(report["sources"]):
        time = place / fps
        nearest = min(round(time * 24), 23)
        is_source = time >= Fraction(23, 24) or abs(time - Fraction(nearest, 24)) <= Fraction(1, 4000)
        assert source == (nearest if is_source else None)
    across = [k for k in range(num) if Fraction(11, 24) < k / fps < Fraction(12, 24) and report["sources"][k] is None]
    assert report["made_across_cuts"] == across and across


def test_cuts_are_printed_and_taken_from_a_list(t2v_command, two_shots, tmp_path):
    printed = t2v_command("interpolate", two_shots, "--print-cuts")
    assert (printed.code, printed.out) == (0, f"path,seconds\n{two_shots},0.500000\n")  # an absolute path
    (tmp_path / "cuts.csv").write_text(printed.out)
    (tmp_path / "others.csv").write_text("seconds\n0.25\n0.75\n")
    common = ("interpolate", two_shots, "--factor", 2, *HOLD, "--overwrite", "-o", "out.mp4")
    for file, places in (("cuts.csv", [23]), ("others.csv", [11, 35])):
        assert t2v_command(*common, "--cuts", file).code == 0
        assert report_of(tmp_path / "out.mp4")["made_across_cuts"] == places
    cases = [
        ("path,seconds\nother.mp4,0.5\n", "has no cut of"),
        ("frame\n12\n", "has the columns path,seconds"),
        ("seconds\nlater\n", "has the columns path,seconds"),
        ("seconds\n12\n", "has a cut at 12 s, after the 1 s of"),
    ]
    for text, message in cases:
        (tmp_path / "bad.csv").write_text(text)
        done = t2v_command(*common, "--cuts", "bad.csv")
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
    done = t2v_command(*common, "--cuts", "none.csv")
    assert done.code == 2 and "none.csv: No such file" in done.err


def test_printed_cuts_are_taken_from_another_folder(t2v_command, two_shots, tmp_path):
    """By a relative path, of a name that CSV must quote."""
    shutil.copy(two_shots, tmp_path / "one, two.mp4")
    printed = t2v_command("interpolate", "one, two.mp4", "--print-cuts")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/cuts.csv").write_text(printed.out)
    common = ("--factor", 2, *HOLD, "-o", "out.mp4")
    done = t2v_command("interpolate", "one, two.mp4", *common, "--cuts", "lists/cuts.csv")
    assert done.code == 0, done.err
    assert report_of(tmp_path / "out.mp4")["made_across_cuts"] == [23]


@pytest.mark.parametrize("option", ["--output", "--cuts"])
def test_options_that_printing_cuts_would_ignore_are_refused(t2v_command, two_shots, option):
    done = t2v_command("interpolate", two_shots, "--print-cuts", option, "cuts.csv")
    assert done.code == 2 and f"{option} does not go with --print-cuts" in done.err and done.err.count("\n") == 1


# ---------------------------------------------------------------- files


def test_encoding_is_as_asked(t2v_command, video, tmp_path):
    common = ("interpolate", video, "--factor", 2, *HOLD)
    cases = [
        ("a.mp4", ("--codec", "av1", "--crf", 30), "av1", "yuv420p"),
        ("b.mp4", ("--pix-fmt", "yuv444p"), "h264", "yuv444p"),
        ("c.webm", ("--crf", 40), "vp9", "yuv420p"),
        ("d.mkv", (), "ffv1", "bgr0"),
    ]
    for name, options, codec, pixel_format in cases:
        done = t2v_command(*common, "-o", name, *options)
        assert done.code == 0, done.err
        info = probe(tmp_path / name)
        assert (info.codec, info.pixel_format, info.num_frames) == (codec, pixel_format, 48)
    assert np.array_equal(read_frames(tmp_path / "d.mkv")[::2], read_frames(video))
    bad = [
        ("x.webm", ("--codec", "h264"), "a .webm holds vp9, av1, got the codec 'h264'"),
        ("x.mp4", ("--crf", 60), "crf of h264 is from 0 (best) to 51, got 60"),
        ("x.mp4", ("--pix-fmt", "rgb24"), "pixel formats of h264 are yuv420p"),
        ("x.mkv", ("--crf", 10), "ffv1 is without loss"),
        ("x", ("--crf", 10), "a folder of PNGs has no codec"),
    ]
    for name, options, message in bad:
        done = t2v_command(*common, "-o", name, *options)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
        assert not (tmp_path / name).exists()
    done = t2v_command("interpolate", video, "--factor", 2)
    assert done.code == 2 and "say where to write with --output" in done.err


def test_alpha_of_picture_sequences_is_kept_or_refused(t2v_command, tmp_path):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 16, 24, 4), np.uint8)
    pictures[0, ..., 3] = 255  # the first is opaque
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "in" / f"{k}.png")
    common = ("interpolate", "in", "--input-fps", 8, "--factor", 2, "--method", "crossfade")
    assert t2v_command(*common, "-o", "out").code == 0
    out = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").iterdir())]
    assert all(np.array_equal(out[2 * k], pictures[k]) for k in range(4)) and out[1].shape == (16, 24, 4)
    for command in (common, ("extend", "in", "--input-fps", 8, "--forward", 1, *HOLD)):
        done = t2v_command(*command, "-o", "x.mp4")
        assert done.code == 2 and "1.png is transparent: write PNGs" in done.err
        assert not list(tmp_path.glob("*.mp4")) and not list(tmp_path.glob(".*"))


def encoded(path: Path, codec: str, pixel_format: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        if "yuva" in pixel_format:
            stream.metadata["alpha_mode"] = "1"
        for level in (20, 120, 220):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 4), level, np.uint8), format="rgba")
            container.mux(stream.encode(picture.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


def test_what_is_lost_of_a_video_is_said(t2v_command, video, tmp_path):
    deep = encoded(tmp_path / "deep.mp4", "libx264", "yuv420p10le")
    clear = encoded(tmp_path / "clear.webm", "libvpx-vp9", "yuva420p")
    cases = [(deep, "has 10 bits a colour (yuv420p10le); it is read with 8"), (clear, "may be transparent (yuva420p)")]
    for source, message in cases:
        for name, options in (("interpolate", ("--factor", 2)), ("extend", ("--forward", 0.5))):
            done = t2v_command(name, source, *options, "-o", "out.mp4", *HOLD, "--overwrite")
            assert done.code == 0 and message in done.err, done.err
    assert "warning" not in t2v_command("interpolate", video, "--factor", 2, "-o", "v.mp4", *HOLD).err


REAL = [
    ("videos/bracelet_hevc10_rot90.mp4", 0, "10 bits a colour"),
    ("videos/transparent.webm", 0, "may be transparent"),
    ("videos/bear_vp9_161x121.webm", 0, ""),
    ("videos/phone_rot180_vfr.mp4", 0, ""),
    ("videos/delayed_start.mp4", 0, ""),
    ("broken/zero_bytes.webm", 2, "cannot be read as video"),
    ("broken/header_only_5544frames.mp4", 2, "cannot be read as video"),
    ("broken/tiny_1x1_noframes.avi", 2, "cannot be read as video"),
    ("broken/tiny_noframes.gif", 2, "cannot be read as video"),
    ("broken/audio_only_opus.mp4", 2, "cannot be read as video"),
    ("broken/corrupted_packets.mp4", 2, "cannot be decoded"),
]


@pytest.mark.skipif(not DATA.is_dir(), reason="T2V_TEST_DATA is not a folder of real videos")
@pytest.mark.parametrize(("name", "code", "message"), REAL, ids=[name for name, _, _ in REAL])
def test_real_files(t2v_command, tmp_path, name, code, message):
    done = t2v_command("interpolate", DATA / name, "--factor", 2, "-o", "out.mp4", *HOLD)
    assert done.code == code and message in done.err, done.err
    if code:
        assert done.err.count("\n") == 1 and not list(tmp_path.iterdir())
    else:
        source, out = probe(DATA / name), probe(tmp_path / "out.mp4")
        assert out.duration == pytest.approx(source.duration, abs=1 / float(out.fps) + 1e-3)
        assert abs(out.num_frames - 2 * source.num_frames) <= 1


def test_bad_videos_are_refused_with_one_line(t2v_command, video, tmp_path):
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "half.mp4").write_bytes(video.read_bytes()[:700])
    cases = [
        (("zero.mp4", "--factor", 2), "cannot be read as video"),
        (("half.mp4", "--factor", 2), "cannot be read as video"),
        (("none.mp4", "--factor", 2), "video not found"),
        ((video, "--factor", 2, "--input-fps", 3), "has its own frame rate"),
        ((video,), "for a video give --factor or --to-fps"),
        ((video, "--to-fps", "fast"), "--to-fps is a number above 0"),
        ((video, "--to-fps", "0"), "--to-fps is a number above 0"),
    ]
    for arguments, message in cases:
        done = t2v_command("interpolate", *arguments, "-o", "out.mp4", *HOLD)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, (arguments, done.err)
        assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))


def test_a_video_that_breaks_off_leaves_nothing(t2v_command, tmp_path):
    """Pictures of a folder of which one has another size: noticed only while writing."""
    from PIL import Image

    (tmp_path / "in").mkdir()
    for k in range(5):
        Image.new("RGB", (32 + (k == 4), 32)).save(tmp_path / "in" / f"{k}.png")
    done = t2v_command("interpolate", "in", "--input-fps", 8, "--factor", 2, "-o", "out.mp4", *HOLD)
    assert done.code == 2 and "4.png is 33x32, 0.png is 32x32" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.slow
def test_two_thousand_frames_in_flat_memory(t2v_command, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (288, 352, 3), np.uint8)
    write_video(tmp_path / "long.mp4", (np.roll(frame, k, axis=1) for k in range(2000)), 24)
    write_video(tmp_path / "short.mp4", (np.roll(frame, k, axis=1) for k in range(100)), 24)
    peaks = []
    for name in ("short", "long"):
        done = t2v_command(
            "interpolate", f"{name}.mp4", "--factor", 2, "-o", f"{name}-out.mp4", "--method", "crossfade"
        )
        assert done.code == 0
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    assert probe(tmp_path / "long-out.mp4").num_frames == 4000
    print("peak MB after 100 and after 2,000 frames:", peaks)
    assert peaks[1] < peaks[0] + 60
