import random
from dataclasses import replace

import pytest

from data_tools.world.captions import article, caption
from data_tools.world.scenes import BY_NAME
from data_tools.world.verbs import VERBS


def _captions(world, verb="dancing", scene="times_square", actor="robot", count=600, time="day"):
    rng = random.Random(0)
    actor = next(a for a in world.actors if a.name == actor)
    shot = world.shot(rng, actor, BY_NAME[scene], verb)
    return [caption(shot, time, rng) for _ in range(count)]


def test_caption_paraphrases_articles_tenses_and_prepositions(world):
    captions = set(_captions(world))
    assert {
        "a robot is dancing in Times Square",
        "a robot dancing in Times Square",
        "robot dancing in Times Square",
        "the robot danced in Times Square",
        "a robot is dancing at Times Square",
        "a dancing robot in Times Square",
    } <= captions
    assert len(captions) > 60


@pytest.mark.parametrize("verb", VERBS)
def test_caption_names_the_actor_and_the_scene(world, verb):
    for text in _captions(world, verb, "forest", "cat"):
        assert any(word in text.split() for word in ("cat", "kitty", "kitten"))
        assert any(place in text for place in BY_NAME["forest"].phrases)


def test_caption_lets_only_vehicles_drive(world):
    assert not any("driv" in text for text in _captions(world, "running", "beach", "cat"))
    assert any("driving" in text for text in _captions(world, "running", "desert", "car"))


def test_caption_tells_the_time_only_where_it_can_be_seen(world):
    assert any("at night" in text for text in _captions(world, time="night"))
    assert not any("at night" in text for text in _captions(world, time="day"))
    assert not any("day" in text for text in _captions(world, scene="space"))


@pytest.mark.parametrize(
    ("noun", "expected"), [("owl", "an"), ("unicorn", "a"), ("ufo", "a"), ("umbrella", "an"), ("cat", "a")]
)
def test_article_follows_the_sound(noun, expected):
    assert article(noun) == expected


def test_caption_is_a_function_of_its_arguments(world):
    shot = world.sample(random.Random(3))
    other = replace(shot, verb="sleeping" if shot.verb != "sleeping" else "dancing")
    assert caption(shot, "day", random.Random(1)) == caption(shot, "day", random.Random(1))
    assert caption(shot, "day", random.Random(1)) != caption(other, "day", random.Random(1))
