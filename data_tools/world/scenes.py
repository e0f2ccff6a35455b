"""Where it happens: twelve painted scenes. Each is calm in the middle, where the actor plays."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from data_tools.world import nature, places
from data_tools.world.actors import GlyphSource
from data_tools.world.canvas import Canvas

Painter = Callable[[Canvas, str], None]


@dataclass(frozen=True)
class Scene:
    """A scene: its painter, the words for being there (the first is the usual one), and its times of day."""

    name: str
    paint: Painter
    phrases: tuple[str, ...]
    times: tuple[str, ...] = ("day", "day", "sunset", "night")


SCENES: tuple[Scene, ...] = (
    Scene(
        "times_square",
        places.times_square,
        ("in Times Square", "at Times Square", "among the billboards in Times Square", "in the middle of Times Square"),
        ("night", "night", "sunset"),
    ),
    Scene("beach", nature.beach, ("on the beach", "at the beach", "on a sandy beach", "by the sea", "at the seaside")),
    Scene(
        "forest",
        nature.forest,
        ("in the forest", "in a forest", "in the woods", "among the trees"),
        ("day", "day", "night"),
    ),
    Scene("space", places.space, ("in outer space", "in space", "on the moon", "among the stars"), ("day",)),
    Scene(
        "snow", nature.snow, ("on a snowy mountain", "in the snow", "in the snowy mountains", "on the snowy mountain")
    ),
    Scene("desert", nature.desert, ("in the desert", "in a desert", "among the sand dunes", "in a sandy desert")),
    Scene(
        "stage",
        places.stage,
        ("on a stage", "on stage", "on the stage", "in a theater", "under the spotlights on a stage"),
        ("day",),
    ),
    Scene(
        "underwater",
        nature.underwater,
        ("underwater", "under the sea", "in the ocean", "at the bottom of the sea"),
        ("day",),
    ),
    Scene("meadow", nature.meadow, ("in a meadow", "in the meadow", "among the flowers", "in a field of flowers")),
    Scene("castle", places.castle, ("at a castle", "in front of a castle", "near the castle", "by the old castle")),
    Scene(
        "volcano",
        nature.volcano,
        ("near a volcano", "by a volcano", "at the volcano", "in front of an erupting volcano"),
        ("day",),
    ),
    Scene(
        "clouds",
        nature.clouds,
        ("in the clouds", "on a cloud", "above the clouds", "high in the clouds"),
        ("day", "day", "sunset"),
    ),
)
BY_NAME = {scene.name: scene for scene in SCENES}


def time_of_day(scene: Scene, variant: int, seed: int) -> str:
    """Whether a background shows "day", "sunset" or "night"."""
    return random.Random(f"time-{seed}-{scene.name}-{variant}").choice(scene.times)


def paint(scene: Scene, variant: int, seed: int, size: int, glyphs: GlyphSource) -> Image.Image:
    """One background of a scene: RGB, `size` high and 156/128 as wide, the same for the same arguments."""
    canvas = Canvas(size, glyphs, random.Random(f"scene-{seed}-{scene.name}-{variant}"))
    scene.paint(canvas, time_of_day(scene, variant, seed))
    return canvas.finish()
