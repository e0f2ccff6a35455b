"""The synthetic world: which shots exist, and how a moment of a shot looks."""

import hashlib
import math
import random
from functools import lru_cache

import numpy as np
from PIL import Image

from data_tools.world import captions
from data_tools.world.actors import Actor, GlyphSource, actors_of
from data_tools.world.canvas import FRAME, GROUND, WIDTH
from data_tools.world.scenes import BY_NAME, SCENES, Scene, paint, time_of_day
from data_tools.world.sprites import actor_sprite, cue_sprites, shadow_sprites
from data_tools.world.verbs import SIZE, VERBS, Body, Pose, Shot, is_telling

_HELD_OUT = {
    ("robot", "times_square"),
    ("cat", "space"),
    ("dog", "stage"),
    ("car", "beach"),
    ("unicorn", "underwater"),
    ("penguin", "desert"),
    ("elephant", "snow"),
    ("rocket", "forest"),
}


def is_held_out(actor: str, scene: str) -> bool:
    """Whether an (actor, scene) pair is kept out of every training set: a fixed list, and 4% of the rest by hash."""
    if (actor, scene) in _HELD_OUT:
        return True
    return int.from_bytes(hashlib.sha256(f"{actor}|{scene}".encode()).digest()[:4], "big") % 25 == 0


class World:
    """Renders shots. Everything is a function of the arguments here and of the rng passed to a method.

    Args:
        size: height and width of the pictures in pixels.
        preset: "small" or "large", how many actors there are.
        seed: chooses the backgrounds; another seed gives other paintings of the same scenes.
        num_backgrounds: paintings per scene.
        glyphs: where the emoji come from.
    """

    def __init__(
        self, glyphs: GlyphSource, size: int = 128, preset: str = "small", seed: int = 0, num_backgrounds: int = 128
    ) -> None:
        self.size, self.seed, self.num_backgrounds = size, seed, num_backgrounds
        self.actors = actors_of(preset)
        self._glyphs = glyphs
        self._actor = lru_cache(maxsize=None)(lambda actor: actor_sprite(actor, glyphs, size))
        self._background = lru_cache(maxsize=None)(
            lambda scene, variant: paint(BY_NAME[scene], variant, self.seed, self.size, self._glyphs)
        )
        self._cues = cue_sprites(size)
        self._shadows = shadow_sprites(size)
        self._pairs = {
            held_out: [(a, s) for a in self.actors for s in SCENES if is_held_out(a.name, s.name) == held_out]
            for held_out in (False, True)
        }

    def sample(self, rng: random.Random, held_out: bool = False, verb: str | None = None) -> Shot:
        """A random shot of a training pair, or of a held-out pair."""
        actor, scene = rng.choice(self._pairs[held_out])
        return self.shot(rng, actor, scene, verb or rng.choice(list(VERBS)))

    def shot(self, rng: random.Random, actor: Actor, scene: Scene, verb: str) -> Shot:
        """A shot of the given actor, scene and verb, the rest at random."""
        return Shot(
            actor=actor,
            scene=scene,
            verb=verb,
            variant=rng.randrange(self.num_backgrounds),
            offset=rng.uniform(0, WIDTH - FRAME),
            direction=rng.choice((-1, 1)),
            x=FRAME / 2 + rng.uniform(-9, 9),
            phase=rng.random(),
            scale=rng.uniform(0.88, 1.0) * SIZE.get(verb, 1.0),
            rate=rng.uniform(0.88, 1.12),
            amplitude=rng.uniform(0.88, 1.12),
            brightness=rng.uniform(0.92, 1.06),
            colors=(rng.randrange(3), rng.randrange(3), rng.randrange(3)),
        )

    def body(self, shot: Shot) -> Body:
        """Half width and half height of the actor in this shot, units."""
        sprite = self._actor(shot.actor)
        unit = FRAME / self.size / 2 * shot.scale
        return Body(sprite.width * unit, sprite.height * unit)

    def pose(self, shot: Shot, t: float) -> Pose:
        """Where the actor is at t seconds."""
        return VERBS[shot.verb](shot, self.body(shot), t)

    def telling_time(self, shot: Shot, rng: random.Random) -> float:
        """A moment, in seconds, at which a still shows the verb."""
        while True:
            t = rng.uniform(0, 4)
            if is_telling(shot.verb, self.pose(shot, t)):
                return t

    def caption(self, shot: Shot, rng: random.Random) -> str:
        """Words for a shot."""
        return captions.caption(shot, time_of_day(shot.scene, shot.variant, self.seed), rng)

    def view(self, shot: Shot) -> Image.Image:
        """The background of a shot, size x size RGB."""
        left = round(shot.offset * self.size / FRAME)
        view = self._background(shot.scene.name, shot.variant).crop((left, 0, left + self.size, self.size))
        return view.point([min(255, round(v * shot.brightness)) for v in range(256)] * 3)

    def render(self, shot: Shot, t: float, view: Image.Image | None = None) -> np.ndarray:
        """A moment of a shot: uint8 (size, size, 3). Pass `view(shot)` to render many moments of one shot faster."""
        image = (view or self.view(shot)).copy()
        pose = self.pose(shot, t)
        if pose.shadow:
            self._paste(image, self._shadows[round(pose.shadow)], pose.x, GROUND + 1)
        for cue in pose.behind:
            self._paste(image, self._cues[cue.kind][cue.index], cue.x, cue.y)
        self._paste_actor(image, shot, pose)
        for cue in pose.front:
            self._paste(image, self._cues[cue.kind][cue.index], cue.x, cue.y)
        return np.asarray(image)

    def _paste(self, image: Image.Image, sprite: Image.Image, x: float, y: float) -> None:
        k = self.size / FRAME
        image.paste(sprite, (round(x * k - sprite.width / 2), round(y * k - sprite.height / 2)), sprite)

    def _paste_actor(self, image: Image.Image, shot: Shot, pose: Pose) -> None:
        """Stretch and turn the actor about its centre, rotate it, and paste it at a sub-pixel place."""
        sprite, k, facing = self._actor(shot.actor), self.size / FRAME, shot.actor.facing
        mirror = 1.0 if facing == 0 and shot.verb != "spinning" else pose.turn * (facing or 1)
        across, along = shot.scale * pose.stretch_x * mirror, shot.scale * pose.stretch_y
        cos, sin = math.cos(math.radians(pose.angle)), math.sin(math.radians(pose.angle))
        half_x = (abs(cos * across) * sprite.width + abs(sin * along) * sprite.height) / 2 + 1
        half_y = (abs(sin * across) * sprite.width + abs(cos * along) * sprite.height) / 2 + 1
        left, top = math.floor(pose.x * k - half_x), math.floor(pose.y * k - half_y)
        shape = (math.ceil(2 * half_x) + 1, math.ceil(2 * half_y) + 1)
        x, y = pose.x * k - left, pose.y * k - top  # the centre, in the posed picture
        a, b, d, e = cos / across, sin / across, -sin / along, cos / along
        matrix = (a, b, sprite.width / 2 - a * x - b * y, d, e, sprite.height / 2 - d * x - e * y)
        posed = sprite.transform(shape, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        image.paste(posed, (left, top), posed)
