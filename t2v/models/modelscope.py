"""Text-to-video U-Nets of ModelScope (arXiv 2308.06571): text-to-video-ms-1.7b, zeroscope and their fine-tunes.

They are diffusers' UNet3DConditionModel: the spatial layers of Stable Diffusion 2, a block of convolutions over frames
after each resnet, a transformer over frames after each spatial one, and one more after the first convolution. Norms in
the temporal layers take all frames together, frames have no positions, and a single frame goes through all of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.base import check_state_dict
from t2v.models.motion_module import MotionModule
from t2v.models.unet import VideoUNet
from t2v.models.unet_blocks import Level
from t2v.models.unet_config import VIDEO_UNET, MotionConfig, VideoUNetConfig
from t2v.nn.temporal_conv import TemporalConvBlock

NUM_HEADS_IN = 8  # of the first transformer over frames, whatever its width
BLOCKS = {
    "CrossAttnDownBlock3D": "CrossAttnDownBlock2D",
    "DownBlock3D": "DownBlock2D",
    "CrossAttnUpBlock3D": "CrossAttnUpBlock2D",
    "UpBlock3D": "UpBlock2D",
    "UNetMidBlock3DCrossAttn": "UNetMidBlock2DCrossAttn",
}
# Defaults of the format where they are not those of the image U-Net; linear projections cannot be chosen.
DEFAULTS: dict[str, Any] = {
    "down_block_types": (*("CrossAttnDownBlock3D",) * 3, "DownBlock3D"),
    "mid_block_type": "UNetMidBlock3DCrossAttn",
    "up_block_types": ("UpBlock3D", *("CrossAttnUpBlock3D",) * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 1024,
    "attention_head_dim": 64,
}
# Our names of the temporal parameters, and those of the format.
LEVEL = r"((?:down_blocks|up_blocks)\.\d+|mid_block)"
NAMES = (
    (re.compile(r"temporal_transformer_in\.(.+)"), r"transformer_in.\1"),
    (re.compile(rf"{LEVEL}\.temporal_attentions\.(.+)"), r"\1.temp_attentions.\2"),
)
CONV = re.compile(rf"{LEVEL}\.temporal_convs\.(\d+)\.(norms|convs)\.(\d)\.(weight|bias)")


@dataclass(frozen=True)
class ModelScopeConfig(MotionConfig):
    """The temporal layers of a ModelScope U-Net.

    The files do not say how many frames they were trained on: ModelScope's own 16, zeroscope's 24.
    """

    head_dim: int = 64

    @property
    def layers(self) -> str:
        """The kind of temporal layers, for people."""
        return "convolution and attention of ModelScope"

    @property
    def max_num_frames(self) -> int:
        """Frames of the longest clips that such networks were trained on."""
        return 24


def is_modelscope(config: Mapping[str, Any]) -> bool:
    """Whether a `unet/config.json` is of a ModelScope U-Net."""
    return config.get("_class_name") == VIDEO_UNET


def refuse_motion(name: str, motion: Path | None) -> None:
    """Raise InputError if there is motion for a model of this kind."""
    if motion is not None:
        raise InputError(f"{name} is a video model with temporal layers of its own: use it without {motion}")


def read_modelscope_config(config: Mapping[str, Any]) -> tuple[VideoUNetConfig, ModelScopeConfig]:
    """The spatial and the temporal part of a `unet/config.json`; InputError names what is not supported."""
    values = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
    values["mid_block_type"] = _image_block(values["mid_block_type"], "mid_block_type")
    for name in ("down_block_types", "up_block_types"):
        values[name] = [_image_block(block, name) for block in values[name]]
    head_dim = values["attention_head_dim"]
    if isinstance(head_dim, bool) or not isinstance(head_dim, int) or head_dim < 1:
        raise InputError(f"U-Net config: attention_head_dim must be one positive integer, got {head_dim!r}")
    if any(width % head_dim for width in values["block_out_channels"]):
        widths = list(values["block_out_channels"])
        raise InputError(f"U-Net config: attention_head_dim {head_dim} does not divide block_out_channels {widths}")
    values["attention_head_dim"] = [width // head_dim for width in values["block_out_channels"]]
    image = {**values, "_class_name": "UNet2DConditionModel", "use_linear_projection": True, "upcast_attention": False}
    return VideoUNetConfig.from_dict(image), ModelScopeConfig(head_dim=head_dim)


def _image_block(name: Any, field: str) -> str:
    if name not in BLOCKS:
        raise InputError(f"U-Net config: {field} has {name!r}, supported for a {VIDEO_UNET} are {', '.join(BLOCKS)}")
    return BLOCKS[name]


def load_modelscope(
    config: Mapping[str, Any], state_dict: Mapping[str, torch.Tensor], what: str, dtype: torch.dtype = torch.float32
) -> VideoUNet:
    """A video U-Net from a `unet/config.json` and its weights, which messages call `what`.

    Raises:
        InputError: a setting that is not supported, or weights that do not fit: the first mismatch is named.
    """
    spatial, temporal = read_modelscope_config(config)
    with torch.device("meta"):
        unet = VideoUNet(spatial)
        add_modelscope_layers(unet, temporal)
    own = unet.state_dict()
    public = {name: public_name(name) for name in own}
    check_state_dict({public[name]: _as_public(name, tensor) for name, tensor in own.items()}, state_dict, what)
    weights = {
        name: state_dict[public[name]].to(dtype, copy=True).reshape(tensor.shape) for name, tensor in own.items()
    }
    unet.load_state_dict(weights, assign=True)
    return unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def add_modelscope_layers(unet: VideoUNet, config: ModelScopeConfig) -> None:
    """Add the temporal layers to an image U-Net, in place, with meaningless values."""
    channels, groups = unet.config.block_out_channels[0], unet.config.norm_num_groups
    inner = NUM_HEADS_IN * config.head_dim
    unet.temporal_transformer_in = MotionModule(
        channels, NUM_HEADS_IN, 1, groups, inner_channels=inner, has_positions=False
    )
    for level in (module for module in unet.modules() if isinstance(module, Level)):
        level.skips_single_frame = False
        level.temporal_convs.extend(TemporalConvBlock(level.channels, groups) for _ in level.resnets)
        level.temporal_attentions.extend(
            MotionModule(level.channels, level.num_heads, 1, groups, has_positions=False) for _ in level.attentions
        )
    unet.motion = config


def public_name(name: str) -> str:
    """The name that the format has for a parameter of ours."""
    if match := CONV.fullmatch(name):
        level, index, kind, layer, value = match.groups()
        place = 0 if kind == "norms" else 2 if layer == "0" else 3  # norm, SiLU, dropout but in the first, convolution
        return f"{level}.temp_convs.{index}.conv{int(layer) + 1}.{place}.{value}"
    for own, public in NAMES:
        if match := own.fullmatch(name):
            return match.expand(public)
    return name


def is_temporal_name(name: str) -> bool:
    """Whether a tensor of the format belongs to the temporal layers."""
    return name.startswith("transformer_in.") or ".temp_convs." in name or ".temp_attentions." in name


def _as_public(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of ours as the format has it: convolutions over frames have a third axis."""
    match = CONV.fullmatch(name)
    return tensor.unsqueeze(-1) if match and match[3] == "convs" and match[5] == "weight" else tensor
