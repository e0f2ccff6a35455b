"""Synthetic edits with known cuts: shots joined by hard cuts and fades, with flashes and fast pans inside the shots."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

WIDTH, HEIGHT = 256, 144
Shot = list[np.ndarray]
ShotSource = Callable[[np.random.Generator, int], Shot]
"""Gives a shot of that many frames, uint8 (HEIGHT, WIDTH, 3)."""


@dataclass(frozen=True)
class Edit:
    """Frames at 25 per second, and where their shots change."""

    frames: Shot
    cuts: list[int]  # first frame of the next shot
    fades: list[tuple[int, int]]  # frames start..end-1 of fades and dissolves


def painted_shot(rng: np.random.Generator, num_frames: int) -> Shot:
    """A camera that stands, drifts or whips over a painted landscape, with things that move and some noise."""
    landscape = _landscape(rng)
    speed = rng.choice([0.0, 1.0, 3.0, 12.0])
    backwards = rng.random() < 0.5
    things = [
        (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.normal(0, 3, 2), rng.integers(0, 256, 3)) for _ in range(3)
    ]
    grain = rng.integers(0, 6, (8, HEIGHT, WIDTH, 3), np.uint8)
    shot = []
    for i in range(num_frames):
        left = int(speed * (num_frames - i if backwards else i))
        frame = landscape[:, left : left + WIDTH].copy()
        for x, y, velocity, color in things:
            place = (int(x + velocity[0] * i) % WIDTH, int(y + velocity[1] * i) % HEIGHT)
            cv2.circle(frame, place, 14, [int(c) for c in color], -1)
        shot.append(cv2.add(frame, grain[rng.integers(8)]))
    return shot


def _landscape(rng: np.random.Generator) -> np.ndarray:
    """Three layers of coloured noise, coarse to fine: uint8 (HEIGHT, 1600, 3)."""
    picture = np.full((HEIGHT, 1600, 3), rng.uniform(40, 200, 3))
    for cell, strength in ((80, 50), (30, 30), (8, 15)):
        coarse = rng.normal(0, strength, (HEIGHT // cell + 2, 1600 // cell + 2, 3))
        picture += cv2.resize(coarse, (1600, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 255).astype(np.uint8)


def make_edit(rng: np.random.Generator, source: ShotSource, joins: tuple[str, ...]) -> Edit:
    """Shots of 1.5 to 4 s joined as `joins` say: cut, fade (through black) or dissolve."""
    frames = with_flash(source(rng, int(rng.integers(38, 100))), rng)
    cuts, fades = [], []
    for join in joins:
        shot = with_flash(source(rng, int(rng.integers(38, 100))), rng)
        if join == "cut":
            cuts.append(len(frames))
            frames += shot
        else:
            length = int(rng.integers(8, 20))
            joined = (faded if join == "fade" else dissolved)(frames, shot, length)
            start = len(frames) - length
            fades.append((start, start + (2 * length if join == "fade" else length)))
            frames = joined
    return Edit(frames, cuts, fades)


def with_flash(shot: Shot, rng: np.random.Generator) -> Shot:
    """A third of the shots get a flash of 1 to 3 frames, far from their ends."""
    if rng.random() < 1 / 3:
        start, length, light = int(rng.integers(16, len(shot) - 20)), int(rng.integers(1, 4)), rng.uniform(0.4, 0.9)
        for i in range(start, start + length):
            shot[i] = (shot[i] * (1 - light) + 255 * light).astype(np.uint8)
    return shot


def faded(before: Shot, after: Shot, length: int) -> Shot:
    """`before` goes to black in `length` frames, then `after` comes from it."""
    weights = np.linspace(1, 0, length)
    out = [(frame * weight).astype(np.uint8) for frame, weight in zip(before[-length:], weights, strict=True)]
    into = [(frame * weight).astype(np.uint8) for frame, weight in zip(after[:length], weights[::-1], strict=True)]
    return before[:-length] + out + into + after[length:]


def dissolved(before: Shot, after: Shot, length: int) -> Shot:
    """`length` frames in which `before` becomes `after`."""
    weights = np.linspace(0, 1, length + 2)[1:-1]
    pairs = zip(before[-length:], after[:length], weights, strict=True)
    mixed = [(a * (1 - weight) + b * weight).astype(np.uint8) for a, b, weight in pairs]
    return before[:-length] + mixed + after[length:]


def matched(found: list[int], true: list[int], tolerance: int) -> int:
    """How many of the true places have a found one of their own within `tolerance` frames."""
    rest, hits = sorted(found), 0
    for place in sorted(true):
        near = [other for other in rest if abs(other - place) <= tolerance]
        if near:
            rest.remove(min(near, key=lambda other: abs(other - place)))
            hits += 1
    return hits
