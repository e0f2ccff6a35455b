"""Pictures for people: all scenes and verbs at a glance, and each verb in time."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.world.scenes import SCENES
from data_tools.world.verbs import VERBS
from data_tools.world.world import World, is_held_out
from t2v.errors import InputError


def contact_sheet(world: World, seed: int) -> np.ndarray:
    """One still for every scene (rows) and verb (columns), with an actor of a training pair: uint8 (H, W, 3)."""
    rng = random.Random(f"sheet-{seed}")
    rows = []
    for scene in SCENES:
        actors = [actor for actor in world.actors if not is_held_out(actor.name, scene.name)]
        shots = [world.shot(rng, rng.choice(actors), scene, verb) for verb in VERBS]
        rows.append([world.render(shot, world.telling_time(shot, rng)) for shot in shots])
    return _grid(rows)


def motion_strips(world: World, seed: int, num_frames: int = 16, fps: float = 8) -> np.ndarray:
    """One clip for every verb (rows), frame after frame: uint8 (H, W, 3)."""
    rng = random.Random(f"strips-{seed}")
    shots = [world.sample(rng, verb=verb) for verb in VERBS]
    return _grid([[world.render(shot, frame / fps) for frame in range(num_frames)] for shot in shots])


def _grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def save_sheet(picture: np.ndarray, path: Path) -> None:
    """Write a PNG, replacing the file only when it is complete; InputError for a missing folder or another format."""
    if path.suffix.lower() != ".png":
        raise InputError(f"a sheet is a .png file, got {path.name}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(picture).save(temporary, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
