"""The small pictures of the world: actors at one size, and the cues that tell the verbs."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from data_tools.world.actors import Actor, GlyphSource
from data_tools.world.canvas import FRAME
from data_tools.world.verbs import SWIRL_STEPS

LONGEST = 72.0  # units: no actor is longer than this
AREA = 60.0  # units: the side of a square with an actor's bounding-box area
_OVERSAMPLE = 4

Draw = Callable[[ImageDraw.ImageDraw, float], None]


def actor_sprite(actor: Actor, glyphs: GlyphSource, size: int) -> Image.Image:
    """An actor at scale 1 for pictures of `size` pixels: RGBA, the drawing and one clear pixel around it."""
    picture = glyphs(actor.glyph)
    scale = min(AREA / math.sqrt(picture.width * picture.height), LONGEST / max(picture.size)) * size / FRAME
    shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    sprite = Image.new("RGBA", (shape[0] + 2, shape[1] + 2))
    sprite.paste(picture.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA"), (1, 1))
    return sprite


def _drawn(width: float, height: float, size: int, draw: Draw) -> Image.Image:
    """A sprite of width x height units; `draw` gets the pixels per unit."""
    k = size / FRAME
    shape = (max(1, round(width * k)), max(1, round(height * k)))
    image = Image.new("RGBA", (shape[0] * _OVERSAMPLE, shape[1] * _OVERSAMPLE))
    draw(ImageDraw.Draw(image), k * _OVERSAMPLE)
    return image.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA")


def _note(color: tuple[int, int, int]) -> Draw:
    def draw(canvas: ImageDraw.ImageDraw, k: float) -> None:
        for grow, fill in ((1.6, (20, 14, 50)), (0.0, color)):
            canvas.ellipse([v * k for v in (2 - grow, 13 - grow, 10 + grow, 19.5 + grow)], fill=fill)
            canvas.rectangle([v * k for v in (7.6 - grow, 3 - grow, 10 + grow, 16 + grow)], fill=fill)
            flag = [(7.6 - grow, 3 - grow), (16 + grow, 6.5 - grow), (16 + grow, 11.5 + grow), (8, 7 + grow)]
            canvas.polygon([(x * k, y * k) for x, y in flag], fill=fill)

    return draw


def _zed(side: float) -> Draw:
    def draw(canvas: ImageDraw.ImageDraw, k: float) -> None:
        low, high = 2.6 * k, (side - 2.6) * k
        points = [(low, low), (high, low), (low, high), (high, high)]
        canvas.line(points, fill=(255, 255, 255), width=round(5.2 * k), joint="curve")
        canvas.line(points, fill=(50, 60, 210), width=round(2.6 * k), joint="curve")

    return draw


def _bar(width: float, height: float) -> Draw:
    """A white rounded bar with a soft dark rim, seen on any background."""

    def draw(canvas: ImageDraw.ImageDraw, k: float) -> None:
        radius = min(width, height) / 2 * k
        canvas.rounded_rectangle((0, 0, width * k, height * k), radius, fill=(40, 60, 120, 170))
        canvas.rounded_rectangle((k, k, (width - 1) * k, (height - 1) * k), radius, fill=(255, 255, 255))

    return draw


def _dust(radius: float) -> Draw:
    def draw(canvas: ImageDraw.ImageDraw, k: float) -> None:
        alpha = round(250 - 14 * radius)
        box = [v * k for v in (0.5, 0.5, 2 * radius - 0.5, 2 * radius - 0.5)]
        canvas.ellipse(box, fill=(240, 226, 200, alpha), outline=(140, 118, 90, alpha), width=round(1.2 * k))

    return draw


def _balloon(color: tuple[int, int, int]) -> Draw:
    def draw(canvas: ImageDraw.ImageDraw, k: float) -> None:
        canvas.line([(14 * k, 28 * k), (14 * k, 38 * k)], fill=(60, 50, 70), width=round(1.4 * k))
        canvas.polygon([(x * k, y * k) for x, y in ((11, 32), (17, 32), (14, 27))], fill=color)
        canvas.ellipse([v * k for v in (1, 0.5, 27, 29)], fill=color, outline=(60, 30, 50), width=round(k))
        canvas.ellipse([v * k for v in (6, 5, 12, 12)], fill=(255, 255, 255, 230))

    return draw


def _swirl(step: int, front: bool) -> Draw:
    """Near or far half of a flat ring of light: two comet tails that run round it, heads at the angle of `step`."""

    def draw(canvas: ImageDraw.ImageDraw, k: float) -> None:
        for grow, fill in ((1.0, (70, 60, 150)), (0.0, (255, 250, 190))):
            for tail in range(48):
                for start in (0.0, math.pi):
                    angle = start + 2 * math.pi * step / SWIRL_STEPS - 0.045 * tail
                    if (math.sin(angle) > 0) == front:
                        x, y, radius = 44 + 38 * math.cos(angle), 11 + 6.5 * math.sin(angle), 3.2 - 0.05 * tail + grow
                        canvas.ellipse([v * k for v in (x - radius, y - radius, x + radius, y + radius)], fill=fill)

    return draw


def cue_sprites(size: int) -> dict[str, list[Image.Image]]:
    """All cue pictures by kind, for pictures of `size` pixels."""
    notes = [_drawn(18, 22, size, _note(color)) for color in ((255, 230, 60), (255, 120, 200), (110, 230, 255))]
    balloons = [_drawn(28, 38, size, _balloon(color)) for color in ((235, 50, 60), (60, 120, 240), (250, 190, 40))]
    return {
        "note": notes,
        "z": [_drawn(side, side, size, _zed(side)) for side in (13, 17, 21)],
        "streak": [_drawn(14 + 2 * i, 5.5, size, _bar(14 + 2 * i, 5.5)) for i in range(8)],
        "lift": [_drawn(5, 15, size, _bar(5, 15))],
        "dust": [_drawn(2 * radius, 2 * radius, size, _dust(radius)) for radius in np.linspace(4, 9, 8)],
        "balloon": balloons,
        "swirl_behind": [_drawn(88, 22, size, _swirl(step, False)) for step in range(SWIRL_STEPS)],
        "swirl_front": [_drawn(88, 22, size, _swirl(step, True)) for step in range(SWIRL_STEPS)],
    }


def shadow_sprites(size: int) -> list[Image.Image]:
    """Soft ground shadows; entry r is r units in half-width, entry 0 is unused."""

    def ellipse(radius: int) -> Draw:
        return lambda canvas, k: canvas.ellipse((0, 0, 2 * radius * k, 9 * k), fill=(0, 0, 0, 105))

    return [_drawn(2 * max(1, radius), 9, size, ellipse(radius)) for radius in range(40)]
