"""What actors do: pose and cues as functions of time.

Every verb can be told from one still (a pose and a cue of its own) and moves in its own measurable way. Lengths are
in units of 1/128 of the picture, x to the right and y down; angles in degrees, clockwise; t in seconds from the start.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from data_tools.world.actors import Actor
from data_tools.world.canvas import FRAME, GROUND
from data_tools.world.scenes import Scene

_TAU = 2 * math.pi


@dataclass(frozen=True)
class Shot:
    """Everything that decides a clip or a still."""

    actor: Actor
    scene: Scene
    verb: str
    variant: int  # which background of the scene
    offset: float  # left edge of the view in the background, units
    direction: int  # -1 starts to the left, 1 to the right
    x: float  # where the actor stands, or the middle of its path
    phase: float  # 0..1, where in its cycle the motion starts
    scale: float  # size of the actor, 1 = largest
    rate: float  # speed relative to the verb's usual one
    amplitude: float  # extent of the motion relative to the usual one
    brightness: float  # of the background
    colors: tuple[int, int, int]  # which coloured notes, or which balloon


@dataclass(frozen=True)
class Cue:
    """A small picture beside the actor: kind and index of a sprite, centre in units."""

    kind: str
    index: int
    x: float
    y: float


@dataclass
class Pose:
    """The actor at one moment. `turn` scales the width: 1 looks right, -1 left, between them it is turning round."""

    x: float
    y: float
    angle: float = 0.0
    turn: float = 1.0
    stretch_x: float = 1.0
    stretch_y: float = 1.0
    shadow: float = 24.0
    behind: list[Cue] = field(default_factory=list)
    front: list[Cue] = field(default_factory=list)


@dataclass(frozen=True)
class Body:
    """Half the width and height of an actor in this shot, units."""

    half_width: float
    half_height: float


def _shuttle(shot: Shot, body: Body, speed: float, t: float) -> tuple[float, float]:
    """Position and turn of an actor that goes to and fro over the picture at `speed` units per second.

    The path is a triangle wave with rounded corners, asin(a sin) / asin(a); the actor turns round at its ends.
    """
    margin = min(body.half_width, 38.0)
    reach = (FRAME - 2 * margin) / 2 + 2
    cycle = shot.direction * _TAU * (shot.phase + t * speed * shot.rate / (4 * reach))
    sharpness = 0.985
    x = FRAME / 2 + reach * math.asin(sharpness * math.sin(cycle)) / math.asin(sharpness)
    turn = shot.direction * math.cos(cycle) / 0.22
    return x, math.copysign(min(1.0, max(0.3, abs(turn))), turn)


def dancing(shot: Shot, body: Body, t: float) -> Pose:
    """Sways from side to side once a second, leaning into it, with small hops; notes rise left and right."""
    swing = math.sin(_TAU * (shot.rate * t + shot.phase))
    x, hop = shot.x + 8 * shot.amplitude * swing, 4 * abs(swing)
    pose = Pose(x, GROUND - body.half_height - hop, 24 * shot.amplitude * swing, shot.direction)
    for i, side in enumerate((-1, 1, -shot.direction)):
        rise = (0.45 * shot.rate * t + shot.phase + 0.37 * i) % 1
        pose.front.append(Cue("note", shot.colors[i], shot.x + side * (40 + 4 * math.sin(_TAU * rise)), 72 - 46 * rise))
    return pose


def flying(shot: Shot, body: Body, t: float) -> Pose:
    """High and fast, nose up, with streaks behind; turns round at the edges of the picture."""
    x, turn = _shuttle(shot, body, 32, t)
    y = 42 + 4 * math.sin(_TAU * (0.5 * t + shot.phase))
    pose = Pose(x, y, -12 * turn, turn, shadow=0)
    if abs(turn) == 1:
        for i in range(3):
            length = (2.2 * shot.rate * t + shot.phase + 0.41 * i) % 1
            index = int(length * 8)
            pose.behind.append(Cue("streak", index, x - turn * (body.half_width + 8 + index), y - 13 + 14 * i))
    return pose


def running(shot: Shot, body: Body, t: float) -> Pose:
    """On the ground, leaning forward, dust behind; turns round at the edges of the picture."""
    x, turn = _shuttle(shot, body, 24, t)
    step = 3 * abs(math.sin(_TAU * (1.5 * shot.rate * t + shot.phase)))
    pose = Pose(x, GROUND - body.half_height - step, 9 * turn, turn)
    for i in range(3):
        age = (1.2 * shot.rate * t + shot.phase + i / 3) % 1
        distance = body.half_width + 2 + 20 * age
        pose.front.append(Cue("dust", int(age * 8), x - turn * distance, GROUND - 4 - 9 * age))
    return pose


def jumping(shot: Shot, body: Body, t: float) -> Pose:
    """Bounces once a second: stretched above a shrinking shadow with lift lines, squashed on landing."""
    u = (shot.rate * t + shot.phase) % 1
    height = 4 * u * (1 - u)
    squash = max(0.0, 1 - 5 * height)
    stretch_y = 1 - 0.18 * squash + 0.05 * height
    top = min(34.0, GROUND - 2 * body.half_height - 4)
    y = GROUND - body.half_height * stretch_y - top * shot.amplitude * height
    pose = Pose(shot.x, y, 0, shot.direction, 1 + 0.12 * squash, stretch_y, shadow=24 - 11 * height)
    if height > 0.3:
        pose.behind = [Cue("lift", 0, shot.x + 13 * i, y + body.half_height + 10 + 3 * (i == 0)) for i in (-1, 0, 1)]
    return pose


def sleeping(shot: Shot, body: Body, t: float) -> Pose:
    """Lies on its back and breathes slowly; growing Zs drift up."""
    breath = 1 + 0.05 * math.sin(_TAU * (0.4 * shot.rate * t + shot.phase))
    y = GROUND - body.half_width * breath + 2
    pose = Pose(shot.x, y, -90 * shot.direction, shot.direction, stretch_x=breath)
    for i in range(3):
        rise = (0.33 * shot.rate * t + shot.phase + i / 3) % 1
        x = shot.x - shot.direction * (8 + 30 * rise) + 2 * math.sin(_TAU * rise)
        pose.front.append(Cue("z", min(2, int(rise * 3)), x, y - body.half_width - 2 - 34 * rise))
    return pose


def standing(shot: Shot, body: Body, t: float) -> Pose:
    """Upright on the ground; breathes, hardly moves."""
    breath = 1 + 0.02 * math.sin(_TAU * (0.5 * shot.rate * t + shot.phase))
    return Pose(shot.x, GROUND - body.half_height * breath, 0, shot.direction, stretch_y=breath)


def spinning(shot: Shot, body: Body, t: float) -> Pose:
    """Turns about its upright axis like a skater; a ring of light runs round it."""
    revolution = 0.6 * shot.rate * t + shot.phase
    turn = shot.direction * math.cos(_TAU * revolution)
    y = GROUND - body.half_height - 3
    pose = Pose(shot.x, y, 0, math.copysign(max(0.25, abs(turn)), turn), shadow=20)
    index = int(revolution * shot.direction * SWIRL_STEPS) % SWIRL_STEPS
    pose.behind.append(Cue("swirl_behind", index, shot.x, y + 0.5 * body.half_height))
    pose.front.append(Cue("swirl_front", index, shot.x, y + 0.5 * body.half_height))
    return pose


def floating(shot: Shot, body: Body, t: float) -> Pose:
    """Hangs under a balloon and drifts slowly up and down."""
    drift = math.sin(_TAU * (0.3 * shot.rate * t + shot.phase))
    x = shot.x + 4 * math.sin(_TAU * (0.19 * t + shot.phase))
    y = 71 + 9 * shot.amplitude * drift + (28 - body.half_height) * 0.4
    pose = Pose(x, y, 4 * drift, shot.direction, shadow=12)
    pose.behind = [Cue("balloon", shot.colors[0], x, y - body.half_height - 15)]
    return pose


SWIRL_STEPS = 24

PoseAt = Callable[[Shot, Body, float], Pose]
VERBS: dict[str, PoseAt] = {
    verb.__name__: verb for verb in (dancing, flying, running, jumping, sleeping, standing, spinning, floating)
}

SIZE: dict[str, float] = {"flying": 0.9, "floating": 0.78, "jumping": 0.92, "sleeping": 0.94}
"""Verbs that need room draw the actor smaller by this factor."""


def is_telling(verb: str, pose: Pose) -> bool:
    """Whether a still of this moment shows the verb: not mid-turn, not just landed, not edge-on."""
    if verb in ("flying", "running"):
        return abs(pose.turn) == 1 and all(4 < cue.x < FRAME - 4 for cue in (*pose.behind, *pose.front))
    if verb == "jumping":
        return pose.shadow < 24 - 11 * 0.6
    if verb == "spinning":
        return abs(pose.turn) > 0.5
    if verb == "dancing":
        return abs(pose.angle) > 9
    return True
