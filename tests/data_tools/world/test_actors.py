import pickle

import pytest

from data_tools.world.actors import DEFAULT_FONT, PRESETS, FontGlyphs, actors_of
from t2v.errors import InputError

needs_font = pytest.mark.skipif(not DEFAULT_FONT.is_file(), reason=f"{DEFAULT_FONT} is not installed")


@pytest.mark.parametrize(("preset", "least"), [("small", 64), ("large", 200)])
def test_actors_of_has_enough_distinct_actors(preset, least):
    actors = actors_of(preset)
    assert len(actors) >= least
    assert len({actor.name for actor in actors}) == len({actor.glyph for actor in actors}) == len(actors)


def test_actors_of_words_mean_one_actor():
    words = [word for actor in actors_of("large") for word in (actor.name, *actor.synonyms)]
    assert len(set(words)) == len(words)


def test_large_begins_with_small():
    assert PRESETS["large"][: len(PRESETS["small"])] == PRESETS["small"]


def test_actors_know_vehicles_and_facing():
    by_name = {actor.name: actor for actor in actors_of("large")}
    assert by_name["car"].is_vehicle and by_name["fire truck"].is_vehicle and not by_name["cat"].is_vehicle
    assert (by_name["cat"].facing, by_name["rocket"].facing, by_name["robot"].facing) == (-1, 1, 0)


def test_actors_of_unknown_preset_is_refused():
    with pytest.raises(InputError, match="small, large"):
        actors_of("huge")


def test_font_glyphs_missing_font_names_package_and_option(tmp_path):
    with pytest.raises(InputError, match=r"fonts-noto-color-emoji.*--font"):
        FontGlyphs(tmp_path / "none.ttf")


def test_font_glyphs_refuses_a_file_that_is_no_font(tmp_path):
    (tmp_path / "x.ttf").write_bytes(b"no font")
    with pytest.raises(InputError, match="cannot be used"):
        FontGlyphs(tmp_path / "x.ttf")


@needs_font
def test_font_glyphs_draws_every_actor_differently():
    glyphs = pickle.loads(pickle.dumps(FontGlyphs()))
    pictures = {glyphs(actor.glyph).tobytes() for actor in actors_of("large")}
    assert len(pictures) == len(actors_of("large"))
