import random

import numpy as np
import pytest

from data_tools.world.verbs import VERBS
from data_tools.world.world import World
from t2v.evaluation.matching import ActorPath
from t2v.evaluation.motion import (
    RESOLUTION,
    background_difference,
    background_mask,
    foreground_centroid,
    frame_difference,
    path_measures,
    period,
)
from tests.evaluation.moving_sprite import SIZE, draw_clip, draw_glyph

FPS = 8.0
TIMES = np.arange(16) / FPS


def make_path(x=0.0, y=0.0, angle=0.0, turn=1.0):
    return ActorPath(*(np.broadcast_to(np.asarray(v, float), 16).copy() for v in (x, y, angle, turn, 1.0)))


def test_path_measures_of_standing_still_are_zero():
    measures = path_measures(make_path(60, 80), FPS)
    assert measures.keys() == RESOLUTION.keys()
    assert measures["bounce_period"] is None and measures["sway_period"] is None
    assert not any(measures[name] for name in measures if "period" not in name)


def test_path_measures_of_going_to_the_right():
    measures = path_measures(make_path(x=10 + 32 * TIMES, angle=9), FPS)
    assert measures["path_speed"] == pytest.approx(32)
    assert measures["net_speed"] == pytest.approx(32)
    assert measures["sway_range"] == pytest.approx(0, abs=1e-9)
    assert measures["lean"] == pytest.approx(9)


def test_path_measures_of_turning_round_tell_path_from_net_speed():
    x = 50 - np.abs(20 - 24 * TIMES)
    measures = path_measures(make_path(x=x, angle=np.where(np.gradient(x) > 0, -12, 12)), FPS)
    assert measures["path_speed"] == pytest.approx(24, rel=0.1)
    assert measures["net_speed"] < 5
    assert measures["sway_range"] < 6
    assert measures["lean"] == pytest.approx(-12, abs=1)


def test_path_measures_of_bouncing():
    u = TIMES % 1
    measures = path_measures(make_path(y=90 - 34 * 4 * u * (1 - u)), FPS)
    assert measures["vertical_range"] == pytest.approx(34)
    assert measures["bounce_period"] == pytest.approx(1, abs=0.05)


def test_path_measures_of_dancing():
    swing = np.sin(2 * np.pi * TIMES)
    measures = path_measures(make_path(x=60 + 8 * swing, angle=24 * swing), FPS)
    assert measures["sway_range"] == pytest.approx(16, rel=0.02)
    assert measures["sway_period"] == pytest.approx(1, abs=0.1)
    assert measures["tilt_range"] == pytest.approx(48)


def test_path_measures_of_spinning_and_lying():
    assert path_measures(make_path(turn=np.cos(2 * np.pi * TIMES)), FPS)["turn_range"] == pytest.approx(1)
    assert path_measures(make_path(angle=-90), FPS)["tilt"] == pytest.approx(90)


def test_path_measures_without_a_seen_angle_are_none():
    measures = path_measures(make_path(x=np.arange(16), angle=np.nan, turn=np.nan), FPS)
    assert [name for name in measures if measures[name] is None] == [
        "bounce_period",
        "sway_period",
        "tilt_range",
        "tilt",
        "lean",
        "turn_range",
    ]


def test_period_of_noise_is_none():
    assert period(np.random.default_rng(0).normal(0, 5, 16), FPS) is None


def test_foreground_centroid_follows_what_moves():
    x = np.array([10, 20, 30, 40, 50])
    path = foreground_centroid(draw_clip(x, [36] * 5), 2 * SIZE)
    np.testing.assert_allclose(path.x, 2 * x, atol=3)
    np.testing.assert_allclose(path.y, 72, atol=3)
    assert np.isnan(path.angle).all()


def test_foreground_centroid_fills_frames_without_foreground():
    frames = draw_clip([10] * 5, [36] * 5)
    assert not foreground_centroid(frames, SIZE).x.any()
    frames[2, 40:50, 40:50] = 255
    np.testing.assert_allclose(foreground_centroid(frames, SIZE).x, 45)


def test_frame_difference_is_the_mean_step():
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1] = 10
    assert frame_difference(frames) == 10


def test_background_difference_leaves_the_actor_out():
    frames = draw_clip(np.array([10, 20, 30, 40, 50]), [36] * 5)
    assert background_difference(frames) == 0
    flicker = frames + np.array([0, 4, 0, 4, 0], np.uint8)[:, None, None, None]
    assert background_difference(flicker) == pytest.approx(4, abs=0.1)
    assert frame_difference(frames) > 1


def test_background_difference_of_a_cut_is_none():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1] = 200
    assert background_difference(frames) is None


@pytest.mark.parametrize("verb", VERBS)
def test_background_mask_of_rendered_clips_is_the_true_one(verb):
    """The world tells where the actor is. Flicker is measured as on the true background, without the actor's motion."""
    world = World(draw_glyph, num_backgrounds=2)
    shot = world.sample(random.Random(verb), verb=verb)
    view = world.view(shot)
    frames = np.stack([world.render(shot, i / FPS, view) for i in range(16)])
    true = (np.abs(frames.astype(int) - np.asarray(view)) <= 2).all(-1)
    mask = background_mask(frames)
    assert (mask & true).sum() > 0.88 * true.sum()
    moving = (np.abs(np.diff(frames.astype(int), axis=0)) > 60).any(-1)
    assert (mask[1:] & mask[:-1] & moving).mean() < 2e-4
    assert background_difference(frames) < 0.03
    shimmer = frames + np.random.default_rng(0).integers(-4, 5, (16, 128, 128, 1))
    unsteady = shimmer.clip(0, 255).astype(np.uint8)
    steps = np.abs(np.diff(unsteady.astype(float), axis=0)).mean(-1)
    assert background_difference(unsteady) == pytest.approx(steps[true[1:] & true[:-1]].mean(), rel=0.1)
