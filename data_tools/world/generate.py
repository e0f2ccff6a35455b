"""Write the world to a folder: pictures or clips, and a manifest. Item i depends on the seed and on i alone."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from data_tools.world.actors import GlyphSource, actors_of
from data_tools.world.sprites import actor_sprite
from data_tools.world.verbs import Shot
from data_tools.world.world import World
from t2v.data.manifest import MANIFEST_NAME, ClipRow, write_manifest
from t2v.data.video_io import EncodeOptions, write_video
from t2v.errors import InputError

CLIP_FPS = 24
_PER_FOLDER = 1000
_SPRITE_INDEX = "actors.json"
_ENCODING = EncodeOptions(crf=12, gop=12, preset="veryfast", threads=1)

Progress = Callable[[int], None]
"""Called with the number of items just finished."""


@dataclass(frozen=True)
class WorldConfig:
    """What to generate."""

    output: Path
    num: int
    seed: int = 0
    preset: str = "small"
    held_out: bool = False  # only held-out pairs, for evaluation; otherwise never one of them
    captions: bool = True
    labels: bool = False  # columns actor, scene, verb, and for clips actor_path
    size: int = 128
    workers: int = 1
    num_backgrounds: int = 128  # per scene
    overwrite: bool = False

    def check(self) -> None:
        """InputError for values that make no sense."""
        for name, least in (("num", 1), ("size", 16), ("workers", 1), ("num_backgrounds", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.size % 2:
            raise InputError(f"size must be even, got {self.size}")
        actors_of(self.preset)


def generate_images(config: WorldConfig, glyphs: GlyphSource, progress: Progress = lambda done: None) -> Path:
    """Captioned stills: PNG files and manifest.parquet under config.output."""
    return _generate(config, _write_still, glyphs, progress)


def generate_clips(config: WorldConfig, glyphs: GlyphSource, progress: Progress = lambda done: None) -> Path:
    """Clips of 4 to 6 s at 24 fps: mp4 files and manifest.parquet under config.output."""
    return _generate(config, _write_clip, glyphs, progress)


def generate_board(config: WorldConfig, glyphs: GlyphSource, progress: Progress = lambda done: None) -> Path:
    """What a scoreboard needs, each in a folder under config.output, 4 * config.num clips in all.

    seen/ and held-out/: captioned clips of pairs that training sees, and of those that it never sees; reference/: twice
    as many of the latter; sprites/.
    """
    folder = config.output
    for part in (
        replace(config, output=folder / "seen"),
        replace(config, output=folder / "held-out", seed=config.seed + 1, held_out=True),
        replace(config, output=folder / "reference", seed=config.seed + 2, held_out=True, num=2 * config.num),
    ):
        generate_clips(part, glyphs, progress)
    write_sprites(folder / "sprites", config.preset, config.size, glyphs, config.overwrite)
    return folder


def write_sprites(folder: Path, preset: str, size: int, glyphs: GlyphSource, overwrite: bool = False) -> Path:
    """One RGBA PNG per actor at scale 1, looking as its glyph does, and actors.json with its name and facing."""
    with new_folder(folder, overwrite) as temporary:
        index = {}
        for actor in actors_of(preset):
            name = f"{actor.name.replace(' ', '_')}.png"
            actor_sprite(actor, glyphs, size).save(temporary / name)
            index[actor.name] = {"file": name, "facing": actor.facing}
        (temporary / _SPRITE_INDEX).write_text(json.dumps(index, indent=1))
    return folder


@contextmanager
def new_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `folder`, moved there at the end or removed when an exception passes."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise InputError(f"{folder} is not empty; choose another folder or pass --overwrite")
        if not any((folder / name).is_file() for name in (MANIFEST_NAME, _SPRITE_INDEX)):
            raise InputError(f"{folder} holds something else than generated data; choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        temporary.mkdir()
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    try:
        yield temporary
        if folder.is_dir():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_WriteItem = Callable[[World, WorldConfig, Path, int], ClipRow]
_world: World  # of this worker process


def _generate(config: WorldConfig, write_item: _WriteItem, glyphs: GlyphSource, progress: Progress) -> Path:
    config.check()
    with new_folder(config.output, config.overwrite) as temporary:
        for start in range(0, config.num, _PER_FOLDER):
            (temporary / _folder_of(start)).mkdir()
        task = partial(_write_in_worker, write_item, config, temporary)
        rows = []
        for row in _map(task, config, glyphs):
            rows.append(row)
            progress(1)
        write_manifest(rows, temporary / MANIFEST_NAME)
    return config.output


def _map(task: Callable[[int], ClipRow], config: WorldConfig, glyphs: GlyphSource) -> Iterator[ClipRow]:
    """Results for 0..num-1 in order, from this process or from config.workers of them."""
    if config.workers == 1:
        _start_worker(config, glyphs)
        yield from map(task, range(config.num))
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(config.workers, _start_pool_worker, (config, glyphs)) as pool:
        yield from pool.imap(task, range(config.num), chunksize=16)


def _start_pool_worker(config: WorldConfig, glyphs: GlyphSource) -> None:
    """An interrupt is for the parent, which stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _start_worker(config, glyphs)


def _start_worker(config: WorldConfig, glyphs: GlyphSource) -> None:
    global _world
    _world = World(glyphs, config.size, config.preset, config.seed, config.num_backgrounds)


def _write_in_worker(write_item: _WriteItem, config: WorldConfig, root: Path, index: int) -> ClipRow:
    return write_item(_world, config, root, index)


def _folder_of(index: int) -> str:
    return f"{index // _PER_FOLDER:04d}"


def _write_still(world: World, config: WorldConfig, root: Path, index: int) -> ClipRow:
    rng = random.Random(f"still-{config.seed}-{index}")
    shot = world.sample(rng, config.held_out)
    name = f"{_folder_of(index)}/{index:07d}.png"
    Image.fromarray(world.render(shot, world.telling_time(shot, rng))).save(root / name, compress_level=1)
    row = _row(root, name, world, config, shot, rng)
    row.num_frames, row.codec = 1, "png"
    return row


def _write_clip(world: World, config: WorldConfig, root: Path, index: int) -> ClipRow:
    rng = random.Random(f"clip-{config.seed}-{index}")
    shot = world.sample(rng, config.held_out)
    num_frames = rng.randint(4 * CLIP_FPS, 6 * CLIP_FPS)
    name = f"{_folder_of(index)}/{index:07d}.mp4"
    view = world.view(shot)
    times = [frame / CLIP_FPS for frame in range(num_frames)]
    write_video(root / name, (world.render(shot, t, view) for t in times), CLIP_FPS, options=_ENCODING)
    row = _row(root, name, world, config, shot, rng)
    row.num_frames, row.codec, row.end = num_frames, "h264", num_frames / CLIP_FPS
    row.fps, row.fps_rational = float(CLIP_FPS), f"{CLIP_FPS}/1"
    if config.labels:
        row.extra["actor_path"] = actor_path(world, shot, times)
    return row


def actor_path(world: World, shot: Shot, times: list[float]) -> str:
    """Ground truth as JSON: per frame x, y (centre, pixels), angle (degrees clockwise), turn (width factor, signed)."""
    poses = [world.pose(shot, t) for t in times]
    k = world.size / 128
    return json.dumps(
        {
            "x": [round(pose.x * k, 2) for pose in poses],
            "y": [round(pose.y * k, 2) for pose in poses],
            "angle": [round(pose.angle, 2) for pose in poses],
            "turn": [round(pose.turn, 3) for pose in poses],
            "scale": round(shot.scale, 4),
        }
    )


def _row(root: Path, name: str, world: World, config: WorldConfig, shot: Shot, rng: random.Random) -> ClipRow:
    digest = hashlib.sha256((root / name).read_bytes()).hexdigest()[:16]
    row = ClipRow(digest, name, width=config.size, height=config.size)
    if config.captions:
        row.caption = world.caption(shot, rng)
    if config.labels:
        row.extra = {"actor": shot.actor.name, "scene": shot.scene.name, "verb": shot.verb}
    return row
