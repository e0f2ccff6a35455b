"""Painters of the places people (or planets) made: Times Square, outer space, a stage, a castle."""

from data_tools.world.canvas import FRAME, GROUND, WIDTH, Canvas, Color, Point, rgb, shift

WHITE = (255, 255, 255)
_NEON: tuple[Color, ...] = (
    (255, 40, 150),
    (40, 220, 255),
    (255, 215, 40),
    (110, 255, 90),
    (255, 100, 40),
    (180, 90, 255),
)


def _box(x: float, y: float, width: float, height: float) -> list[Point]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _billboard(canvas: Canvas, x: float, y: float, width: float, height: float, color: Color) -> None:
    rng = canvas.rng
    canvas.glow([(_box(x - 3, y - 3, width + 6, height + 6), color)], alpha=120, blur=3)
    canvas.rectangle(x - 1, y - 1, width + 2, height + 2, WHITE)
    canvas.rectangle(x, y, width, height, color)
    middle_x, middle_y, unit = x + width / 2, y + height / 2, min(width, height)
    kind = rng.randrange(4)
    if kind == 0:
        for row in (0.22, 0.62):
            canvas.rectangle(x + width * 0.15, y + height * row, width * 0.7, height * 0.17, WHITE)
    elif kind == 1:
        canvas.circle(middle_x, middle_y, unit * 0.3, (30, 20, 70))
    elif kind == 2:
        s = unit * 0.32
        canvas.polygon(
            [(middle_x - s, middle_y - s), (middle_x + s, middle_y), (middle_x - s, middle_y + s)], (30, 20, 70)
        )
    else:
        canvas.rectangle(x + width * 0.12, y + height * 0.15, width * 0.32, height * 0.7, WHITE)
        canvas.rectangle(x + width * 0.56, y + height * 0.15, width * 0.32, height * 0.7, (30, 20, 70))


def times_square(canvas: Canvas, time: str) -> None:
    """Neon billboards on dark towers left and right; a dark gap between them for the actor."""
    rng = canvas.rng
    canvas.sky(*(((14, 10, 48), (92, 40, 116)) if time == "night" else ((70, 40, 110), (230, 120, 110))))
    for x in range(32, 116, 14):  # far towers, nearly as dark as the sky
        canvas.rectangle(x, rng.uniform(46, 66), 13, 80, canvas.near((44, 30, 76), 6))
    left, right = rng.uniform(40, 50), WIDTH - rng.uniform(40, 50)
    for start, end in ((0.0, left), (right, float(WIDTH))):
        canvas.rectangle(start, rng.uniform(2, 12), end - start, GROUND, canvas.near((34, 28, 58), 6))
        y, colors = rng.uniform(8, 16), rng.sample(_NEON, 4)
        for color in colors:
            height = rng.uniform(20, 32)
            if y + height > GROUND - 12:
                break
            margin = rng.uniform(4, 9)
            _billboard(canvas, start + margin, y, end - start - 2 * margin, height, color)
            y += height + rng.uniform(6, 10)
    canvas.rectangle(0, GROUND - 8, WIDTH, FRAME, canvas.near((62, 60, 76), 8))
    canvas.rectangle(0, GROUND - 8, WIDTH, 2.5, (140, 136, 150))
    start = rng.uniform(-20, 0)
    for i in range(7):
        canvas.rectangle(start + 28 * i, GROUND + 12, 15, 2.5, (250, 205, 60))


def space(canvas: Canvas, time: str) -> None:
    """Stars, a planet, and grey moon ground."""
    rng = canvas.rng
    canvas.sky((6, 6, 24), rng.choice([(34, 16, 70), (14, 24, 74), (50, 14, 60)]), 6)
    for _ in range(46):
        canvas.circle(
            rng.uniform(0, WIDTH), rng.uniform(0, 96), rng.uniform(0.4, 1.1), rng.choice([WHITE, (255, 236, 180)])
        )
    canvas.glyph(
        rng.choice("🪐🌍"), rng.uniform(24, 34), rng.choice([28, 120]) + rng.uniform(-10, 10), rng.uniform(36, 48)
    )
    canvas.ellipse(WIDTH / 2, GROUND + 86, WIDTH * 0.95, 96, canvas.near((128, 126, 142), 10))
    for _ in range(7):
        x, y, radius = rng.uniform(0, WIDTH), rng.uniform(GROUND - 2, FRAME), rng.uniform(4, 9)
        canvas.ellipse(x, y, radius, radius * 0.4, (98, 96, 112))
        canvas.ellipse(x, y + 0.8, radius * 0.85, radius * 0.28, (112, 110, 126))


def stage(canvas: Canvas, time: str) -> None:
    """A dark red wall between curtains, a spotlight, a wooden floor."""
    rng = canvas.rng
    wall = rng.choice([(64, 14, 34), (44, 18, 60), (26, 24, 66)])
    canvas.sky(wall, shift(wall, 34))
    middle, light = WIDTH / 2 + rng.uniform(-8, 8), rng.choice([(255, 240, 170), (255, 200, 230), (190, 230, 255)])
    for source in rng.sample([-40, 0, 40], rng.choice([1, 2, 2])):
        canvas.glow(
            [
                (
                    [(middle + source - 4, 0), (middle + source + 4, 0), (middle + 34, GROUND), (middle - 34, GROUND)],
                    light,
                )
            ],
            alpha=56,
            blur=1.5,
        )
    floor = canvas.near((170, 108, 58), 12)
    canvas.rectangle(0, GROUND - 7, WIDTH, FRAME, floor)
    for i in range(-6, 7):
        canvas.line([(middle + i * 14, GROUND - 7), (middle + i * 22, FRAME)], shift(floor, -40), 0.8)
    canvas.ellipse(middle, GROUND + 3, 40, 7, shift(floor, 36))
    width = rng.uniform(26, 34)
    red = canvas.near((196, 26, 44), 16)
    dark = rgb(c * 0.68 for c in red)
    for i in range(5):
        for x in (i * width / 5, WIDTH - (i + 1) * width / 5):
            canvas.rectangle(x, 0, width / 5, GROUND + 2, red if i % 2 else dark)
    for i in range(8):
        canvas.ellipse(i * 22 + 1, 0, 12, 12, (240, 190, 70))
        canvas.ellipse(i * 22 + 1, 0, 11, 10, red)


def _tower(canvas: Canvas, x: float, width: float, top: float, stone: Color, roof: Color, night: bool) -> None:
    canvas.rectangle(x - width / 2, top, width, GROUND - top, stone)
    canvas.polygon([(x - width / 2 - 3, top), (x, top - width * 1.1), (x + width / 2 + 3, top)], roof)
    window = (255, 220, 110) if night else (70, 66, 90)
    canvas.rectangle(x - 2.5, top + 10, 5, 9, window)
    canvas.circle(x, top + 10, 2.5, window)


def castle(canvas: Canvas, time: str) -> None:
    """A stone castle with pointed towers; its plain wall stands behind the actor."""
    rng = canvas.rng
    skies = {
        "day": ((110, 176, 240), (214, 234, 250)),
        "sunset": ((120, 90, 170), (255, 190, 130)),
        "night": ((14, 18, 56), (62, 70, 130)),
    }
    canvas.sky(*skies[time])
    stone = canvas.near({"day": (178, 174, 184), "sunset": (176, 146, 148), "night": (92, 96, 128)}[time], 10)
    shade = shift(stone, -18)
    roof = canvas.near(rng.choice([(190, 60, 60), (60, 90, 180), (120, 70, 160)]), 10)
    wall_top = rng.uniform(50, 60)
    canvas.rectangle(14, wall_top, WIDTH - 28, GROUND, shade)
    for x in range(16, WIDTH - 16, 12):
        canvas.rectangle(x, wall_top - 5, 7, 6, shade)
    for center in (24 + rng.uniform(-8, 6), WIDTH - 24 + rng.uniform(-6, 8)):
        _tower(canvas, center, rng.uniform(24, 30), rng.uniform(32, 44), stone, roof, time == "night")
    grass = canvas.near({"day": (110, 170, 80), "sunset": (120, 140, 70), "night": (40, 70, 70)}[time], 10)
    canvas.ground(GROUND - 8, grass, wave=1)
    path = {"day": (214, 190, 150), "sunset": (206, 164, 124), "night": (90, 92, 110)}[time]
    middle = WIDTH / 2 + rng.uniform(-14, 14)
    canvas.polygon(
        [(middle - 12, GROUND - 8), (middle + 12, GROUND - 8), (middle + 40, FRAME), (middle - 40, FRAME)], path
    )
