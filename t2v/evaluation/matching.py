"""Where an actor is in each frame of a clip, found by matching its picture: no network judges, nothing is trained."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MATCH_HEIGHT = 64  # frames are compared at this height at most: quicker, and blur matters less
SCALES = (0.7, 0.77, 0.84, 0.92, 1.0)  # sizes of the actor tried, relative to its picture; one for a whole clip
_TILTS = (-30.0, -24.0, -18.0, -12.0, -6.0, 6.0, 12.0, 18.0, 24.0, 30.0, -90.0, 90.0)
POSES = (
    *((0.0, turn, 1.0) for turn in (1.0, 0.65, 0.35, -0.35, -0.65, -1.0)),
    *((tilt, turn, 1.0) for tilt in _TILTS for turn in (1.0, -1.0)),
    *((0.0, turn, 0.83) for turn in (1.1, -1.1)),
)
"""What is tried in every frame: angle in degrees clockwise, width factor (negative is mirrored), height factor."""

_SCALE_FRAMES = 4  # frames that decide the scale
_RING = 2  # pixels, at the height of matching, round the actor that show what it stands before
_NOISE = 3 * (16 / 255) ** 2  # variance over three colours that any match is allowed
_CANDIDATES = 12  # places per frame among which the path chooses
_STEP = 0.1  # of the height: how far an actor easily moves between frames
_STEP_COST = 0.03  # of a step that long, in units of gain


@dataclass(frozen=True)
class ActorPath:
    """An actor in every frame, arrays (F,); what a method cannot see is NaN."""

    x: NDArray[np.float64]  # centre, pixels from the left edge
    y: NDArray[np.float64]  # centre, pixels from the upper edge
    angle: NDArray[np.float64]  # degrees, clockwise
    turn: NDArray[np.float64]  # width factor, negative is mirrored
    score: NDArray[np.float64]  # how well it is seen: the gain of the match, above 0.3 for a sharp picture


@dataclass(frozen=True)
class _Template:
    """The actor in one pose; its centre is the middle of S x S pixels, S odd. Masks sum to 1."""

    weight: Tensor  # (S, S): where the actor is
    ring: Tensor  # (S, S): round it
    picture: Tensor  # (3, S, S): colours times weight
    area: float  # relative to the upright actor at scale 1


def match_actor(frames: NDArray[np.uint8], sprite: NDArray[np.uint8], height: int) -> ActorPath:
    """Find an actor in every frame by matching its picture at every place, scaled, tilted, mirrored and narrowed.

    A place and pose gains `area / 2 * log(null / error)`: error is the mean squared difference of frame and picture,
    null that of the frame and the mean colour round the actor, so that flat places and lucky small poses gain
    nothing. The path through the frames has the largest sum of gains less a cost for long steps (Viterbi).

    Args:
        frames: uint8 (F, H, W, 3).
        sprite: uint8 (h, w, 4), RGB and alpha; the actor at scale 1 in pictures of `height` pixels.
        height: unit of the result: pixels of frames that are `height` high, whatever H is.
    """
    factor = min(1.0, MATCH_HEIGHT / height)
    video = _small(frames, round(height * factor))
    picked = video[torch.linspace(0, len(video) - 1, min(_SCALE_FRAMES, len(video))).round().long()]
    fits = [_gains(picked, _templates(sprite, factor, scale)).amax((0, 2, 3)).sum() for scale in SCALES]
    gains = _gains(video, _templates(sprite, factor, SCALES[int(torch.stack(fits).argmax())]))
    best, poses = gains.max(0)
    rows, columns = _smooth_path(best)
    frame = torch.arange(len(video))
    angle, turn, _ = np.array(POSES)[poses[frame, rows, columns].numpy()].T
    return ActorPath(
        x=(columns + 0.5 + _vertex(best, rows, columns, 0, 1)).double().numpy() / factor,
        y=(rows + 0.5 + _vertex(best, rows, columns, 1, 0)).double().numpy() / factor,
        angle=angle,
        turn=np.clip(turn, -1, 1),
        score=best[frame, rows, columns].double().numpy(),
    )


def _small(frames: NDArray[np.uint8], height: int) -> Tensor:
    """Frames as float (F, 3, height, width) from -0.5 to 0.5."""
    video = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
    width = round(video.shape[3] * height / video.shape[2])
    return F.interpolate(video, (height, width), mode="bilinear", antialias=True)


def _templates(sprite: NDArray[np.uint8], factor: float, scale: float) -> list[_Template]:
    """An actor (uint8 (h, w, 4)) in every pose, at `factor` times `scale` of its size."""
    picture = torch.from_numpy(np.array(sprite)).permute(2, 0, 1).float() / 255
    picture[:3] = (picture[:3] - 0.5) * picture[3:]
    full_area = float(picture[3].sum()) * factor**2
    height, width = (size * factor * scale for size in picture.shape[1:])
    small = F.interpolate(picture[None], (math.ceil(height), math.ceil(width)), mode="bilinear", antialias=True)
    side = 2 * math.ceil(math.hypot(height, width) / 2 + _RING) + 1
    inverse = torch.tensor([_inverse(*pose, side, height, width) for pose in POSES])
    grid = F.affine_grid(inverse, [len(POSES), 4, side, side], align_corners=False)
    posed = F.grid_sample(small.expand(len(POSES), -1, -1, -1), grid, align_corners=False)
    color, alpha = posed[:, :3], posed[:, 3]
    ring = (F.max_pool2d(alpha, 2 * _RING + 1, 1, _RING) - alpha).clamp(min=0)
    return [_template(*parts, full_area) for parts in zip(color, alpha, ring, strict=True)]


def _template(color: Tensor, alpha: Tensor, ring: Tensor, full_area: float) -> _Template:
    area = alpha.sum()
    return _Template(alpha / area, ring / ring.sum(), color / area, float(area) / full_area)


def _inverse(angle: float, across: float, along: float, side: int, height: float, width: float) -> list[list[float]]:
    """Rows of the map from places in a posed picture to places in the upright one, both from -1 to 1."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = side / (width * across), side / (height * along)
    return [[cos * x, sin * x, 0.0], [-sin * y, cos * y, 0.0]]


def _gains(video: Tensor, templates: list[_Template]) -> Tensor:
    """Gain of every pose with its centre at every pixel of video (F, 3, H, W): (P, F, H, W). By FFT."""
    height, width = video.shape[2:]
    padded = F.pad(video, [templates[0].weight.shape[0] // 2] * 4, mode="replicate")
    size = padded.shape[2:]
    colors, square = torch.fft.rfft2(padded), torch.fft.rfft2(padded.square().sum(1, keepdim=True))
    gains = torch.empty(len(templates), len(video), height, width)
    for gain, template in zip(gains, templates, strict=True):
        masks = torch.cat([template.picture, template.weight[None], template.ring[None]])
        picture, weight, ring = torch.fft.rfft2(masks, s=size).conj().split((3, 1, 1))
        products = [(colors * picture).sum(1, keepdim=True), square * weight, colors * weight, colors * ring]
        sums = torch.fft.irfft2(torch.cat(products, 1), s=size)[..., :height, :width]
        cross, power, inside, around = sums.split((1, 1, 3, 3), 1)
        own_power = (template.picture.square() / template.weight.clamp(min=1e-6)).sum()
        error = (power - 2 * cross)[:, 0] + own_power
        null = power[:, 0] + (around * (around - 2 * inside)).sum(1)
        gain.copy_(template.area / 2 * torch.log((null + _NOISE) / (error + _NOISE)))
    return gains


def _smooth_path(gain: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns (F,) of the best path through the gains (F, H, W)."""
    num_frames, height, width = gain.shape
    peaks = torch.where(gain == F.max_pool2d(gain, 5, 1, 2), gain, gain.min()).flatten(1)
    value, place = peaks.topk(min(_CANDIDATES, height * width), dim=1)
    at = torch.stack([place // width, place % width], -1).float()
    total, came_from = value[0], []
    for frame in range(1, num_frames):
        steps = torch.cdist(at[frame - 1][None], at[frame][None])[0] / (_STEP * height)
        total, source = (total[:, None] - _STEP_COST * steps.square()).max(0)
        total = total + value[frame]
        came_from.append(source)
    chosen = [int(total.argmax())]
    for source in reversed(came_from):
        chosen.append(int(source[chosen[-1]]))
    picked = place[torch.arange(num_frames), torch.tensor(chosen[::-1])]
    return picked // width, picked % width


def _vertex(gain: Tensor, rows: Tensor, columns: Tensor, down: int, right: int) -> Tensor:
    """Where between -0.5 and 0.5 the parabola through a peak and its two neighbours has its top."""
    num_frames, height, width = gain.shape

    def at(step: int) -> Tensor:
        row, column = (rows + step * down).clamp(0, height - 1), (columns + step * right).clamp(0, width - 1)
        return gain[torch.arange(num_frames), row, column]

    before, here, after = at(-1), at(0), at(1)
    return (0.5 * (before - after) / (before - 2 * here + after).clamp(max=-1e-9)).clamp(-0.5, 0.5)
