import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs the extra curate")

import cv2

from data_tools.features import FrameFeatures, bars
from data_tools.probe import Probe, bare_rows
from data_tools.score import Score, clip_hash, clip_scores, with_duplicates
from t2v.data.manifest import ClipRow
from tests.data_tools.edits import HEIGHT, WIDTH, painted_shot
from tests.data_tools.media import DATA, encode, needs_data

FPS = 25.0


def _features(frames):
    features = FrameFeatures()
    for frame in frames:
        features.add(frame)
    return features


def _scores(frames):
    return clip_scores(_features(frames).table(0, len(frames)), FPS)


def _texture(width=800):
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT // 8, width // 8, 3), np.uint8)
    return cv2.resize(noise, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _pan(speed, num_frames=30):
    return [_texture()[:, speed * i : speed * i + WIDTH].copy() for i in range(num_frames)]


def test_motion_is_picture_widths_per_second():
    assert _scores(_pan(0))["score_motion"] == 0
    for speed in (2, 4):
        assert _scores(_pan(speed))["score_motion"] == pytest.approx(speed / WIDTH * FPS, rel=0.2)


def test_static_is_the_share_of_repeated_frames():
    moving = _pan(3)
    assert _scores(moving)["score_static"] == 0
    assert _scores(_pan(0))["score_static"] == 1
    held = [frame for frame in moving for _ in range(2)]
    assert _scores(held)["score_static"] == pytest.approx(30 / 59)
    assert _scores(moving[:1])["score_static"] == 1


def test_black_and_white_are_shares_of_pixels():
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    frame[: HEIGHT // 4], frame[HEIGHT // 2 :] = 0, 255
    scores = _scores([frame] * 3)
    assert scores["score_black"] == pytest.approx(0.25) and scores["score_white"] == pytest.approx(0.5)


def test_sharpness_falls_with_blur():
    sharp = _pan(3)
    blurred = [cv2.GaussianBlur(frame, (0, 0), 4) for frame in sharp]
    assert _scores(blurred)["score_sharpness"] < 0.2 * _scores(sharp)["score_sharpness"]


def test_flicker_is_not_a_change_of_light():
    frame = _texture(WIDTH)
    steady = [cv2.convertScaleAbs(frame, alpha=0.5 + 0.01 * i) for i in range(30)]
    flickering = [cv2.convertScaleAbs(frame, alpha=0.7 + 0.1 * (i % 2)) for i in range(30)]
    assert _scores(steady)["score_flicker"] < 0.001 < 0.02 < _scores(flickering)["score_flicker"]


def test_letterbox_is_the_share_under_bars():
    frames = _pan(2)
    for frame in frames:
        frame[:18] = frame[-18:] = 0
    assert _scores(frames)["score_letterbox"] == pytest.approx(0.25, abs=0.02)
    assert bars(np.zeros((HEIGHT, WIDTH), np.uint8)) == (0, 0, 0, 0)


def test_text_is_the_share_of_time_with_still_lines():
    shot = painted_shot(np.random.default_rng(3), 60)
    assert _scores(shot)["score_text"] < 0.1
    for frame in shot[30:]:
        cv2.putText(frame, "and then he said to her", (50, 132), 0, 0.35, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.putText(frame, "and then he said to her", (50, 132), 0, 0.35, (255, 255, 255), 1, cv2.LINE_AA)
    assert 0.3 < _scores(shot)["score_text"] < 0.6


def test_score_adds_columns_to_every_clip_of_a_file(tmp_path):
    path = encode(tmp_path / "a.mp4", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 25 + _pan(4))
    (row,) = Probe(tmp_path)(bare_rows(path, tmp_path))
    halves = [ClipRow("1", row.path, end=1.0, fps=25.0), ClipRow("2", row.path, start=1.0, end=row.end, fps=25.0)]
    dark, moving = Score(tmp_path)(halves)
    assert dark.extra["score_black"] == 1 and dark.extra["score_motion"] == 0
    assert moving.extra["score_black"] < 0.5 and moving.extra["score_motion"] > 0.1
    assert dark.clip_id == "1" and len(moving.extra["hash"]) == 48


def test_near_duplicates_name_the_earlier_clip():
    shots = [painted_shot(np.random.default_rng(seed), 20) for seed in range(4)]
    recoded = [cv2.convertScaleAbs(cv2.GaussianBlur(frame, (0, 0), 1), alpha=0.9) for frame in shots[1]]
    hashes = [clip_hash(_features(frames), 0, 20) for frames in (*shots, recoded)]
    rows = [ClipRow(f"id{i}", f"{i}.mp4", extra={"hash": value}) for i, value in enumerate(hashes)]
    rows.append(ClipRow("x", "x.mp4", error="broken"))
    marked = with_duplicates(rows)
    assert [row.extra.get("duplicate_of") for row in marked] == [None, None, None, None, "id1", None]
    assert marked[4].extra["score_duplicate"] > 0.9 and marked[3].extra["score_duplicate"] == 0


@pytest.mark.parametrize("share", [0.35, 0.9])
def test_a_watermark_is_text_that_stays(share):
    shot = _pan(3, 60)
    assert _scores(shot)["score_text"] == 0
    mark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.putText(mark, "www.example.com", (130, 135), 0, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    marked = [cv2.addWeighted(frame, 1, mark, share, 0) for frame in shot]
    assert _scores(marked)["score_text"] > 0.5


@needs_data
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("autumn_3scenes.mp4", 0.7, 1.0),
        ("testsrc_h265_10bit.mp4", 0.9, 1.0),
        ("smpte_1080p.mp4", 0.9, 1.0),
        ("toy_rabbit.mp4", 0.0, 0.05),
        ("basketball_gym.mp4", 0.0, 0.05),
        ("wolf.mp4", 0.0, 0.05),
    ],
)
def test_text_in_real_videos(name, least, most):
    """Two lines of copyright, a frame counter and a clock; none in the others."""
    (row,) = Probe(DATA / "videos")(bare_rows(DATA / "videos" / name, DATA / "videos"))
    (scored,) = Score(DATA / "videos")([row])
    assert least <= scored.extra["score_text"] <= most
