"""One copy of the latents at entry, one at exit, views between: counted in bytes with the profiler."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.ops.functional import CPU_PORTION

CONFIG = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
    "attention_head_dim": 4,
}
SHAPE = (2, 4, 8, 16, 16)  # B, C, F, H, W
LATENT_BYTES = math.prod(SHAPE) * 4


def copied_bytes(function: Callable[..., Any], *args: Any) -> list[int]:
    """Bytes of every `aten::copy_`, at any depth, that `function` makes on the CPU (clone and contiguous end in one).

    Left out are a linear layer's bias, which `addmm` spreads over its fresh output before it multiplies (the copy is
    its own child, whereas one of its operands would be the child of a clone), and the portions (heads, F, D) that
    attention over frames writes from the cache to their place.
    """
    with torch.no_grad():
        function(*args)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            function(*args)
    copies = [event for event in profiler.events() if event.name == "aten::copy_"]
    parents = [event.cpu_parent.name if event.cpu_parent else "" for event in copies]
    assert "aten::clone" in parents, "the profiler no longer tells what a copy is part of"
    return [
        math.prod(event.input_shapes[0]) * 4
        for event, parent in zip(copies, parents, strict=True)
        if parent != "aten::addmm" and not (parent == "" and is_attention_portion(event.input_shapes[0]))
    ]


def is_attention_portion(shape: list[int]) -> bool:
    return len(shape) == 3 and shape[0] <= CPU_PORTION and shape[1] == SHAPE[2]


def video_unet(**changes: Any) -> VideoUNet:
    torch.manual_seed(0)
    return VideoUNet(
        VideoUNetConfig.from_dict({**CONFIG, **changes}), MotionConfig(attention_in_all_levels=True)
    ).eval()


def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(SHAPE), torch.tensor([3, 741]), torch.randn(2, 7, 24), torch.tensor([8.0, 24.0])


def check(copies: list[int]) -> None:
    large = [size for size in copies if size >= LATENT_BYTES / 4]
    assert large == [LATENT_BYTES, LATENT_BYTES]
    assert sum(copies) < 2.5 * LATENT_BYTES


@pytest.mark.parametrize("linear", [False, True])
def test_unet_copies_the_latents_at_entry_and_exit_alone(linear: bool) -> None:
    check(copied_bytes(video_unet(use_linear_projection=linear), *inputs()))


@pytest.mark.parametrize("memory_format", [torch.channels_last_3d, torch.contiguous_format])
def test_unet_copies_no_weights_after_a_round_trip(memory_format: torch.memory_format) -> None:
    unet = video_unet()
    unet.load_state_dict({name: tensor.contiguous() for name, tensor in unet.state_dict().items()})
    x, *rest = inputs()
    copies = copied_bytes(unet, x.contiguous(memory_format=memory_format), *rest)
    assert sum(copies) < 2.5 * LATENT_BYTES


def test_text_is_not_repeated_for_each_frame() -> None:
    unet = video_unet()
    shapes = []
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            module.register_forward_hook(lambda _module, _args, out: shapes.append(out.shape))
    with torch.no_grad():
        unet(*inputs())
    assert shapes
    assert {shape[:2] for shape in shapes} == {(2, 7)}


@pytest.mark.parametrize(
    "place", ["mid_block.temporal_attentions.0.to_q", "up_blocks.0.resnets.0.conv1", "conv_norm_out"]
)
def test_the_count_sees_a_permuting_copy(place: str) -> None:
    unet = video_unet()
    unet.get_submodule(place).register_forward_pre_hook(
        lambda _module, args: (args[0].transpose(0, 1).contiguous().transpose(0, 1),)
    )
    with pytest.raises(AssertionError):
        check(copied_bytes(unet, *inputs()))
