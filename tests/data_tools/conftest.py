"""A world without the emoji font: actors are plain green shapes, other glyphs grey ones."""

import pytest
from PIL import Image, ImageDraw

from data_tools.world.actors import actors_of
from data_tools.world.world import World

ACTORS = {actor.glyph for actor in actors_of("large")}


def draw_placeholder(glyph: str) -> Image.Image:
    """A shape, taller on its left."""
    color = (0, 255, 0, 255) if glyph in ACTORS else (90, 90, 90, 255)
    image = Image.new("RGBA", (100, 90))
    ImageDraw.Draw(image).polygon([(0, 0), (99, 30), (99, 89), (0, 89)], fill=color)
    return image


@pytest.fixture(scope="session")
def glyphs():
    return draw_placeholder


@pytest.fixture(scope="session")
def world(glyphs):
    return World(glyphs, num_backgrounds=2)
