import random

import numpy as np
import pytest

from data_tools.world.canvas import FRAME, GROUND
from data_tools.world.verbs import VERBS, is_telling

TIMES = np.arange(0, 5, 1 / 24)


def _shots(world, verb, count=20):
    rng = random.Random(verb)
    return [world.sample(rng, verb=verb) for _ in range(count)]


def _path(world, shot):
    """Arrays x, y, angle, turn over 5 s."""
    poses = [world.pose(shot, t) for t in TIMES]
    return [np.array([getattr(pose, name) for pose in poses]) for name in ("x", "y", "angle", "turn")]


def test_there_are_eight_verbs():
    assert list(VERBS) == ["dancing", "flying", "running", "jumping", "sleeping", "standing", "spinning", "floating"]


@pytest.mark.parametrize("verb", VERBS)
def test_the_actor_stays_in_the_picture(world, verb):
    for shot in _shots(world, verb):
        x, y, _, _ = _path(world, shot)
        body = world.body(shot)
        assert x.min() - body.half_width > -6 and x.max() + body.half_width < FRAME + 6
        assert y.min() - body.half_height > -8 and y.max() < GROUND


def test_dancing_sways_and_leans_into_it(world):
    for shot in _shots(world, "dancing"):
        x, _, angle, _ = _path(world, shot)
        assert 12 < np.ptp(x) < 20 and 38 < np.ptp(angle) < 60
        assert np.corrcoef(x, angle)[0, 1] > 0.99


@pytest.mark.parametrize(("verb", "least_speed"), [("flying", 26), ("running", 19)])
def test_movers_travel_in_the_direction_they_face(world, verb, least_speed):
    for shot in _shots(world, verb):
        x, _, _, turn = _path(world, shot)
        steady = np.abs(turn[:-1]) == 1
        speed = np.diff(x)[steady] * 24
        assert np.ptp(x) > 40 and np.median(np.abs(speed)) > least_speed
        assert (np.sign(speed) == np.sign(turn[:-1][steady])).all()


def test_movers_start_in_the_shots_direction(world):
    for shot in _shots(world, "flying"):
        start = world.pose(shot, 0.0)
        assert abs(start.x - FRAME / 2) < 40
    directions = {shot.direction for shot in _shots(world, "flying")}
    assert directions == {-1, 1}


def test_flying_is_off_the_ground_and_running_is_on_it(world):
    for flyer, runner in zip(_shots(world, "flying"), _shots(world, "running"), strict=True):
        assert _path(world, flyer)[1].max() < 50 and world.pose(flyer, 0).shadow == 0
        assert abs(_path(world, runner)[1] + world.body(runner).half_height - GROUND).max() < 4


def test_jumping_bounces_about_once_a_second(world):
    for shot in _shots(world, "jumping"):
        x, y, _, _ = _path(world, shot)
        assert np.ptp(x) == 0 and np.ptp(y) > 20
        landings = np.sum((y[1:-1] >= y[:-2]) & (y[1:-1] > y[2:]))
        assert 4 <= landings <= 6


@pytest.mark.parametrize("verb", ["sleeping", "standing"])
def test_the_quiet_verbs_hardly_move(world, verb):
    for shot in _shots(world, verb):
        x, y, angle, turn = _path(world, shot)
        assert np.ptp(x) == np.ptp(angle) == np.ptp(turn) == 0 and np.ptp(y) < 5
        assert abs(angle[0]) == (90 if verb == "sleeping" else 0)


def test_spinning_turns_round_and_round(world):
    for shot in _shots(world, "spinning"):
        x, _, _, turn = _path(world, shot)
        assert np.ptp(x) == 0
        assert 5 <= np.sum(np.diff(np.sign(turn)) != 0) <= 7


def test_floating_drifts_slowly_under_its_balloon(world):
    for shot in _shots(world, "floating"):
        _, y, _, _ = _path(world, shot)
        assert 14 < np.ptp(y) < 24 and np.abs(np.diff(y)).max() * 24 < 24
        pose = world.pose(shot, 1.0)
        assert [cue.kind for cue in pose.behind] == ["balloon"]
        assert pose.behind[0].y < pose.y - world.body(shot).half_height


@pytest.mark.parametrize("verb", VERBS)
def test_is_telling_asks_for_the_verbs_own_cue(world, verb):
    expected = {
        "dancing": {"note"},
        "flying": {"streak"},
        "running": {"dust"},
        "jumping": {"lift"},
        "sleeping": {"z"},
        "standing": set(),
        "spinning": {"swirl_front", "swirl_behind"},
        "floating": {"balloon"},
    }
    for shot in _shots(world, verb):
        telling = [t for t in TIMES if is_telling(verb, world.pose(shot, t))]
        assert telling
        for t in telling:
            pose = world.pose(shot, t)
            assert {cue.kind for cue in (*pose.behind, *pose.front)} == expected[verb]
