import numpy as np
import pytest

from t2v.evaluation.matching import match_actor
from tests.evaluation.moving_sprite import SIZE, draw_clip, make_background, make_sprite


def test_match_actor_finds_a_moving_actor():
    x, y = np.array([16, 24, 32, 40, 48]), np.array([40, 30, 24, 30, 40])
    path = match_actor(draw_clip(x, y), make_sprite(), SIZE)
    np.testing.assert_allclose(path.x, x, atol=1)
    np.testing.assert_allclose(path.y, y, atol=1)
    assert not path.angle.any()
    assert (path.turn == 1).all()
    assert path.score.min() > 0.3


def test_match_actor_finds_an_actor_that_stands_still():
    path = match_actor(draw_clip([30, 30, 30], [36, 36, 36]), make_sprite(), SIZE)
    np.testing.assert_allclose(path.x, 30, atol=1)
    np.testing.assert_allclose(path.y, 36, atol=1)


def test_match_actor_tells_tilt_lying_and_mirroring():
    angle, mirrored = [0, 18, -24, 90, 0], [False, False, False, False, True]
    path = match_actor(draw_clip([32] * 5, [34] * 5, angle, mirrored), make_sprite(), SIZE)
    np.testing.assert_allclose(path.angle, angle, atol=6)
    np.testing.assert_array_equal(path.turn, [1, 1, 1, 1, -1])


def test_match_actor_is_not_drawn_to_a_flat_place_of_the_actors_colour():
    background = make_background()
    background[:30, 34:] = (220, 60, 40)
    path = match_actor(draw_clip([20, 22, 24], [44, 44, 44], background=background), make_sprite(), SIZE)
    np.testing.assert_allclose(path.x, [20, 22, 24], atol=1)


def test_match_actor_sees_through_blur_and_noise():
    rng = np.random.default_rng(0)
    frames = draw_clip(np.array([18, 26, 34, 42]), [36] * 4).astype(float)
    blocks = frames.reshape(4, SIZE // 4, 4, SIZE // 4, 4, 3).mean((2, 4)).repeat(4, 1).repeat(4, 2)
    noisy = (blocks + rng.normal(0, 8, blocks.shape)).clip(0, 255).astype(np.uint8)
    path = match_actor(noisy, make_sprite(), SIZE)
    np.testing.assert_allclose(path.x, [18, 26, 34, 42], atol=2.5)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_match_actor_measures_in_pixels_of_the_given_height(factor):
    frames = draw_clip([20, 28, 36], [36, 36, 36])
    frames = frames.repeat(2, 1).repeat(2, 2) if factor == 2 else frames[:, ::2, ::2]
    path = match_actor(frames, make_sprite(), SIZE)
    np.testing.assert_allclose(path.x, [20, 28, 36], atol=1.5)
    np.testing.assert_allclose(path.y, 36, atol=1.5)


def test_match_actor_keeps_to_one_of_two_equal_actors():
    frames = draw_clip([14] * 4, [36] * 4)
    both = draw_clip([50] * 4, [36] * 4, background=frames[0])
    path = match_actor(both, make_sprite(), SIZE)
    assert np.ptp(path.x) < 1
