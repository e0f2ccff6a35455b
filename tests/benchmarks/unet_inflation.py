"""What motion costs: one call over 16 frames against the image U-Net on the same 16 frames, float32.

The diffusers networks are measured in the same rounds, against diffusers' own image U-Net: UNetMotionModel
(AnimateDiff) and UNet3DConditionModel (ModelScope), with the same widths, levels and layers.
"""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import nn

from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from tests.benchmarks.registry import Case, benchmark

NUM_FRAMES = 16
HEADS = 8


@benchmark
def unet_inflation() -> list[Case]:
    """Stable Diffusion at 0.3 of its width; and the shape of the embedded model, which needs no peer."""
    narrow = {
        "block_out_channels": (96, 192, 384, 384),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": 768,
    }
    mini = {
        "block_out_channels": (96, 128, 192),
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
        "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        "cross_attention_dim": 192,
        "layers_per_block": 1,
    }
    return [
        _case("sd_narrow_32x32", narrow, MotionConfig(), size=32, peers=True),
        _case("mini_16x16", mini, MotionConfig(attention_in_all_levels=True), size=16, peers=False),
    ]


def _case(name: str, config: dict[str, Any], motion: MotionConfig, size: int, peers: bool) -> Case:
    torch.manual_seed(0)
    own = VideoUNetConfig.from_dict({**config, "attention_head_dim": HEADS})
    video = torch.randn(1, 4, NUM_FRAMES, size, size)
    text = torch.randn(1, 77, own.cross_attention_dim)
    functions = {
        "t2v image": _call(VideoUNet(own), video, text),
        "t2v video": _call(VideoUNet(own, motion), video, text),
    }
    baselines = dict.fromkeys(functions, "t2v image")
    if peers:
        images, texts = video[0].transpose(0, 1).contiguous(), text.expand(NUM_FRAMES, -1, -1)
        image = diffusers.UNet2DConditionModel(**config, attention_head_dim=HEADS)
        motion_config = {key: value for key, value in config.items() if not key.endswith("_types")}
        adapter = diffusers.UNetMotionModel(
            **motion_config,
            down_block_types=tuple(kind.replace("2D", "Motion") for kind in config["down_block_types"]),
            up_block_types=tuple(kind.replace("2D", "Motion") for kind in config["up_block_types"]),
            num_attention_heads=HEADS,
            motion_num_attention_heads=HEADS,
        )
        joint = diffusers.UNet3DConditionModel(
            **motion_config,
            down_block_types=tuple(kind.replace("2D", "3D") for kind in config["down_block_types"]),
            up_block_types=tuple(kind.replace("2D", "3D") for kind in config["up_block_types"]),
            attention_head_dim=config["block_out_channels"][0] // 6,  # ModelScope has 5 heads at the outer level
        )
        functions |= {
            "diffusers UNet2DConditionModel": _call(image, images, texts),
            "diffusers UNetMotionModel": _call(adapter, video, texts),
            "diffusers UNet3DConditionModel": _call(joint, video, text),
        }
        baselines |= {key: "diffusers UNet2DConditionModel" for key in functions if key.startswith("diffusers")}
    return Case(name, functions, baselines)


def _call(network: nn.Module, x: torch.Tensor, text: torch.Tensor) -> Callable[[], object]:
    network.eval()

    def call() -> object:
        with torch.inference_mode():
            return network(x, 500, text)

    return call
