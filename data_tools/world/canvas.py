"""Drawing in world units: one unit is 1/128 of the picture's height, whatever its size in pixels."""

import math
import random
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_tools.world.actors import GlyphSource

FRAME = 128  # world units along each side of a picture
WIDTH = 148  # a background is wider than the picture, so that the same painting gives many views
GROUND = 108  # where feet stand, in units from the top
_OVERSAMPLE = 2

Color = tuple[int, int, int]
Point = tuple[float, float]


def rgb(values: Iterable[float]) -> Color:
    """Three numbers as a colour, each clipped to 0..255."""
    red, green, blue = (min(255, max(0, round(value))) for value in values)
    return red, green, blue


def shift(color: Color, amount: int) -> Color:
    """A colour lightened (or, with a negative amount, darkened)."""
    return rgb(c + amount for c in color)


class Canvas:
    """A background being painted: WIDTH x FRAME units, drawn at twice the final size."""

    def __init__(self, size: int, glyphs: GlyphSource, rng: random.Random) -> None:
        self.k = size / FRAME * _OVERSAMPLE
        self.final = (round(WIDTH * size / FRAME), size)
        self.image = Image.new("RGB", (self.final[0] * _OVERSAMPLE, size * _OVERSAMPLE))
        self.draw = ImageDraw.Draw(self.image)
        self.glyphs = glyphs
        self.rng = rng

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.k, y * self.k) for x, y in points]

    def near(self, color: Color, spread: int = 12) -> Color:
        """A colour close to `color`, so that no two backgrounds are alike."""
        return rgb(c + self.rng.uniform(-spread, spread) for c in color)

    def sky(self, top: Color, bottom: Color, spread: int = 12) -> None:
        """Fill everything with a vertical gradient."""
        start, end = np.array(self.near(top, spread)), np.array(self.near(bottom, spread))
        weight = np.linspace(0, 1, self.image.height)[:, None, None]
        rows = (start * (1 - weight) + end * weight).astype(np.uint8)
        self.image.paste(Image.fromarray(np.repeat(rows, self.image.width, axis=1)))

    def rectangle(self, x: float, y: float, width: float, height: float, fill: Color) -> None:
        """Fill a rectangle whose upper left corner is (x, y)."""
        self.draw.rectangle(self._scaled([(x, y), (x + width, y + height)]), fill=fill)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, fill: Color) -> None:
        """Fill an ellipse around (x, y)."""
        box = self._scaled([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        self.draw.ellipse(box, fill=fill)

    def circle(self, x: float, y: float, radius: float, fill: Color) -> None:
        """Fill a circle around (x, y)."""
        self.ellipse(x, y, radius, radius, fill)

    def polygon(self, points: Sequence[Point], fill: Color) -> None:
        """Fill a polygon with these corners."""
        self.draw.polygon(self._scaled(points), fill=fill)

    def arch(self, x: float, y: float, radius: float, width: float, fill: Color) -> None:
        """The upper half of a circle's outline."""
        box = [v * self.k for v in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.arc(box, 180, 360, fill=fill, width=round(width * self.k))

    def line(self, points: Sequence[Point], fill: Color, width: float) -> None:
        """Draw a line through the points, at least one pixel wide."""
        self.draw.line(self._scaled(points), fill=fill, width=max(1, round(width * self.k)), joint="curve")

    def ground(self, y: float, fill: Color, wave: float = 0.0, length: float = 60.0) -> None:
        """Fill everything below y, along a gentle wave of the given height and length."""
        phase = self.rng.uniform(0, 2 * math.pi)
        edge = [(x, y + wave * math.sin(2 * math.pi * x / length + phase)) for x in range(-4, WIDTH + 8, 4)]
        self.polygon([*edge, (WIDTH + 4, FRAME + 1), (-4, FRAME + 1)], fill)

    def glyph(self, glyph: str, height: float, x: float, bottom: float) -> None:
        """Put an emoji of the given height with its foot at (x, bottom)."""
        picture = self.glyphs(glyph)
        shape = (max(1, round(picture.width * height * self.k / picture.height)), max(1, round(height * self.k)))
        picture = picture.resize(shape, Image.Resampling.LANCZOS)
        place = (round(x * self.k - picture.width / 2), round(bottom * self.k - picture.height))
        self.image.paste(picture, place, picture)

    def glow(self, shapes: Sequence[tuple[Sequence[Point], Color]], alpha: int, blur: float = 0.0) -> None:
        """Lay see-through polygons over the painting, softened by `blur` units."""
        layer = Image.new("RGBA", self.image.size)
        draw = ImageDraw.Draw(layer)
        for points, color in shapes:
            draw.polygon(self._scaled(points), fill=(*color, alpha))
        if blur:
            layer = layer.filter(ImageFilter.GaussianBlur(blur * self.k))
        self.image.paste(layer, (0, 0), layer)

    def finish(self) -> Image.Image:
        """The painting at its final size."""
        return self.image.resize(self.final, Image.Resampling.LANCZOS)
