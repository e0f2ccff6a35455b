"""The board's judge: which actor, scene and verb a video shows, by a small network trained on rendered clips alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_json, load_state_dict, save_model

NO_VERB = "none"  # what frames without order are: right for no clip
STILL_VERB = "standing"  # what a clip without any change is
_STEM = "model"


@dataclass(frozen=True)
class RecogniserConfig:
    """What a recogniser knows, and the videos it was trained for."""

    actors: tuple[str, ...]
    scenes: tuple[str, ...]
    verbs: tuple[str, ...]
    num_frames: int = 16
    fps: float = 8.0
    size: int = 64  # pixels: appearance is seen in frames so high and wide
    motion_size: int = 32  # motion in these
    width: int = 32  # channels of the first level
    appearance_features: int = 32
    motion_features: int = 16


@dataclass(frozen=True)
class Judgement:
    """What is seen in one video, and the features it is seen by."""

    actor: str
    scene: str
    verb: str  # from motion alone; NO_VERB for frames without order
    features: NDArray[np.float64]  # (appearance_features + motion_features,)


def _conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.body(x)
        return x


class _OverTime(nn.Module):
    """Residual convolution over three frames of (B*F, C, h, w)."""

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        frames_along = x.view(-1, self.num_frames, c, h * w).transpose(1, 2)
        mixed = F.relu(self.norm(self.conv(frames_along)))
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Recogniser(nn.Module):
    """Actor and scene from single frames, the verb from the differences of neighbouring frames and nothing else."""

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.config = config
        c, steps = config.width, config.num_frames - 1
        self.appearance = nn.Sequential(
            _conv(3, c, 2), _conv(c, 2 * c, 2), _Residual(2 * c), _conv(2 * c, 4 * c, 2), _Residual(4 * c)
        )
        self.appearance_features = nn.Linear(8 * c, config.appearance_features)
        self.actor = nn.Linear(config.appearance_features, len(config.actors))
        self.scene = nn.Linear(config.appearance_features, len(config.scenes))
        self.motion = nn.Sequential(
            _conv(3, c, 2), _OverTime(c, steps), _conv(c, 2 * c, 2), _OverTime(2 * c, steps),
            _conv(2 * c, 3 * c), _OverTime(3 * c, steps),
        )  # fmt: skip
        self.motion_features = nn.Linear(6 * c, config.motion_features)
        self.verb = nn.Linear(config.motion_features, len(config.verbs) + 1)

    def see_frames(self, frames: Tensor) -> Tensor:
        """Appearance features (N, D) of frames (N, 3, size, size) from -0.5 to 0.5."""
        features: Tensor = self.appearance_features(_pooled(self.appearance(frames)))
        return features

    def see_motion(self, video: Tensor) -> Tensor:
        """Motion features (B, D) of video (B, F, 3, h, w), motion_size, from -0.5 to 0.5, by its differences."""
        differences = 4 * video.diff(dim=1)
        hidden = _pooled(self.motion(differences.flatten(0, 1))).view(len(video), -1, self.motion_features.in_features)
        features: Tensor = self.motion_features(hidden.mean(1))
        return features

    @torch.inference_mode()
    def judge(self, frames: NDArray[np.uint8]) -> Judgement:
        """What a video shows: uint8 (F, H, W, 3), as many frames as in the config, at its frame rate."""
        config = self.config
        assert len(frames) == config.num_frames, f"{len(frames)} frames, trained for {config.num_frames}"
        seen = self.see_frames(prepare(frames, config.size))
        moved = self.see_motion(prepare(frames, config.motion_size)[None])[0]
        actor, scene = self.actor(seen).softmax(1).mean(0).argmax(), self.scene(seen).softmax(1).mean(0).argmax()
        return Judgement(
            config.actors[actor],
            config.scenes[scene],
            (*config.verbs, NO_VERB)[self.verb(moved).argmax()],
            torch.cat([seen.mean(0), moved]).double().numpy(),
        )

    def weights_sha256(self) -> str:
        """One hash for all weights, in hexadecimal."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def _pooled(x: Tensor) -> Tensor:
    """Mean and maximum over places: (N, C, h, w) -> (N, 2C)."""
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def prepare(frames: NDArray[np.uint8], size: int) -> Tensor:
    """Frames uint8 (F, H, W, 3) as float (F, 3, size, size) from -0.5 to 0.5."""
    video = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
    return F.interpolate(video, (size, size), mode="bilinear", antialias=True)


def save_recogniser(recogniser: Recogniser, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `config.json`, with `facts` on its training, and `model.safetensors` in half precision."""
    config = {**asdict(recogniser.config), "training": dict(facts)}
    save_model(folder, config, recogniser.state_dict(), _STEM, torch.float16)


def load_recogniser(folder: Path) -> Recogniser:
    """Read what `save_recogniser` wrote; InputError where it is missing or does not fit."""
    config: dict[str, Any] = load_json(folder / "config.json")
    config.pop("training", None)
    try:
        for name in ("actors", "scenes", "verbs"):
            config[name] = tuple(config[name])
        recogniser = Recogniser(RecogniserConfig(**config))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'config.json'} is no recogniser's ({error}): make one with `t2v evaluate train-recogniser`"
        ) from error
    state_dict = load_state_dict(folder, _STEM)
    check_state_dict(recogniser, state_dict, str(folder))
    recogniser.load_state_dict(state_dict)
    return recogniser.eval().requires_grad_(False)
