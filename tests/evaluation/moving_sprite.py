"""For tests: a moving picture whose place is known, and a folder of rendered clips with truth."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from t2v.data.manifest import MANIFEST_NAME, ClipRow, write_manifest
from t2v.data.video_io import EncodeOptions, write_video

SIZE = 64


def make_sprite() -> np.ndarray:
    """An actor unlike its mirror image: uint8 (20, 16, 4)."""
    sprite = np.zeros((20, 16, 4), np.uint8)
    sprite[1:-1, 1:-1] = (220, 60, 40, 255)
    sprite[4:8, 2:6, :3] = (250, 240, 90)
    sprite[12:18, 9:14, :3] = (20, 30, 120)
    return sprite


def make_background(size: int = SIZE) -> np.ndarray:
    """Sky over ground with some clutter: uint8 (size, size, 3)."""
    background = np.full((size, size, 3), (110, 170, 220), np.uint8)
    background[size // 2 :] = (90, 140, 70)
    background[5:15, 5:25] = (230, 90, 60)
    background[-12:-4, -20:-6] = (150, 120, 100)
    return background


def draw_clip(x, y, angle=None, mirrored=None, background=None) -> np.ndarray:
    """The sprite with its centre at x, y (pixels, whole numbers), turned clockwise: uint8 (F, H, W, 3)."""
    background = make_background() if background is None else background
    frames = []
    for i in range(len(x)):
        image = Image.fromarray(background)
        sprite = Image.fromarray(make_sprite())
        if mirrored is not None and mirrored[i]:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.rotate(0 if angle is None else -angle[i], Image.Resampling.BICUBIC, expand=True)
        image.paste(sprite, (round(x[i] - sprite.width / 2), round(y[i] - sprite.height / 2)), sprite)
        frames.append(np.asarray(image))
    return np.stack(frames)


def write_clips(folder: Path) -> Path:
    """Four clips of 1 s at 8 fps: two that stand, two that run; captions in the words of the tiny model."""
    folder.mkdir()
    rows = []
    for i, verb in enumerate(("standing", "running", "standing", "running")):
        x = [20.0 + i + (4 * frame if verb == "running" else 0) for frame in range(8)]
        truth = {"x": x, "y": [36.0] * 8, "angle": [0.0] * 8, "turn": [1.0] * 8, "scale": 1.0}
        write_video(folder / f"{i}.mp4", draw_clip(x, truth["y"]), 8, options=EncodeOptions(crf=8, threads=1))
        row = ClipRow(f"clip{i}", f"{i}.mp4", end=1.0, num_frames=8, fps=8.0, width=SIZE, height=SIZE)
        row.caption = "a robot dancing in times square"
        row.extra = {"actor": "robot", "scene": "field", "verb": verb, "actor_path": json.dumps(truth)}
        rows.append(row)
    write_manifest(rows, folder / MANIFEST_NAME)
    return folder


def draw_glyph(_glyph: str) -> Image.Image:
    """A world without the emoji font: everything is this shape."""
    image = Image.new("RGBA", (100, 90))
    ImageDraw.Draw(image).polygon([(0, 0), (99, 30), (99, 89), (0, 89)], fill=(0, 255, 0, 255))
    return image


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    Image.fromarray(make_sprite()).save(folder / "robot.png")
    (folder / "actors.json").write_text(json.dumps({"robot": {"file": "robot.png", "facing": 1}}))
    return folder
