import numpy as np
import pytest

from data_tools.world.scenes import BY_NAME, SCENES, paint, time_of_day


def _painted(scene, variant, glyphs, seed=0, size=64):
    return np.asarray(paint(scene, variant, seed, size, glyphs)).astype(np.int16)


def test_there_are_twelve_scenes():
    assert len(BY_NAME) == len(SCENES) >= 12
    assert {"times_square", "beach", "forest", "space", "snow", "desert", "stage", "underwater"} <= set(BY_NAME)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_paint_is_a_function_of_its_arguments(scene, glyphs):
    first = _painted(scene, 0, glyphs)
    assert first.shape == (64, 74, 3)
    assert np.array_equal(first, _painted(scene, 0, glyphs))
    assert not np.array_equal(first, _painted(scene, 1, glyphs))
    assert not np.array_equal(first, _painted(scene, 0, glyphs, seed=1))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_paint_gives_a_hundred_variants(scene, glyphs):
    assert len({_painted(scene, variant, glyphs, size=32).tobytes() for variant in range(100)}) == 100


@pytest.mark.parametrize(
    "scene", [scene for scene in SCENES if len(set(scene.times)) > 1], ids=lambda scene: scene.name
)
def test_time_of_day_is_seen_in_the_brightness(scene, glyphs):
    darkest = min(scene.times, key=["night", "sunset", "day"].index)
    brightest = max(scene.times, key=["night", "sunset", "day"].index)
    light = {
        time: np.mean([_painted(scene, v, glyphs).mean() for v in range(40) if time_of_day(scene, v, 0) == time])
        for time in (darkest, brightest)
    }
    assert light[brightest] > light[darkest] + 10


def test_scene_phrases_are_distinct():
    phrases = [phrase for scene in SCENES for phrase in scene.phrases]
    assert len(set(phrases)) == len(phrases)
