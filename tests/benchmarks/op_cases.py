"""What `tests.benchmarks.ops` measures: the ops, the temporal modules and whole networks, beside their peers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import diffusers
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from einops import rearrange
from torch import nn

from t2v.evaluation import op_speed
from t2v.evaluation.op_speed import Case, LevelShape
from t2v.models.inflate import temporal_parameters
from t2v.models.unet import VideoUNet, VideoUNetConfig
from t2v.nn.temporal_attention import TemporalAttention
from t2v.nn.temporal_conv import TemporalConv
from t2v.ops.backend import triton_runs_on

BATCH = 2  # videos: classifier-free guidance
NORM_GROUPS = 32
HAS_MAKE_A_VIDEO = find_spec("make_a_video_pytorch") is not None
TINY_UNET = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "layers_per_block": 1,
    "attention_head_dim": 2,
}


@dataclass(frozen=True)
class Sizes:
    """What is measured of a kind of network: the levels, the lengths of the videos, the whole network if any."""

    levels: tuple[LevelShape, ...]
    num_frames: tuple[int, ...]  # the first one with all modules and the network
    network: Mapping[str, Any] | None


SIZES = {
    "sd15": Sizes(op_speed.SD15_LEVELS, (16, 76, 8, 32), op_speed.SD15_UNET),
    "mini": Sizes(op_speed.MINI_LEVELS, (16,), None),
    "tiny": Sizes((LevelShape(4, 32, 2), LevelShape(2, 64, 2)), (4, 6), TINY_UNET),
}


@dataclass(frozen=True)
class Portion:
    """Cases that are made one after the other, and how long each may take."""

    cases: Callable[[], Iterator[Case]]
    seconds: float = 60.0


def portions(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> list[Portion]:
    """The most telling first: the main length and the whole network, then longer and shorter videos."""
    found = []
    for num_frames in sizes.num_frames:
        main = num_frames == sizes.num_frames[0]
        for level in sizes.levels:
            found.append(Portion(partial(op_cases, level, num_frames, dtype, device)))
            if main or level == sizes.levels[0]:
                found.append(Portion(partial(module_cases, level, num_frames, dtype, device)))
        if main and sizes.network is not None:
            for make in (network_case, training_case):
                found.append(Portion(partial(make, sizes, num_frames, dtype, device), seconds=150.0))
    return found


def op_cases(level: LevelShape, num_frames: int, dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """The ops by each backend; attention over frames and the convolution with how the peers do it."""
    backends = ("torch", "triton") if triton_runs_on(device) and device.type == "cuda" else ("torch",)
    for case in op_speed.op_cases((level,), BATCH, num_frames, dtype, device, backends):
        if case.name.startswith("temporal_attention"):
            yield replace(case, functions={"permuted copies and SDPA": permuted_attention, **case.functions})
        elif case.name.startswith("temporal_conv_") and "norm" not in case.name:
            yield replace(case, functions={**case.functions, "permuted copies and conv1d": partial(conv1d, num_frames)})
        else:
            yield case


def permuted_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """How diffusers' temporal transformers attend: copies to (B*N, F, C), fused attention, a copy back."""
    b, f, n, heads, d = query.shape
    q, k, v = (
        x.permute(0, 2, 1, 3, 4).reshape(b * n, f, heads * d).view(b * n, f, heads, d).transpose(1, 2)
        for x in (query, key, value)
    )
    limit = 65535  # of the fused CUDA kernels, per batch
    portions = zip(*(x.split(limit) for x in (q, k, v)), strict=True)
    out = torch.cat([nn.functional.scaled_dot_product_attention(*portion) for portion in portions])
    out = out.transpose(1, 2).reshape(b, n, f, heads * d)
    return out.transpose(1, 2).contiguous()


def conv1d(num_frames: int, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """How make-a-video-pytorch convolves over frames: a copy to (B*H*W, C, F), conv1d, and a view back."""
    b, (h, w) = len(images) // num_frames, images.shape[2:]
    x = rearrange(images, "(b f) c h w -> (b h w) c f", b=b)
    out = nn.functional.conv1d(x, weight.squeeze(-1), bias, padding=1)
    return rearrange(out, "(b h w) c f -> (b f) c h w", b=b, h=h, w=w)


def module_cases(level: LevelShape, num_frames: int, dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Whole temporal modules, each what a network of its kind pays at this place.

    diffusers' transformers have a feed-forward layer and a second attention too, its convolution layer four
    convolutions. Modules of make-a-video-pytorch get their layout (B, C, F, H, W) as a view, without a copy, and their
    position bias made beforehand.
    """
    c, size = level.channels, level.size
    with torch.device(device):
        modules = {**_attention_modules(level, num_frames), **_conv_modules(c)}
    for module in modules.values():
        module.to(dtype).eval().requires_grad_(False)
    x = torch.randn(BATCH * num_frames, size, size, c, dtype=dtype, device=device).permute(0, 3, 1, 2)
    calls: dict[str, Callable[..., torch.Tensor]] = {
        "diffusers TransformerTemporalModel": lambda module, x: module(x, num_frames=num_frames).sample,
        "diffusers AnimateDiffTransformer3D": lambda module, x: module(x, num_frames=num_frames),
        "diffusers TemporalConvLayer": lambda module, x: module(x, num_frames=num_frames),
        "make-a-video-pytorch attention": lambda module, x: _make_a_video_attention(module, x, num_frames),
        "make-a-video-pytorch convolution": lambda module, x: _images(module(_video(x, num_frames))),
    }
    for kind in ("attention", "conv"):
        functions = {
            name: partial(calls.get(name, lambda module, x: module(x, num_frames)), module)
            for name, module in modules.items()
            if kind in name.lower() or (kind == "attention" and "Transformer" in name)
        }
        yield Case(f"{kind}_module_{size}x{size}x{c}_f{num_frames}", (x,), functions, 0, 0)


def _attention_modules(level: LevelShape, num_frames: int) -> dict[str, nn.Module]:
    c, heads = level.channels, level.heads
    head_dim, norm = c // heads, {"norm_num_groups": NORM_GROUPS}
    positions = {"positional_embeddings": "sinusoidal", "num_positional_embeddings": max(32, num_frames)}
    modules: dict[str, nn.Module] = {
        "diffusers TransformerTemporalModel": TransformerTemporalModel(heads, head_dim, c, **norm),
        "diffusers AnimateDiffTransformer3D": AnimateDiffTransformer3D(heads, head_dim, c, **norm, **positions),
        "t2v TemporalAttention": TemporalAttention(c, heads),
    }
    if HAS_MAKE_A_VIDEO:
        from make_a_video_pytorch.make_a_video import SpatioTemporalAttention

        peer = SpatioTemporalAttention(c, dim_head=head_dim, heads=heads, add_feed_forward=False)
        with torch.no_grad():
            peer.register_buffer("bias", peer.temporal_rel_pos_bias(num_frames))
        modules["make-a-video-pytorch attention"] = peer
    return modules


def _conv_modules(channels: int) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {
        "diffusers TemporalConvLayer": TemporalConvLayer(channels, channels),
        "t2v TemporalConv": TemporalConv(channels),
    }
    if HAS_MAKE_A_VIDEO:
        from make_a_video_pytorch.make_a_video import PseudoConv3d

        modules["make-a-video-pytorch convolution"] = peer = PseudoConv3d(channels)
        peer.spatial_conv = nn.Identity()  # ours stands apart from the spatial one
    return modules


def _make_a_video_attention(module: Any, x: torch.Tensor, num_frames: int) -> torch.Tensor:
    """The time half of its SpatioTemporalAttention."""
    b, (h, w) = len(x) // num_frames, x.shape[2:]
    tokens = rearrange(_video(x, num_frames), "b c f h w -> (b h w) f c")
    tokens = module.temporal_attn(tokens, rel_pos_bias=module.bias) + tokens
    return _images(rearrange(tokens, "(b h w) f c -> b c f h w", b=b, h=h, w=w))


def _video(images: torch.Tensor, num_frames: int) -> torch.Tensor:
    return rearrange(images, "(b f) c h w -> b c f h w", f=num_frames)


def _images(video: torch.Tensor) -> torch.Tensor:
    return video.transpose(1, 2).flatten(0, 1)


def network_case(sizes: Sizes, num_frames: int, dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """A forward pass of the inflated network against its image network, with diffusers' two video networks."""
    own, peers = _networks(sizes, num_frames, dtype, device)
    texts = own.inputs[1].repeat_interleave(num_frames, 0)
    functions: dict[str, Callable[..., Any]] = {
        **own.functions,
        "diffusers UNetMotionModel": lambda x, _text, t, _fps: peers[0](x, t, texts).sample,
        "diffusers UNet3DConditionModel": lambda x, text, t, _fps: peers[1](x, t, text).sample,
    }
    yield replace(own, functions=functions)


def training_case(sizes: Sizes, num_frames: int, dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Forward and backward pass of one video of half the size, with checkpoints: the gradients of all parameters of the
    image network, of the temporal ones of the others.
    """
    assert sizes.network is not None
    config = VideoUNetConfig.from_dict(dict(sizes.network))
    size = max(sizes.levels[0].size // 2, 4)
    with torch.device(device):
        image, video = VideoUNet(config), VideoUNet(config, op_speed.MotionConfig())
        peer = _motion_model(sizes.network)
    image.gradient_checkpointing = video.gradient_checkpointing = True
    peer.enable_gradient_checkpointing()
    peer.freeze_unet2d_params()
    trained = {
        "image U-Net": (image, list(image.parameters())),
        "video U-Net": (video.requires_grad_(False), list(temporal_parameters(video).values())),
        "diffusers UNetMotionModel": (peer, [parameter for parameter in peer.parameters() if parameter.requires_grad]),
    }
    x = torch.randn(1, 4, num_frames, size, size, dtype=dtype, device=device)
    text = torch.randn(1, 77, config.cross_attention_dim, dtype=dtype, device=device)
    texts = {"diffusers UNetMotionModel": text.repeat_interleave(num_frames, 0)}
    time = torch.full((1,), 500, device=device)

    def step(name: str) -> object:
        network, parameters = trained[name]
        with torch.enable_grad():
            out = network(x, time, texts.get(name, text))
            out = out if isinstance(out, torch.Tensor) else out.sample
            return torch.autograd.grad(out.float().square().mean(), parameters, allow_unused=True)

    for network, parameters in trained.values():
        network.to(dtype).train()
        for parameter in parameters:
            parameter.requires_grad_(True)
    functions = {name: partial(step, name) for name in trained}
    yield Case(f"unet_training_f{num_frames}", (), functions, 0, 0, modes=("forward",))


def _networks(
    sizes: Sizes, num_frames: int, dtype: torch.dtype, device: torch.device
) -> tuple[Case, tuple[nn.Module, nn.Module]]:
    """Our networks and inputs; diffusers' UNetMotionModel and UNet3DConditionModel of the same widths and levels."""
    assert sizes.network is not None
    config = VideoUNetConfig.from_dict(dict(sizes.network))
    own = op_speed.network_case("unet", config, num_frames, sizes.levels[0].size, BATCH, dtype, device)
    if triton_runs_on(device) and device.type == "cuda":
        by_kernels = op_speed.by_backend(own.functions["video U-Net"], ("triton",))["triton"]
        own = replace(own, functions={**own.functions, "video U-Net by the kernels": by_kernels})
    kinds, motion = _peer_config(sizes.network)
    with torch.device(device):
        joint_kinds = {name: tuple(kind.replace("2D", "3D") for kind in value) for name, value in kinds.items()}
        heads = {"attention_head_dim": min(64, config.block_out_channels[0])}
        joint = diffusers.UNet3DConditionModel(**motion, **joint_kinds, **heads)
        networks = _motion_model(sizes.network), joint
    for network in networks:
        network.to(dtype).eval().requires_grad_(False)
    return own, networks


def _motion_model(network: Mapping[str, Any]) -> Any:
    kinds, config = _peer_config(network)
    heads = network["attention_head_dim"]
    return diffusers.UNetMotionModel(
        **config,
        **{name: tuple(kind.replace("2D", "Motion") for kind in value) for name, value in kinds.items()},
        num_attention_heads=heads,
        motion_num_attention_heads=heads,
        motion_max_seq_length=128,
    )


def _peer_config(network: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The kinds of blocks, and the rest that diffusers' video networks take."""
    kinds = {name: value for name, value in network.items() if name.endswith("_types")}
    return kinds, {name: value for name, value in network.items() if name not in {*kinds, "attention_head_dim"}}
