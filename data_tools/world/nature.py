"""Painters of natural scenes: beach, forest, snowy mountain, desert, underwater, meadow, volcano, clouds."""

import math

from data_tools.world.canvas import FRAME, GROUND, WIDTH, Canvas, Color, rgb

WHITE = (255, 255, 255)
_LIGHT: dict[str, Color] = {"day": WHITE, "sunset": (255, 214, 190), "night": (120, 130, 190)}


def _edge(canvas: Canvas, reach: float = 24) -> float:
    """A place near the left or right edge, away from the actor."""
    x = canvas.rng.uniform(2, reach)
    return x if canvas.rng.random() < 0.5 else WIDTH - x


def _sun_or_moon(canvas: Canvas, time: str) -> None:
    rng = canvas.rng
    x, y = rng.choice([26, 122]) + rng.uniform(-14, 14), rng.uniform(15, 26)
    if time == "night":
        canvas.circle(x, y, 9, (245, 245, 215))
        for _ in range(24):
            canvas.circle(rng.uniform(0, WIDTH), rng.uniform(0, 56), rng.uniform(0.4, 0.9), WHITE)
    elif time == "sunset":
        canvas.circle(x, y + 18, 14, (255, 232, 150))
    else:
        canvas.circle(x, y, 11, (255, 240, 130))


def _cloud(canvas: Canvas, x: float, y: float, size: float, color: Color) -> None:
    for dx, dy, radius in ((-0.9, 0.15, 0.5), (-0.3, -0.15, 0.7), (0.4, -0.05, 0.6), (0.95, 0.2, 0.42)):
        canvas.ellipse(x + dx * size, y + dy * size, radius * size, radius * size * 0.72, color)


def _open_sky(canvas: Canvas, time: str) -> None:
    skies: dict[str, tuple[Color, Color]] = {
        "day": ((84, 174, 246), (206, 236, 255)),
        "sunset": ((120, 90, 180), (255, 170, 110)),
        "night": ((10, 14, 50), (54, 66, 130)),
    }
    canvas.sky(*skies[time])
    _sun_or_moon(canvas, time)


def _lit(canvas: Canvas, color: Color, time: str, spread: int = 10) -> Color:
    return rgb(c * light / 255 for c, light in zip(canvas.near(color, spread), _LIGHT[time], strict=True))


def beach(canvas: Canvas, time: str) -> None:
    """Sea, sand, a palm or two, perhaps a sunshade."""
    rng = canvas.rng
    _open_sky(canvas, time)
    horizon = rng.uniform(64, 74)
    canvas.ground(horizon, _lit(canvas, (26, 134, 206), time))
    for _ in range(6):
        x, y = rng.uniform(0, WIDTH), rng.uniform(horizon + 4, GROUND - 12)
        canvas.line([(x, y), (x + rng.uniform(10, 22), y)], _lit(canvas, (190, 230, 250), time), 1)
    canvas.ground(GROUND - 9, _lit(canvas, (236, 246, 250), time, 4), wave=2, length=rng.uniform(50, 90))
    canvas.ground(GROUND - 6, _lit(canvas, (244, 216, 150), time), wave=2, length=rng.uniform(50, 90))
    canvas.glyph("🌴", rng.uniform(64, 80), _edge(canvas, 20), GROUND - 2)
    if rng.random() < 0.5:
        canvas.glyph("⛱", rng.uniform(28, 36), _edge(canvas, 20), GROUND + 4)
    if rng.random() < 0.5:
        canvas.glyph("🐚", 9, rng.uniform(8, WIDTH - 8), FRAME - 4)


def _fir(canvas: Canvas, x: float, foot: float, height: float, color: Color) -> None:
    canvas.rectangle(x - height * 0.04, foot - height * 0.2, height * 0.08, height * 0.2, (104, 74, 48))
    for level in range(3):
        top, width = foot - height * (1 - 0.22 * level), height * (0.17 + 0.07 * level)
        canvas.polygon([(x, top), (x - width, top + height * 0.42), (x + width, top + height * 0.42)], color)


def forest(canvas: Canvas, time: str) -> None:
    """Misty rows of firs, large trees at the edges, grass."""
    rng = canvas.rng
    canvas.sky(*(((168, 214, 190), (120, 184, 140)) if time == "day" else ((20, 44, 66), (34, 76, 80))))
    rows: tuple[tuple[Color, float, int], ...] = (((116, 178, 138), 52, 9), ((84, 152, 106), 44, 8))
    for color, height, count in rows:
        for i in range(count):
            x = (i + rng.uniform(0.2, 0.8)) * WIDTH / count
            _fir(canvas, x, GROUND - 6, height * rng.uniform(0.9, 1.2), _lit(canvas, color, time, 4))
    canvas.ground(GROUND - 9, _lit(canvas, (70, 142, 62), time), wave=1.5)
    for _ in range(26):
        x, y = rng.uniform(0, WIDTH), rng.uniform(GROUND + 2, FRAME)
        canvas.line([(x, y), (x + rng.uniform(-2, 2), y - 4)], _lit(canvas, (112, 184, 84), time, 14), 1)
    for x in (rng.uniform(2, 18), WIDTH - rng.uniform(2, 18)):
        _fir(canvas, x, GROUND + 2, rng.uniform(96, 118), _lit(canvas, (26, 96, 60), time, 8))
    if rng.random() < 0.5:
        canvas.glyph("🍄", rng.uniform(12, 17), _edge(canvas, 34), GROUND + 10)


def snow(canvas: Canvas, time: str) -> None:
    """A white-capped peak, snow on the ground and in the air."""
    rng = canvas.rng
    _open_sky(canvas, time)
    for _ in range(rng.choice([2, 2, 3])):
        x, height, half = rng.uniform(10, WIDTH - 10), rng.uniform(62, 88), rng.uniform(46, 64)
        canvas.polygon(
            [(x - half, GROUND), (x, GROUND - height), (x + half, GROUND)], _lit(canvas, (112, 128, 160), time, 8)
        )
        cap, foot = half * 0.42, GROUND - height * 0.58
        edge = [(x + cap, foot), (x + cap * 0.45, foot + 7), (x, foot - 3), (x - cap * 0.5, foot + 7), (x - cap, foot)]
        canvas.polygon([(x, GROUND - height), *edge], _lit(canvas, (250, 252, 255), time, 3))
    canvas.ground(GROUND - 9, _lit(canvas, (238, 244, 252), time, 5), wave=2, length=rng.uniform(60, 110))
    if rng.random() < 0.7:
        x, height = _edge(canvas, 18), rng.uniform(44, 60)
        _fir(canvas, x, GROUND - 2, height, _lit(canvas, (60, 120, 110), time))
        canvas.polygon(
            [
                (x, GROUND - 2 - height),
                (x - height * 0.12, GROUND - 2 - height * 0.7),
                (x + height * 0.12, GROUND - 2 - height * 0.7),
            ],
            WHITE,
        )
    for _ in range(36):
        canvas.circle(rng.uniform(0, WIDTH), rng.uniform(0, FRAME), rng.uniform(0.7, 1.3), WHITE)


def desert(canvas: Canvas, time: str) -> None:
    """Dunes under an orange sky, cacti at the edges, sometimes a pyramid."""
    rng = canvas.rng
    skies: dict[str, tuple[Color, Color]] = {
        "day": ((250, 176, 96), (255, 230, 170)),
        "sunset": ((190, 80, 90), (255, 180, 90)),
        "night": ((24, 18, 60), (110, 80, 120)),
    }
    canvas.sky(*skies[time])
    _sun_or_moon(canvas, time)
    if rng.random() < 0.35:
        x, height = _edge(canvas, 40), rng.uniform(34, 46)
        canvas.polygon(
            [(x - height, GROUND - 16), (x, GROUND - 16 - height), (x + height, GROUND - 16)],
            _lit(canvas, (222, 164, 96), time),
        )
        canvas.polygon(
            [(x + height * 0.3, GROUND - 16), (x, GROUND - 16 - height), (x + height, GROUND - 16)],
            _lit(canvas, (196, 136, 76), time, 4),
        )
    for depth, color in enumerate(((230, 160, 90), (220, 142, 72), (236, 170, 96))):
        canvas.ground(
            GROUND - 27 + 9 * depth,
            _lit(canvas, color, time, 8),
            wave=rng.uniform(3, 7) - 1.5 * depth,
            length=rng.uniform(80, 150),
        )
    canvas.glyph("🌵", rng.uniform(38, 54), _edge(canvas, 18), GROUND + 2)
    if rng.random() < 0.4:
        canvas.glyph("🌵", rng.uniform(20, 30), _edge(canvas, 40), GROUND - 6)


def underwater(canvas: Canvas, time: str) -> None:
    """Blue water with rays of light, bubbles, seaweed and coral on a sandy floor."""
    rng = canvas.rng
    deep = rng.random() < 0.35
    canvas.sky(*(((20, 110, 190), (4, 30, 96)) if deep else ((70, 200, 236), (10, 84, 170))))
    rays = []
    for _ in range(4):
        x, slant = rng.uniform(0, WIDTH + 30), rng.uniform(20, 50)
        rays.append(([(x, 0.0), (x + 12, 0.0), (x - slant, float(GROUND)), (x - slant - 20, float(GROUND))], WHITE))
    canvas.glow(rays, alpha=30, blur=1)
    canvas.ground(GROUND - 4, canvas.near((150, 150, 120) if deep else (206, 190, 140), 8), wave=2)
    for _ in range(6):
        x, height, phase = _edge(canvas, 44), rng.uniform(22, 48), rng.uniform(0, 6)
        stalk = [(x + 3 * math.sin(step / 1.6 + phase), GROUND + 6 - step * height / 8) for step in range(9)]
        canvas.line(stalk, canvas.near((34, 150, 84), 20), 3.4)
    for _ in range(rng.choice([1, 2, 3])):
        canvas.glyph("🪸", rng.uniform(18, 26), _edge(canvas, 40), GROUND + 10)
    for _ in range(10):
        x, y, radius = rng.uniform(0, WIDTH), rng.uniform(6, GROUND - 16), rng.uniform(1.2, 3)
        canvas.circle(x, y, radius, (190, 235, 250))
        canvas.circle(x, y, radius * 0.68, (90, 180, 225))


def meadow(canvas: Canvas, time: str) -> None:
    """Rolling green hills, flowers, clouds, now and then a rainbow."""
    rng = canvas.rng
    _open_sky(canvas, time)
    if time == "day" and rng.random() < 0.3:
        center = rng.uniform(30, WIDTH - 30)
        for i, color in enumerate(((240, 90, 90), (250, 180, 70), (250, 240, 110), (110, 200, 110), (90, 140, 230))):
            canvas.arch(center, GROUND - 14, 70 - 3 * i, 3.4, color)
    for _ in range(2):
        _cloud(
            canvas,
            rng.uniform(0, WIDTH),
            rng.uniform(14, 34),
            rng.uniform(9, 14),
            _lit(canvas, (250, 252, 255), time, 4),
        )
    canvas.ground(GROUND - 26, _lit(canvas, (140, 204, 96), time), wave=6, length=rng.uniform(90, 160))
    canvas.ground(GROUND - 10, _lit(canvas, (112, 190, 72), time), wave=2, length=rng.uniform(70, 120))
    for _ in range(16):
        x, y = rng.uniform(0, WIDTH), rng.uniform(GROUND + 1, FRAME - 2)
        color = _lit(canvas, rng.choice([(250, 90, 110), (255, 255, 255), (255, 220, 60), (200, 110, 240)]), time, 6)
        canvas.line([(x, y), (x, y + 4)], _lit(canvas, (60, 140, 50), time), 1)
        canvas.circle(x, y, 2.2, color)
        canvas.circle(x, y, 0.9, (250, 200, 60))


def volcano(canvas: Canvas, time: str) -> None:
    """A glowing cone to one side, smoke, black rock with lava streams."""
    rng = canvas.rng
    canvas.sky(
        *rng.choice([((50, 14, 24), (200, 70, 40)), ((36, 20, 40), (230, 120, 60)), ((70, 24, 20), (170, 60, 50))])
    )
    x, top = rng.choice([40, 108]) + rng.uniform(-8, 8), rng.uniform(40, 50)
    smoke = canvas.near((96, 74, 80), 8)
    for i in range(4):
        canvas.circle(x + rng.uniform(-5, 5) + 2 * i, top - 6 - 10 * i, 8 + 2.5 * i, smoke)
    canvas.glow(
        [([(x - 10, top + 4), (x - 16, top - 24), (x + 16, top - 24), (x + 10, top + 4)], (255, 140, 40))], 190, 4
    )
    canvas.polygon([(x - 62, GROUND), (x - 11, top), (x + 11, top), (x + 62, GROUND)], canvas.near((66, 42, 48), 6))
    lava, bright = (255, 96, 24), (255, 200, 60)
    canvas.polygon(
        [
            (x - 11, top),
            (x + 11, top),
            (x + 6, top + 14),
            (x + 9, top + 34),
            (x + 1, top + 22),
            (x - 4, top + 46),
            (x - 6, top + 16),
        ],
        lava,
    )
    canvas.ellipse(x, top, 11, 2.6, bright)
    canvas.ground(GROUND - 9, canvas.near((50, 38, 46), 6), wave=2, length=rng.uniform(50, 90))
    for _ in range(3):
        x, y, length = rng.uniform(0, WIDTH), rng.uniform(GROUND + 9, FRAME - 5), rng.uniform(14, 24)
        canvas.ellipse(x, y, length, 3, lava)
        canvas.ellipse(x, y, length * 0.7, 1.3, bright)


def clouds(canvas: Canvas, time: str) -> None:
    """Floor and banks of clouds in a soft sky."""
    rng = canvas.rng
    day = rng.choice([((120, 180, 255), (226, 240, 255)), ((150, 170, 250), (255, 220, 240))])
    canvas.sky(*(day if time == "day" else ((150, 110, 200), (255, 190, 150))))
    white: Color = (252, 253, 255) if time == "day" else (255, 232, 222)
    shade: Color = (184, 208, 244) if time == "day" else (232, 170, 186)
    for _ in range(3):
        _cloud(canvas, _edge(canvas, 50), rng.uniform(16, 60), rng.uniform(9, 16), canvas.near(white, 3))
    for y, color, radius in ((GROUND - 8, shade, 18), (GROUND + 8, white, 19)):
        start = rng.uniform(-16, 0)
        for i in range(9):
            canvas.ellipse(start + 24 * i, y + rng.uniform(0, 5), radius, radius * 0.7, color)
        canvas.rectangle(0, y + 5, WIDTH, FRAME, color)
