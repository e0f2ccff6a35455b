"""What a person may choose about one video, with its rules. Free of torch: commands check before they load."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypedDict

from t2v.errors import InputError
from t2v.models.unet_config import NOISE_PRIORS

if TYPE_CHECKING:
    from t2v.diffusion.schedule import TimestepSpacing

MAX_FPS = 240.0
FRAME_GUIDANCE = 1.2  # of the interpolation network: how closely to follow the known frames; 1 is without guidance
TIMESTEP_SPACINGS = ("leading", "trailing", "linspace")
GUIDANCES = ("video", "image")  # which network says what the text changes, see `t2v.diffusion.guidance`


class Hint(StrEnum):
    """What the interpolation network is shown in place of frames between known ones."""

    CROSSFADE = "crossfade"  # of their latents, as in training
    FLOW = "flow"  # of the pictures, moved by their optical flow


class GenerationOptions(TypedDict, total=False):
    """The fields of `GenerationSettings`, each optional: what a call or a command line overrides."""

    num_frames: int
    fps: float
    height: int
    width: int
    num_inference_steps: int
    sampler: str
    timestep_spacing: "TimestepSpacing | None"
    guidance: str
    guidance_scale: float
    guidance_rescale: float
    motion_guidance: float
    shared_noise: float
    noise_prior: str
    deflicker: float
    negative_prompt: str
    prompt_at: Mapping[int, str]
    chunk_size: int
    tile_size: int | None
    attention_chunk_size: int | None
    context_frames: int | None
    context_overlap: int


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of one video. A value out of range raises InputError."""

    num_frames: int = 16
    fps: float = 8.0  # frames per second, both what the network is told and what the file plays at
    height: int = 512  # pixels
    width: int = 512  # pixels
    num_inference_steps: int = 25
    sampler: str = "dpmpp_2m"
    timestep_spacing: "TimestepSpacing | None" = None  # one of TIMESTEP_SPACINGS; None: the scheduler's
    guidance: str = "video"  # one of GUIDANCES
    guidance_scale: float = 7.5  # 1 turns guidance off
    guidance_rescale: float = 0.0  # 0 to 1, arXiv 2305.08891 section 3.4
    motion_guidance: float = 1.0  # how closely to follow the temporal layers, with guidance by the image model
    shared_noise: float = 0.0  # correlation of the noise of frames: more is steadier and moves less
    noise_prior: str = "mixed"  # one of NOISE_PRIORS: of all frames alike, or most of neighbours
    deflicker: float = 0.0  # changes of the latents below about this are averaged away; 0: none
    negative_prompt: str = ""
    prompt_at: Mapping[int, str] = field(default_factory=dict)  # prompts of later frames; between them they blend
    chunk_size: int = 8  # frames decoded at once
    tile_size: int | None = (
        None  # pixels along a side of the tiles that frames are decoded in; None: large frames alone
    )
    attention_chunk_size: int | None = None  # frames that attention layers work on at once; None: all
    context_frames: int | None = None  # longer videos are denoised in windows of so many frames; None: never
    context_overlap: int = 4  # frames that neighbouring windows share at least

    def __post_init__(self) -> None:
        for name in ("num_frames", "height", "width", "num_inference_steps", "chunk_size"):
            _check_count(name, getattr(self, name))
        for name in ("tile_size", "attention_chunk_size"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        for name, low, high in (
            ("fps", -math.inf, math.inf),
            ("guidance_scale", 0.0, math.inf),
            ("guidance_rescale", 0.0, 1.0),
            ("motion_guidance", 0.0, math.inf),
            ("shared_noise", -math.inf, math.inf),
            ("deflicker", 0.0, 10.0),
        ):
            _check_number(name, getattr(self, name), low, high)
        if not 0 <= self.shared_noise < 1:
            raise InputError(f"shared_noise must be from 0 to below 1, got {self.shared_noise:g}")
        if 0 < self.deflicker < 0.001:
            raise InputError(f"deflicker must be 0, for none, or at least 0.001, got {self.deflicker:g}")
        self._check_context()
        self._read_prompt_at()
        if not 0 < self.fps <= MAX_FPS:
            raise InputError(f"fps must be above 0 and at most {MAX_FPS:g}, got {self.fps:g}")
        for name in ("sampler", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be text, got {getattr(self, name)!r}")
        if self.guidance not in GUIDANCES:
            raise InputError(f"unknown guidance {self.guidance!r}; known are {', '.join(GUIDANCES)}")
        if self.noise_prior not in NOISE_PRIORS:
            raise InputError(f"unknown noise_prior {self.noise_prior!r}; known are {', '.join(NOISE_PRIORS)}")
        if self.timestep_spacing not in (None, *TIMESTEP_SPACINGS):
            known = ", ".join(TIMESTEP_SPACINGS)
            raise InputError(f"unknown timestep_spacing {self.timestep_spacing!r}; known are {known}")

    def _check_context(self) -> None:
        _check_number("context_overlap", self.context_overlap, 0, math.inf)
        if self.context_frames is None:
            return
        _check_count("context_frames", self.context_frames)
        if not isinstance(self.context_overlap, int) or self.context_overlap >= self.context_frames:
            raise InputError(
                f"context_overlap must be a whole number below context_frames {self.context_frames}, got "
                f"{self.context_overlap!r}"
            )

    def _read_prompt_at(self) -> None:
        """Check the prompts of later frames and put them in order; in JSON their frames are strings."""
        given = self.prompt_at
        if not isinstance(given, Mapping) or not all(str(frame).isdecimal() for frame in given):
            raise InputError(f"prompt_at must give prompts by frame numbers, as in {{12: 'a dog'}}, got {given!r}")
        prompts = dict(sorted((int(frame), prompt) for frame, prompt in given.items()))
        if 0 in prompts:
            raise InputError("prompt_at gives frame 0 a prompt: that is the prompt itself, prompt_at is for later ones")
        for prompt in prompts.values():
            check_prompt(prompt)
        object.__setattr__(self, "prompt_at", prompts)

    def check_frames(self) -> None:
        """Raise InputError for a prompt at a frame that the video does not have."""
        for frame in self.prompt_at:
            if frame >= self.num_frames:
                raise InputError(
                    f"prompt_at gives frame {frame} a prompt, the video has frames 0 to {self.num_frames - 1}: use one "
                    "of those, or more num_frames"
                )

    @property
    def frames_at_once(self) -> int:
        """Frames that the U-Net sees together."""
        return self.num_frames if self.context_frames is None else min(self.num_frames, self.context_frames)

    @classmethod
    def check_options(cls, options: dict[str, Any], source: str) -> GenerationOptions:
        """The options unchanged; InputError for an unknown name (found in `source`) or a value out of range."""
        known = [setting.name for setting in fields(cls)]
        for name in options:
            if name not in known:
                raise InputError(f"{source} has the unknown setting {name!r}; known are {', '.join(known)}")
        cls(**options)
        return GenerationOptions(**options)  # type: ignore[typeddict-item]

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values for JSON."""
        return asdict(self)

    def check_size(self, multiple: int) -> None:
        """Raise InputError unless height, width and tile_size are multiples of `multiple` pixels."""
        for name in ("height", "width", "tile_size"):
            value = getattr(self, name)
            if value is not None and value % multiple:
                below, above = value // multiple * multiple, (value // multiple + 1) * multiple
                choices = f"{below} or {above}" if below else f"{above}"
                raise InputError(f"{name} {value} is not a multiple of {multiple}, as this model needs: use {choices}")


def check_prompt(prompt: str) -> None:
    """Raise InputError for a prompt without any words."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError('the prompt is empty: say what the video shows, as in "robot dancing in Times Square"')


def check_seed(seed: int, num_videos: int = 1) -> None:
    """Raise InputError unless seed .. seed + num_videos - 1 are seeds that a generator takes (0 to 2^63 - 1)."""
    _check_count("num_videos", num_videos)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= 2**63 - num_videos:
        raise InputError(f"seed must be a whole number from 0 to 2^63 - {num_videos}, got {seed!r}")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, got {value!r}")
    if not low <= value <= high:
        limits = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise InputError(f"{name} must be {limits}, got {value:g}")
