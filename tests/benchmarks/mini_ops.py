"""What the ops are worth to `mini`: a denoising step by them, by the plain ops, and by the image U-Net on the frames.

A step is one call on two videos of 16 frames (guidance); a video of 25 steps is 25 of these and a second for the rest.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

import t2v
from t2v.models.unet import VideoUNet
from t2v.nn import norm, temporal_attention, temporal_conv
from t2v.ops import add_to_frames, reference
from tests.benchmarks.registry import Case, benchmark

NUM_FRAMES, SIZE = 16, 16


@benchmark
def mini_ops() -> list[Case]:
    """In float32 and in bfloat16, which is the default where the processor multiplies it."""
    return [_case(dtype) for dtype in ("fp32", "bf16")]


def _case(dtype: str) -> Case:
    pipe = t2v.load("mini", device="cpu", dtype=dtype)
    config = pipe.unet.config
    image = VideoUNet(config).to(pipe.dtype).eval()
    x = torch.randn(2, config.in_channels, NUM_FRAMES, SIZE, SIZE, dtype=pipe.dtype)
    text = torch.randn(2, 32, config.cross_attention_dim, dtype=pipe.dtype)

    def call(network: VideoUNet) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return network(x, 500, text)

        return run

    def plain() -> object:
        with plain_ops():
            return call(pipe.unet)()

    functions = {"image U-Net": call(image), "t2v": call(pipe.unet), "plain ops": plain}
    baselines = {"image U-Net": "image U-Net", "t2v": "image U-Net", "plain ops": "t2v"}
    return Case(f"mini_step_{dtype}", functions, baselines)


def plain_ops() -> ExitStack:
    """The networks by `t2v.ops.reference`, with the copies that its layouts take."""

    def kept(op: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *args: op(*args).contiguous(memory_format=torch.channels_last)

    def conv(x: torch.Tensor, weight: Any, bias: Any, num_frames: int, residual: torch.Tensor | None) -> torch.Tensor:
        out = kept(reference.temporal_conv)(x, weight, bias, num_frames)
        return out if residual is None else out + residual

    def conv_with_statistics(
        x: torch.Tensor, weight: Any, bias: Any, num_frames: int, shift: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        return add_to_frames(conv(x, weight, bias, num_frames, None), shift, num_frames), None

    stack = ExitStack()
    for module, name, op in (
        (temporal_conv, "temporal_conv", conv),
        (temporal_conv, "temporal_conv_with_statistics", conv_with_statistics),
        (temporal_attention, "temporal_attention", reference.temporal_attention),
        (norm, "group_norm", kept(reference.group_norm)),
        (norm, "group_norm_silu", lambda *args: kept(reference.group_norm_silu)(*args[:5])),
    ):
        stack.enter_context(mock.patch.object(module, name, op))
    return stack
