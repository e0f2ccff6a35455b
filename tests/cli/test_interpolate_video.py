"""`t2v interpolate VIDEO` from the command line: rates, sound, what is refused."""

import json
import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from t2v.data.video_io import probe, read_frames, write_video

HOLD = ("--method", "hold")


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
    assert t2v_command("interpolate", sounding, "--factor", 2, "-o", "q.mp4", *HOLD, "--no-audio").code == 0
    assert probe(tmp_path / "q.mp4").audio_codec is None


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
