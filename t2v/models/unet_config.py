"""Configurations of the video U-Net: the public image part and the motion part."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from t2v.errors import InputError
from t2v.models.config_checks import are_widths, is_count

DOWN_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D")
UP_BLOCKS = ("CrossAttnUpBlock2D", "UpBlock2D")
VIDEO_UNET = "UNet3DConditionModel"  # class of U-Nets that have temporal layers of their own
NoisePriorKind = Literal["mixed", "progressive"]  # which frames of a video share their noise
NOISE_PRIORS = get_args(NoisePriorKind)
MID_BLOCKS = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None)

# Fields of the public format that change the network, with the values supported here.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "only_cross_attention": (False, None),
    "mid_block_scale_factor": (1,),
    "mid_block_only_cross_attention": (False, None),
    "dropout": (0,),
    "act_fn": ("silu", "swish"),
    "reverse_transformer_layers_per_block": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "dual_cross_attention": (False,),
    "class_embed_type": (None,),
    "addition_embed_type": (None,),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "cross_attention_norm": (None,),
}
INTEGERS = (
    "in_channels",
    "out_channels",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "transformer_layers_per_block",
)


@dataclass(frozen=True)
class VideoUNetConfig:
    """The fields of a public UNet2DConditionModel `config.json` that this network reads; defaults as in that format.

    `attention_head_dim` is the *number* of heads, of every level or of each (a misnomer of the format).
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 4
    out_channels: int = 4
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    transformer_layers_per_block: int = 1
    attention_head_dim: int | tuple[int, ...] = 8
    use_linear_projection: bool = False
    upcast_attention: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # JSON has lists
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        for name in INTEGERS:
            value = getattr(self, name)
            if not is_count(name, value):
                raise InputError(f"U-Net config: {name} must be one positive integer of a usual size, got {value!r}")
        if not are_widths(widths := self.block_out_channels):
            raise InputError(f"U-Net config: block_out_channels must be a list of widths, got {widths!r}")
        if not (is_count("heads", heads := self.attention_head_dim) or are_widths(heads)):
            raise InputError(f"U-Net config: attention_head_dim must be one or more positive integers, got {heads!r}")
        self._check_blocks()
        self._check_heads()

    def _check_blocks(self) -> None:
        levels = len(self.block_out_channels)
        for name, known in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
            types = getattr(self, name)
            if not isinstance(types, tuple):
                raise InputError(f"U-Net config: {name} must be a list of names, got {types!r}")
            if len(types) != levels:
                raise InputError(f"U-Net config: {name} has {len(types)} entries, block_out_channels has {levels}")
            for value in types:
                if value not in known:
                    raise InputError(f"U-Net config: {name} has {value!r}, supported are {', '.join(known)}")
        if self.mid_block_type not in MID_BLOCKS:
            raise InputError(f"U-Net config: mid_block_type is {self.mid_block_type!r}, supported are {MID_BLOCKS}")
        if self.downsample_padding not in (0, 1):
            raise InputError(f"U-Net config: downsample_padding must be 0 or 1, got {self.downsample_padding!r}")
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups:
                raise InputError(
                    f"U-Net config: block_out_channels has {channels}, not divisible by norm_num_groups "
                    f"{self.norm_num_groups}"
                )

    def _check_heads(self) -> None:
        heads = self.attention_head_dim
        if isinstance(heads, tuple) and len(heads) != len(self.block_out_channels):
            raise InputError(
                f"U-Net config: attention_head_dim has {len(heads)} entries, block_out_channels has "
                f"{len(self.block_out_channels)}"
            )
        for channels, num_heads in zip(self.block_out_channels, self.heads_per_level, strict=True):
            if num_heads < 1 or channels % num_heads:
                raise InputError(
                    f"U-Net config: attention_head_dim (the number of heads) is {num_heads}, which does not divide "
                    f"{channels} channels"
                )

    @property
    def heads_per_level(self) -> tuple[int, ...]:
        """Number of attention heads of each level, outermost first."""
        heads = self.attention_head_dim
        return heads if isinstance(heads, tuple) else (heads,) * len(self.block_out_channels)

    @property
    def time_channels(self) -> int:
        """Size of the time embedding."""
        return 4 * self.block_out_channels[0]

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "VideoUNetConfig":
        """Read a public `config.json`; InputError names the first field whose value is not supported."""
        if config.get("_class_name") == VIDEO_UNET:
            raise InputError(
                f"U-Net config: a {VIDEO_UNET} has temporal layers of its own, an image model is needed here: use one "
                "(its U-Net is a UNet2DConditionModel)"
            )
        for name, values in SUPPORTED.items():
            if name in config and config[name] not in values:
                raise InputError(
                    f"U-Net config: {name} is {config[name]!r}, supported is {values[0]!r}: "
                    "use a Stable Diffusion 1.x or 2.x model"
                )
        own = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in own})

    def to_dict(self) -> dict[str, Any]:
        """A `config.json` of the public format."""
        return {"_class_name": "UNet2DConditionModel", "act_fn": "silu", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class MotionConfig:
    """What the temporal modules are; saved as `motion/config.json`."""

    num_frames: int = 16  # clip length in training; longer videos are possible, with a warning in the pipeline
    fps: float = 8.0  # frame rate assumed when the caller gives none
    fps_range: tuple[float, float] | None = None  # lowest and highest rate in training
    num_attention_heads: int | None = None  # of temporal attention; None: as many as the level's spatial attention
    attention_in_all_levels: bool = (
        False  # temporal attention also after the resnets of levels without spatial attention
    )
    shared_noise: float = 0.0  # correlation of the noise of frames in training, see `t2v.diffusion.noise.NoisePrior`
    sampling_shared_noise: float | None = None  # the same in sampling, unless told otherwise; None: as in training
    noise_prior: str = "mixed"  # one of NOISE_PRIORS: which frames that is the correlation of
    temporal_conv: bool = True  # a convolution over frames after every spatial one
    temporal_attention: bool = True  # attention over frames after the spatial one
    fps_conditioning: bool = True  # the network is told the frame rate

    def __post_init__(self) -> None:
        if not (isinstance(self.num_frames, int) and self.num_frames > 0):
            raise InputError(f"motion config: num_frames must be a positive integer, got {self.num_frames!r}")
        if not ((heads := self.num_attention_heads) is None or is_count("heads", heads)):
            raise InputError(f"motion config: num_attention_heads must be null or a positive integer, got {heads!r}")
        if not (isinstance(self.fps, int | float) and self.fps > 0):
            raise InputError(f"motion config: fps must be a positive number, got {self.fps!r}")
        if self.fps_range is not None:
            object.__setattr__(self, "fps_range", _rates(self.fps_range))  # JSON has lists
        shares = {"shared_noise": self.shared_noise, "sampling_shared_noise": self.noise_of_samples}
        for name, value in shares.items():
            if not (isinstance(value, int | float) and 0 <= value < 1):
                raise InputError(f"motion config: {name} must be from 0 to below 1, got {value!r}")
        if self.noise_prior not in NOISE_PRIORS:
            known = ", ".join(NOISE_PRIORS)
            raise InputError(f"motion config: noise_prior must be one of {known}, got {self.noise_prior!r}")
        if not (self.temporal_conv or self.temporal_attention):
            raise InputError("motion config: temporal_conv and temporal_attention are both off; keep one of them")

    @property
    def max_num_frames(self) -> int:
        """Frames at once beyond which a person is warned."""
        return self.num_frames

    @property
    def noise_of_samples(self) -> float:
        """The correlation of noise to sample with."""
        return self.shared_noise if self.sampling_shared_noise is None else self.sampling_shared_noise

    @property
    def structure(self) -> tuple[int | None, bool, bool, bool, bool]:
        """The fields that decide which temporal modules there are."""
        layers = self.temporal_conv, self.temporal_attention, self.fps_conditioning
        return self.num_attention_heads, self.attention_in_all_levels, *layers

    @property
    def layers(self) -> str:
        """The kinds of temporal layers, for people."""
        kinds = {"convolution": self.temporal_conv, "attention": self.temporal_attention}
        return " and ".join(kind for kind, present in kinds.items() if present)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "MotionConfig":
        """Read a `motion/config.json`; other fields than the network's own are ignored."""
        if not isinstance(config, dict):
            raise InputError(f"motion config: it is {config!r}, expected keys and values: give weights made by t2v")
        if (kind := config.get("_class_name")) != "Motion":
            raise InputError(f"motion config: _class_name is {kind!r}, expected 'Motion': give weights made by t2v")
        own = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in own})

    def to_dict(self) -> dict[str, Any]:
        """The content of `motion/config.json`."""
        return {"_class_name": "Motion", **dataclasses.asdict(self)}


def _rates(value: object) -> tuple[float, float]:
    """A lowest and a highest frame rate; InputError for anything else."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(rate, int | float) for rate in value):
        low, high = value
        if 0 < low <= high:
            return float(low), float(high)
    raise InputError(f"motion config: fps_range must be the lowest and the highest frame rate, got {value!r}")
