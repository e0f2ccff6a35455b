"""The ops and the whole U-Net at the sizes of a network, by each backend: what `t2v bench` measures."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from t2v.evaluation.timing import Roofline, Timing, time_functions
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.ops import functional, reference, use_backend

NUM_GROUPS = 32


@dataclass(frozen=True)
class LevelShape:
    """Feature maps of size x size pixels in a level of a U-Net."""

    size: int
    channels: int
    heads: int


SD15_LEVELS = (LevelShape(64, 320, 8), LevelShape(32, 640, 8), LevelShape(16, 1280, 8), LevelShape(8, 1280, 8))
MINI_LEVELS = (LevelShape(16, 96, 4), LevelShape(8, 128, 4), LevelShape(4, 192, 4))
SD15_UNET: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8}
MINI_UNET: dict[str, Any] = {
    "block_out_channels": (96, 128, 192),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
    "cross_attention_dim": 192,
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": 4,
}


@dataclass(frozen=True)
class Case:
    """Functions of the same inputs to compare; the first is what the others are compared with."""

    name: str
    inputs: tuple[torch.Tensor, ...]
    functions: Mapping[str, Callable[..., Any]]
    num_bytes: int  # that the forward pass reads and writes at least
    flops: int  # of its matrix products
    modes: tuple[str, ...] = ("forward", "backward", "both")


@dataclass(frozen=True)
class Measurement:
    """One function of one case in one mode: the forward pass, the backward pass, or both."""

    case: str
    mode: str
    function: str
    timing: Timing
    speedup: float  # over the case's first function
    bytes_per_s: float
    flops_per_s: float
    of_roofline: float  # the floor's share of the time


def by_backend(op: Callable[..., Any], backends: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
    """The op as each backend runs it."""

    def call(backend: str, *args: torch.Tensor) -> Any:
        with use_backend(backend):
            return op(*args)

    return {backend: partial(call, backend) for backend in backends}


def op_cases(
    levels: tuple[LevelShape, ...],
    batch: int,
    num_frames: int,
    dtype: torch.dtype,
    device: torch.device,
    backends: tuple[str, ...],
) -> Iterator[Case]:
    """By level: attention over frames, convolution over frames alone and before a norm, group norm with SiLU."""
    for level in levels:
        yield from _level_cases(level, batch, num_frames, dtype, device, backends)


def _level_cases(
    level: LevelShape, batch: int, num_frames: int, dtype: torch.dtype, device: torch.device, backends: tuple[str, ...]
) -> Iterator[Case]:
    c, pixels = level.channels, level.size**2
    generator = torch.Generator(device).manual_seed(0)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)

    def images() -> torch.Tensor:
        return randn(batch * num_frames, level.size, level.size, c).permute(0, 3, 1, 2)

    size = batch * num_frames * pixels * c  # elements of one activation
    x = size * dtype.itemsize
    label = f"{level.size}x{level.size}x{c}_f{num_frames}"
    heads = [randn(batch, num_frames, pixels, level.heads, c // level.heads) for _ in range(3)]
    yield Case(
        f"temporal_attention_{label}",
        tuple(heads),
        {"reference": reference.temporal_attention, **by_backend(functional.temporal_attention, backends)},
        4 * x,
        4 * size * num_frames,
    )
    weight, bias, shift = randn(c, c, 3, 1) / c, randn(c), randn(batch, c)
    yield Case(
        f"temporal_conv_{label}",
        (images(), weight, bias),
        {
            "reference": lambda x, weight, bias: reference.temporal_conv(x, weight, bias, num_frames),
            **by_backend(lambda x, weight, bias: functional.temporal_conv(x, weight, bias, num_frames), backends),
        },
        2 * x,
        6 * size * c,
    )

    def chain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        hidden, statistics = functional.temporal_conv_with_statistics(x, weight, bias, num_frames, shift)
        return functional.group_norm_silu(hidden, NUM_GROUPS, bias, bias, 1e-5, statistics)

    yield Case(
        f"temporal_conv_shift_norm_{label}",
        (images(), weight, bias, shift),
        by_backend(chain, backends),
        4 * x,
        6 * size * c,
    )
    yield Case(
        f"group_norm_silu_{label}",
        (images(), bias, shift[0]),
        {
            "reference": lambda x, weight, bias: reference.group_norm_silu(x, NUM_GROUPS, weight, bias, 1e-5),
            **by_backend(
                lambda x, weight, bias: functional.group_norm_silu(x, NUM_GROUPS, weight, bias, 1e-5), backends
            ),
        },
        3 * x,
        0,
    )


def network_case(
    name: str, config: VideoUNetConfig, num_frames: int, size: int, batch: int, dtype: torch.dtype, device: torch.device
) -> Case:
    """The U-Net on a video against its image U-Net on the same frames, random weights, forward alone."""
    with torch.device(device):
        torch.manual_seed(0)
        image = VideoUNet(config).to(dtype).eval()
        video = VideoUNet(config, MotionConfig()).to(dtype).eval()
        x = torch.randn(batch, config.in_channels, num_frames, size, size).to(dtype)
        text = torch.randn(batch, 77, config.cross_attention_dim).to(dtype)
    timesteps, fps = torch.full((batch,), 500, device=device), torch.full((batch,), 8.0, device=device).to(dtype)
    functions = {
        "image U-Net": lambda x, text, timesteps, _fps: image(x, timesteps, text),
        "video U-Net": lambda x, text, timesteps, fps: video(x, timesteps, text, fps),
    }
    return Case(f"{name}_f{num_frames}", (x, text, timesteps, fps), functions, 0, 0, modes=("forward",))


def measure(case: Case, rounds: int, device: torch.device, roofline: Roofline) -> Iterator[Measurement]:
    """Time every function of a case in every mode."""
    # backward: the inputs, the output's gradient, and the inputs' gradients; twice the products
    scales = {"forward": 1, "backward": 2, "both": 3}
    for mode in case.modes:
        functions = {name: _call(function, case.inputs, mode) for name, function in case.functions.items()}
        timings = time_functions(functions, rounds, device)
        first = next(iter(timings.values())).median
        for name, timing in timings.items():
            num_bytes, flops = case.num_bytes * scales[mode], case.flops * scales[mode]
            yield Measurement(
                case.name, mode, name, timing, first / timing.median, num_bytes / timing.median,
                flops / timing.median, roofline.floor(num_bytes, flops) / timing.median,
            )  # fmt: skip


def _call(function: Callable[..., Any], inputs: tuple[torch.Tensor, ...], mode: str) -> Callable[[], object]:
    if mode == "forward":

        def forward() -> object:
            with torch.no_grad():
                return function(*inputs)

        return forward

    leaves = [x.detach().requires_grad_() for x in inputs]
    kept: dict[str, torch.Tensor] = {}  # the output, for a backward pass alone, and its gradient

    def differentiate() -> object:
        out = kept["out"] if "out" in kept else function(*leaves)
        if mode == "backward":
            kept["out"] = out
        if "grad" not in kept:
            kept["grad"] = torch.randn_like(out)
        return torch.autograd.grad(out, leaves, kept["grad"], retain_graph=mode == "backward")

    return differentiate
